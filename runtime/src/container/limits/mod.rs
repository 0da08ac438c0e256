//! What a step may use: limits of memory, processors and processes for the whole of it, and resource limits (ulimits)
//! for each of its processes.
//!
//! A control group of version 2 keeps the former, where one was delegated to the user. Elsewhere the nearest thing that
//! the kernel has does (a [`Makeshift`]), and the report of the step says so: no limit is dropped without a word.

mod apply;

use std::fmt;
use std::path::PathBuf;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

use crate::cgroup::NoGroup;

pub(super) use apply::{Keep, Means};

/// The least memory that a step can be limited to, in bytes: with less, not even a shell starts.
pub const LEAST_MEMORY: u64 = 6 << 20;
/// The least share of a processor, in thousandths.
pub const LEAST_CPUS: u32 = 10;
/// The size of /dev/shm where nothing is said, in bytes.
pub const DEFAULT_SHM: u64 = 64 << 20;

/// Limits of a step. The default limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, at least [`LEAST_MEMORY`].
    pub memory: Option<u64>,
    /// Swap space besides the memory; without it as much as memory. Counts only with `memory`.
    pub swap: Option<Swap>,
    /// Processors, in thousandths of one, at least [`LEAST_CPUS`].
    pub cpus: Option<u32>,
    /// Processes and threads, at least 1.
    pub pids: Option<u32>,
    /// Limits of each process. Of one kind the last counts.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of the tmpfs on /dev/shm; without it [`DEFAULT_SHM`].
    pub shm: Option<u64>,
    /// The control group in which that of the step is made, as /proc/PID/cgroup writes it; without it that of this process.
    pub parent: Option<PathBuf>,
}

/// Swap space of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swap {
    /// All that there is.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// A limit of each process, as in getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What is limited.
    pub kind: UlimitKind,
    /// What counts, at most `hard`. `None` is no limit.
    pub soft: Option<u64>,
    /// What a process can raise it to. `None` is no limit.
    pub hard: Option<u64>,
}

/// What a [`Ulimit`] limits. The names are those of docker, the units those of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UlimitKind {
    /// Bytes of a core file.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data, stack excluded.
    Data,
    /// Bytes of a file that is written.
    Fsize,
    /// Locks of files, which Linux does not count.
    Locks,
    /// Bytes locked in memory.
    Memlock,
    /// Bytes in POSIX message queues.
    Msgqueue,
    /// The best nice value, as 20 minus it.
    Nice,
    /// Open files.
    Nofile,
    /// Processes and threads of the user.
    Nproc,
    /// Bytes in memory, which Linux does not count.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Microseconds under real-time scheduling without a system call that blocks.
    Rttime,
    /// Queued signals of the user.
    Sigpending,
    /// Bytes of the stack.
    Stack,
}

impl UlimitKind {
    /// All of them, by name.
    pub const ALL: [UlimitKind; 15] = {
        use UlimitKind::*;
        [Core, Cpu, Data, Fsize, Locks, Memlock, Msgqueue, Nice, Nofile, Nproc, Rss, Rtprio, Rttime, Sigpending, Stack]
    };

    /// Returns its name: "nofile".
    pub fn name(self) -> &'static str {
        match self {
            UlimitKind::Core => "core",
            UlimitKind::Cpu => "cpu",
            UlimitKind::Data => "data",
            UlimitKind::Fsize => "fsize",
            UlimitKind::Locks => "locks",
            UlimitKind::Memlock => "memlock",
            UlimitKind::Msgqueue => "msgqueue",
            UlimitKind::Nice => "nice",
            UlimitKind::Nofile => "nofile",
            UlimitKind::Nproc => "nproc",
            UlimitKind::Rss => "rss",
            UlimitKind::Rtprio => "rtprio",
            UlimitKind::Rttime => "rttime",
            UlimitKind::Sigpending => "sigpending",
            UlimitKind::Stack => "stack",
        }
    }

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn resource(self) -> Resource {
        match self {
            UlimitKind::Core => Resource::Core,
            UlimitKind::Cpu => Resource::Cpu,
            UlimitKind::Data => Resource::Data,
            UlimitKind::Fsize => Resource::Fsize,
            UlimitKind::Locks => Resource::Locks,
            UlimitKind::Memlock => Resource::Memlock,
            UlimitKind::Msgqueue => Resource::Msgqueue,
            UlimitKind::Nice => Resource::Nice,
            UlimitKind::Nofile => Resource::Nofile,
            UlimitKind::Nproc => Resource::Nproc,
            UlimitKind::Rss => Resource::Rss,
            UlimitKind::Rtprio => Resource::Rtprio,
            UlimitKind::Rttime => Resource::Rttime,
            UlimitKind::Sigpending => Resource::Sigpending,
            UlimitKind::Stack => Resource::Stack,
        }
    }
}

