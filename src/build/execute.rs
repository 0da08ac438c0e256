//! All stages of a build, several at the same time, each step by step; beside them what is packed, written down and sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::clerk::{Clerk, Desk};
use super::pack::{PackQueue, Packer};
use super::ship::{self, LayerOf, Line};
use super::work::{Progress, StageState, Work};
use super::{BuildError, Squash};

/// Runs all stages, several at the same time, and packs the layers of the targets as they come.
pub(super) fn execute<'b>(work: &Work<'b>) -> Result<Vec<Progress>, BuildError> {
    let making = &work.options.making;
    let in_target = super::journal::stages_of_target(work.plan);
    let (packer, sender, receiver) =
        Packer::new(work.store, (making.compression, making.times), &work.options.cache.from, work.control);
    let (clerk, desk, notes) = Clerk::new(work);
    // Of layers that become one, none goes out.
    let goes_out = |at: usize| making.squash == Squash::No && in_target.contains(&at);
    let jobs = work.options.jobs.max(1);
    let slots = Slots { free: Mutex::new(jobs), bell: Condvar::new() };
    let (next, first_failure) = (AtomicUsize::new(0), Mutex::new(None));
    let stages = work.plan.stages.len();
    // Stages are taken in the order of the plan, in which each comes after those it needs: the first one that is not done never
    // waits. More workers than jobs, because a stage that waits for another holds its worker.
    let worker = |queue: PackQueue, desk: Desk<'b>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= stages {
                break;
            }
            if work.done(at).is_some() {
                work.tell_spared(at);
                continue;
            }
            // Whatever happens to this stage, nobody waits for it for ever.
            let _end = FailUnlessDone { work, at };
            match run_stage(work, at, &slots, (goes_out(at).then_some(&queue), &desk)) {
                Ok(progress) => work.finish_stage(at, StageState::Done(progress)),
                Err(error) => {
                    let anew = work.has_to_begin_anew(&error);
                    // That another stage failed, or that this one was stopped for it, is not the news.
                    let mut first = first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                    let news = !matches!(error, BuildError::StageFailed { .. } | BuildError::Interrupted);
                    if news && first.is_none() && !work.control.cancelled() {
                        *first = Some(error);
                    }
                    drop(first);
                    if anew {
                        work.begins_anew.store(true, Ordering::Relaxed);
                    }
                    // Then what runs may end: its results count.
                    if !work.begins_anew.load(Ordering::Relaxed) {
                        work.control.kill();
                    }
                }
            }
        }
    };
    let (quay, line) = Line::new();
    if work.ship.is_some() && making.squash != Squash::All {
        ship::of_bases(work, &in_target).into_iter().for_each(|packed| drop(quay.send((LayerOf::Base, packed))));
    }
    std::thread::scope(|scope| {
        if let Some(ship) = work.ship {
            for _ in 0..ship::LINES {
                // Without such a thread they go out in the end.
                let _ = std::thread::Builder::new().spawn_scoped(scope, || line.work(work, ship));
            }
        }
        let spawn = |queue, desk| std::thread::Builder::new().spawn_scoped(scope, || worker(queue, desk));
        let packing = std::thread::Builder::new().spawn_scoped(scope, || {
            let quay = quay;
            packer.work(receiver, &|packed| drop(quay.send((LayerOf::Step, packed))));
            line.end();
        });
        let writing = std::thread::Builder::new().spawn_scoped(scope, || clerk.work(notes));
        // This thread works too, so that a build goes on where no more threads are to be had.
        let more = stages.min(jobs * 4).saturating_sub(1);
        for _ in 0..more {
            if spawn(sender.clone(), desk.clone()).is_err() {
                break;
            }
        }
        worker(sender, desk);
        drop((packing, writing));
    });
    if let Some(error) = first_failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if work.control.cancelled() {
        return Err(BuildError::Interrupted);
    }
    packer.result()?;
    clerk.result()?;
    work.all_done().ok_or(BuildError::Interrupted)
}

/// Marks a stage as failed when its worker leaves it, unless it is done.
struct FailUnlessDone<'a, 'b> {
    work: &'a Work<'b>,
    at: usize,
}

impl Drop for FailUnlessDone<'_, '_> {
    fn drop(&mut self) {
        if self.work.is_running(self.at) {
            self.work.finish_stage(self.at, StageState::Failed);
        }
    }
}

fn run_stage<'b>(
    work: &Work<'b>,
    at: usize,
    slots: &Slots,
    (queue, desk): (Option<&PackQueue>, &Desk<'b>),
) -> Result<Progress, BuildError> {
    let plan = &work.plan.stages[at];
    let mut progress = work.base(&plan.base)?;
    // Where layers cannot be stacked: the files of this stage, removed with its end.
    let mut tree = None;
    for step in &plan.steps {
        work.ready(step)?;
        let _slot = slots.take();
        let (chain, created) = work.step(step, &progress.chain, &mut tree, desk)?;
        if let (Some(queue), Some(_), Some(top)) = (queue, created, chain.links().last())
            && let Some(layer) = work.store.layer(&work.on_disk.realm, &top.id)?
        {
            // The packer is gone only when all is over.
            let _ = queue.send(layer);
        }
        progress.chain = chain;
        progress.created.push(created);
    }
    Ok(progress)
}

/// So many steps may run at the same time.
struct Slots {
    free: Mutex<usize>,
    bell: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn take(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.bell.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.bell.notify_one();
    }
}
