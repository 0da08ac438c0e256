//! Stages whose results lie in a cache elsewhere, and whose files no step of this build reads: their layers stay there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::plan::{Base, CopyFrom, Op};
use crate::progress::Event;
use crate::store::LayerId;

use super::assemble::is_promised;
use super::mounts;
use super::work::{Progress, StageState, Work};

/// Layers that are brought at the same time.
const PARALLEL: usize = 4;

impl Work<'_> {
    /// Brings the layers that the steps which will be run stand on or read, and leaves those of all other stages where they are: such a
    /// stage is done. `unfinished` are the stages with a step that is in no cache: its number, and what is below it.
    ///
    /// Returns whether all could be had; a layer that could not is a miss from now on, so all is to be looked up again.
    pub(super) fn spare(&self, unfinished: &BTreeMap<usize, (usize, Progress)>) -> bool {
        if self.remote.is_none() {
            self.forget_stages();
            return true;
        }
        // A target whose last step is known is needed for the image alone; where its layers stay, that needs none of them.
        let stays = |at: &usize| {
            let done = self.done(*at).filter(|_| !unfinished.contains_key(at));
            done.is_some_and(|progress| self.built_layers(&progress).iter().all(|id| self.is_here_or_promised(id)))
        };
        let mut needed: BTreeSet<usize> = self.plan.targets().filter(|at| !stays(at)).collect();
        for (&at, (step, _)) in unfinished {
            needed.insert(at);
            needed.extend(self.read_from(at, *step));
        }
        // A stage stands on all layers of the one below it.
        let mut todo: Vec<usize> = needed.iter().copied().collect();
        while let Some(at) = todo.pop() {
            if let Base::Stage(below) = self.plan.stages[at].base
                && needed.insert(below)
            {
                todo.push(below);
            }
        }
        let mut layers = BTreeSet::new();
        for &at in &needed {
            let progress = unfinished.get(&at).map(|(_, progress)| progress.clone()).or_else(|| self.done(at));
            layers.extend(progress.iter().flat_map(|progress| self.built_layers(progress)));
        }
        let brought = self.bring_all(&layers.into_iter().collect::<Vec<_>>());
        for at in needed {
            self.finish_stage(at, StageState::Running);
        }
        brought
    }

    /// Says of the steps of a stage that is done already that they are in the cache.
    pub(super) fn tell_spared(&self, stage: usize) {
        for step in self.plan.stages[stage].steps.iter().filter(|step| step.op != Op::Config) {
            self.sink.emit(Event::Cached { step: step.id });
        }
    }

    /// The stages from which the steps of a stage read, from the step `first` on.
    fn read_from(&self, stage: usize, first: usize) -> BTreeSet<usize> {
        let mut stages = BTreeSet::new();
        for step in &self.plan.stages[stage].steps[first..] {
            match &step.op {
                Op::Copy(copy) => {
                    if let CopyFrom::Stage(from) = copy.from {
                        stages.insert(from);
                    }
                }
                Op::Run(run) => stages.extend(mounts::stages(run)),
                _ => {}
            }
        }
        stages
    }

    /// The layers that are of no image.
    fn built_layers(&self, progress: &Progress) -> Vec<LayerId> {
        progress.chain.links().iter().filter(|link| link.origin.is_none()).map(|link| link.id).collect()
    }

    /// Returns whether the files of all layers are here now, those from elsewhere brought, but for those that may stay there.
    pub(super) fn bring_layers(&self, progress: &Progress) -> bool {
        let mut layers = self.built_layers(progress);
        layers.retain(|id| !is_promised(self, id));
        self.bring_all(&layers)
    }

    /// Brings all layers that are not here, where that can be.
    pub(super) fn bring_whole(&self, progress: &Progress) {
        self.bring_all(&self.built_layers(progress));
    }

    fn is_here_or_promised(&self, layer: &LayerId) -> bool {
        self.has_files(layer) || is_promised(self, layer)
    }

    fn bring_all(&self, layers: &[LayerId]) -> bool {
        let missing: Vec<&LayerId> = layers.iter().filter(|layer| !self.has_files(layer)).collect();
        let Some(remote) = self.remote.filter(|_| !missing.is_empty()) else { return missing.is_empty() };
        let (threads, left, all) = (PARALLEL.min(missing.len()), Mutex::new(missing.into_iter()), Mutex::new(true));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    while let Some(layer) = next() {
                        if !remote.bring_blob(layer) {
                            *all.lock().unwrap_or_else(PoisonError::into_inner) = false;
                        }
                    }
                });
            }
        });
        all.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
