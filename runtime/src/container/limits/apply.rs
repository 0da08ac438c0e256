//! The side of the command: it joins its control group, and sets its own resource limits before it becomes the command.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit, waitpid};
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use super::{Kept, Limits, Makeshift, Ulimit, UlimitKind};
use crate::cgroup::{Controller, NoGroup};
use crate::error::RuntimeError;
use crate::sys::{self, Forked};
use crate::{cgroup, wire};

/// What the caller has prepared for the limits of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::container) struct Means {
    /// The control group, and what it keeps.
    pub(in crate::container) group: Option<Group>,
    /// Why it keeps no more.
    pub(in crate::container) reason: Option<NoGroup>,
    /// Threads of the caller and processes around the command: RLIMIT_NPROC counts them too.
    pub(in crate::container) around: u32,
}

/// A control group that was made for the step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::container) struct Group {
    #[serde(with = "wire::raw")]
    path: PathBuf,
    keeps: Vec<Controller>,
    swap: bool,
}

impl Means {
    /// Returns the means for limits of which `group` keeps some, in a step that has `processes` of its own, the command included.
    pub(in crate::container) fn new(group: Option<&cgroup::Group>, reason: Option<NoGroup>, processes: u32) -> Self {
        let group = group.map(|group| Group {
            path: group.path().to_path_buf(),
            keeps: group.keeps().to_vec(),
            swap: group.keeps_swap(),
        });
        // They come on top of the threads of this program.
        let threads = crate::userns::threads().unwrap_or(1);
        Means { group, reason, around: u32::try_from(threads).unwrap_or(u32::MAX).saturating_add(processes) }
    }
}

/// The limits of this process, on the way to the command.
pub(in crate::container) struct Keep<'a> {
    limits: &'a Limits,
    around: u32,
    kept: Kept,
}

impl<'a> Keep<'a> {
    /// Joins the control group, and sets what concerns the whole step. To be called in the old root, where the files of
    /// the group are.
    pub(in crate::container) fn begin(limits: &'a Limits, means: &Means) -> Self {
        let mut kept = Kept { makeshifts: Vec::new(), reason: means.reason.clone() };
        let mut joined: &[Controller] = &[];
        let mut is_in_group = false;
        let mut swap = false;
        if let Some(group) = &means.group {
            match cgroup::join(&group.path) {
                Ok(()) => (joined, swap, is_in_group) = (&group.keeps, group.swap, true),
                Err(errno) => {
                    let call = format!("write({:?}, \"0\")", group.path.join("cgroup.procs"));
                    kept.reason = Some(NoGroup::Call { call, source: errno });
                }
            }
        }
        if limits.parent.is_some() && !is_in_group {
            kept.makeshifts.push(Makeshift::NotInParent);
        }
        if limits.ulimits.iter().any(|limit| limit.kind == UlimitKind::Locks) {
            kept.makeshifts.push(Makeshift::NoLocksLimit);
        }
        if limits.memory.is_some() {
            if !joined.contains(&Controller::Memory) {
                kept.makeshifts.push(Makeshift::MemoryOfEachProcess);
            }
            if limits.swap.is_some() && !(joined.contains(&Controller::Memory) && swap) {
                kept.makeshifts.push(Makeshift::NoSwapLimit);
            }
        }
        if let Some(cpus) = limits.cpus.filter(|_| !joined.contains(&Controller::Cpu)) {
            kept.makeshifts.push(Makeshift::WholeProcessors { count: stay_on(cpus.div_ceil(1000)) });
        }
        if limits.pids.is_some() && !joined.contains(&Controller::Pids) {
            // Whether this is true is found out once this process is who the command will be.
            kept.makeshifts.push(Makeshift::ProcessesOfEachUser);
        }
        Keep { limits, around: means.around, kept }
    }