/// What keeps a limit where no control group does, or that nothing does. Displays as a clause of a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Makeshift {
    /// The memory limit is the address space of each process (RLIMIT_AS).
    MemoryOfEachProcess,
    /// Swap space is not limited.
    NoSwapLimit,
    /// The processors are so many whole ones (sched_setaffinity(2)).
    WholeProcessors {
        /// How many.
        count: u32,
    },
    /// The processes are counted for each user id, with those of other steps of this build that run at the same time
    /// (RLIMIT_NPROC).
    ProcessesOfEachUser,
    /// Processes are not limited: the kernel does not count those of this user.
    NoProcessLimit,
    /// The step is not in the control group that was asked for.
    NotInParent,
    /// Locks of files are not limited: Linux does not count them.
    NoLocksLimit,
    /// /dev/shm is not of the size that was asked for: nothing can be mounted here.
    NoShmSize,
}

impl fmt::Display for Makeshift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Makeshift::MemoryOfEachProcess => {
                f.write_str("the memory limit counts the address space of each process, not the memory of the step")
            }
            Makeshift::NoSwapLimit => f.write_str("swap space is not limited"),
            Makeshift::NotInParent => f.write_str("the step is not in the control group that was asked for"),
            Makeshift::WholeProcessors { count: 1 } => f.write_str("the step stays on one processor"),
            Makeshift::WholeProcessors { count } => write!(f, "the step stays on {count} processors"),
            Makeshift::ProcessesOfEachUser => f.write_str(
                "the limit of processes counts those of each user, together with other steps that run at the same time",
            ),
            Makeshift::NoProcessLimit => f.write_str("the number of processes is not limited"),
            Makeshift::NoLocksLimit => f.write_str("locks of files are not limited: Linux does not count them"),
            Makeshift::NoShmSize => f.write_str("/dev/shm is not limited"),
        }
    }
}

/// How the limits of a step are kept. Empty where control groups keep all that they should.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What is kept in another way, or not at all.
    pub makeshifts: Vec<Makeshift>,
    /// Why no control group keeps those.
    pub reason: Option<NoGroup>,
}

impl Limits {
    /// Returns what is wrong with them, if something is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let over = |limit: &Ulimit| match (limit.soft, limit.hard) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(soft), Some(hard)) => soft > hard,
        };
        if self.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
            Some("less than 6 MiB of memory")
        } else if self.swap.is_some() && self.memory.is_none() {
            Some("a limit of swap without one of memory")
        } else if self.cpus.is_some_and(|cpus| cpus < LEAST_CPUS) {
            Some("less than a hundredth of a processor")
        } else if self.pids == Some(0) {
            Some("no process at all")
        } else if self.shm == Some(0) {
            Some("a /dev/shm of no size")
        } else if self.ulimits.iter().any(over) {
            Some("a soft limit over its hard one")
        } else {
            None
        }
    }

    /// Returns whether there is something that a control group should keep.
    pub(crate) fn want_group(&self) -> bool {
        self.memory.is_some() || self.cpus.is_some() || self.pids.is_some() || self.parent.is_some()
    }

    /// Returns the ulimits that are set. Not that of file locks: Linux does not count them, and the number marks processes of
    /// ours in some modes.
    fn set(&self) -> impl Iterator<Item = &Ulimit> {
        self.ulimits.iter().filter(|limit| limit.kind != UlimitKind::Locks)
    }

    /// Returns the size of /dev/shm in bytes.
    pub(super) fn shm_size(&self) -> u64 {
        self.shm.unwrap_or(DEFAULT_SHM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_name_that_it_is_found_by() {
        for kind in UlimitKind::ALL {
            assert_eq!(UlimitKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(UlimitKind::from_name("as"), None, "docker has no such name");
    }

    #[test]
    fn nonsense_is_told() {
        let limits = |limits: Limits| limits.problem();
        let ulimit =
            |soft, hard| Limits { ulimits: vec![Ulimit { kind: UlimitKind::Nofile, soft, hard }], ..Limits::default() };
        assert_eq!(limits(Limits::default()), None);
        assert!(limits(Limits { memory: Some(1), ..Limits::default() }).is_some());
        assert!(limits(Limits { swap: Some(Swap::Unlimited), ..Limits::default() }).is_some());
        assert!(limits(Limits { cpus: Some(9), ..Limits::default() }).is_some());
        assert!(limits(Limits { pids: Some(0), ..Limits::default() }).is_some());
        assert!(limits(ulimit(Some(2), Some(1))).is_some());
        assert!(limits(ulimit(None, Some(1))).is_some());
        assert_eq!(limits(ulimit(Some(1), None)), None);
        assert_eq!(limits(ulimit(None, None)), None);
    }
}