    /// Raises hard limits, as far as this process may: while it has its privileges.
    pub(in crate::container) fn raise(&self) -> Result<(), RuntimeError> {
        for limit in self.limits.set() {
            let resource = limit.kind.resource();
            let now = getrlimit(resource);
            let is_over = match (limit.hard, now.maximum) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(asked), Some(maximum)) => asked > maximum,
            };
            if is_over {
                let raised = Rlimit { current: now.current, maximum: limit.hard };
                setrlimit(resource, raised).map_err(|errno| RuntimeError::Ulimit {
                    name: limit.kind.name().into(),
                    asked: limit.hard,
                    hard: now.maximum,
                    source: errno.into(),
                })?;
            }
        }
        Ok(())
    }

    /// Sets the limit of processes where no control group keeps it, and returns how all are kept. This process must be
    /// who the command will be.
    pub(in crate::container) fn finish(&mut self) -> Kept {
        let by_user = self.kept.makeshifts.iter().position(|makeshift| *makeshift == Makeshift::ProcessesOfEachUser);
        if let (Some(at), Some(pids)) = (by_user, self.limits.pids) {
            if processes_are_counted() {
                lower(Resource::Nproc, u64::from(pids) + u64::from(self.around));
            } else {
                self.kept.makeshifts[at] = Makeshift::NoProcessLimit;
            }
        }
        if self.kept.makeshifts.is_empty() {
            self.kept.reason = None;
        }
        self.kept.clone()
    }

    /// Sets the limits under which this process itself could fail: right before it becomes the command. All of them are
    /// allowed, after [`raise`](Self::raise). Returns whether the limit of open files is among them.
    pub(in crate::container) fn last(&self) -> bool {
        for &Ulimit { kind, soft, hard } in self.limits.set() {
            let _ = setrlimit(kind.resource(), Rlimit { current: soft, maximum: hard });
        }
        if let Some(memory) = self.limits.memory
            && self.kept.makeshifts.contains(&Makeshift::MemoryOfEachProcess)
        {
            lower(Resource::As, memory);
        }
        self.limits.ulimits.iter().any(|limit| limit.kind == UlimitKind::Nofile)
    }
}

/// Sets both limits to `most`, where they are not lower already.
fn lower(resource: Resource, most: u64) {
    let Rlimit { current, maximum } = getrlimit(resource);
    let least = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    // Lowering is always allowed.
    let _ = setrlimit(resource, Rlimit { current: least(current), maximum: least(maximum) });
}

/// Tries whether RLIMIT_NPROC means anything for the user that this process is: the kernel does not count for root of
/// the machine, which root of a container may be.
fn processes_are_counted() -> bool {
    let before = getrlimit(Resource::Nproc);
    if setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: before.maximum }).is_err() {
        return false;
    }
    let counted = match sys::fork() {
        Ok(Forked::Child) => sys::exit(0),
        Ok(Forked::Parent(child)) => {
            let _ = waitpid(Some(child), WaitOptions::empty());
            false
        }
        Err(errno) => errno.is(rustix::io::Errno::AGAIN),
    };
    let _ = setrlimit(Resource::Nproc, before);
    counted
}

/// Binds this process to `count` of the processors that it may use. Which ones depends on its number outside, so that
/// steps at the same time spread. Returns how many it has then.
fn stay_on(count: u32) -> u32 {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return count };
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
    let first = outside_number() % all.len().max(1);
    let mut chosen = CpuSet::new();
    all.iter().cycle().skip(first).take(count).for_each(|cpu| chosen.set(*cpu));
    let set = count < all.len() && rustix::thread::sched_setaffinity(None, &chosen).is_ok();
    u32::try_from(if set { count } else { all.len() }).unwrap_or(u32::MAX)
}

/// A number that differs between steps that run at the same time: the inode of the pid namespace.
fn outside_number() -> usize {
    let inode = rustix::fs::stat(Path::new("/proc/self/ns/pid")).map_or(0, |stat| stat.st_ino);
    usize::try_from(inode).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_does_not_count_is_told() {
        let ulimits = vec![Ulimit { kind: UlimitKind::Locks, soft: Some(5), hard: Some(5) }];
        let limits = Limits { ulimits, ..Limits::default() };
        let kept = Keep::begin(&limits, &Means::default()).finish();
        assert_eq!(kept, Kept { makeshifts: vec![Makeshift::NoLocksLimit], reason: None });
        assert_eq!(Keep::begin(&Limits::default(), &Means::default()).finish(), Kept::default());
    }
}
