//! Control groups of version 2: one for each step that has limits, inside of that of this process.
//!
//! Only where the group of this process was delegated to its user, and nothing but this process is in it: a group that
//! belongs to systemd is never touched, and neither is a process that is not ours. Linux lets a group have either
//! processes or limited groups inside, so this process moves to a group of its own first.
//!
//! A group in use is locked (flock(2)); one without a lock was left behind by a build that was killed, and goes.

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno as E;
use serde::{Deserialize, Serialize};

use crate::container::{Limits, Swap};
use crate::error::Errno;
use crate::wire;

/// What the names of our groups begin with.
const PREFIX: &str = "coracle-";
/// Microseconds over which processor time is counted.
const PERIOD: u64 = 100_000;
/// How often a group that has just become empty is tried to be removed, a millisecond apart.
const PATIENCE: u32 = 1000;

/// A kind of limit that a control group can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
        }
    }

    /// Those that `limits` are for.
    fn wanted(limits: &Limits) -> Vec<Self> {
        let all = [
            (Controller::Memory, limits.memory.is_some()),
            (Controller::Cpu, limits.cpus.is_some()),
            (Controller::Pids, limits.pids.is_some()),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(controller, _)| controller).collect()
    }
}

/// Why no control group keeps a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NoGroup {
    /// Control groups of version 2 are not mounted, or the group of this process is not in sight.
    #[error("no control group of version 2 is in sight")]
    NotInSight,
    /// There is no such group in sight.
    #[error("there is no control group {path:?} in sight")]
    Missing {
        /// Its name, as /proc/PID/cgroup would write it.
        #[serde(with = "wire::raw")]
        path: PathBuf,
    },
    /// The group of this process belongs to somebody else.
    #[error("the control group {path:?} belongs to somebody else")]
    NotOurs {
        /// Its folder.
        #[serde(with = "wire::raw")]
        path: PathBuf,
    },
    /// There are processes in it that are not ours to move.
    #[error("the control group {path:?} has other processes in it")]
    Shared {
        /// Its folder.
        #[serde(with = "wire::raw")]
        path: PathBuf,
    },
    /// A kind of limit is not handed down to it.
    #[error("the control group {path:?} has no {controllers}")]
    NoController {
        /// Its folder.
        #[serde(with = "wire::raw")]
        path: PathBuf,
        /// The kinds that are missing: "cpu, pids".
        controllers: String,
    },
    /// A call failed.
    #[error("{call}: {source}")]
    Call {
        /// The call with its arguments.
        call: String,
        /// Why it failed.
        source: Errno,
    },
}

impl NoGroup {
    /// Returns how to get a group, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NoGroup::NotOurs { .. } | NoGroup::Shared { .. } if Path::new("/run/systemd/system").is_dir() => {
                Some("`systemd-run --user --scope -p Delegate=yes coracle ...` gives it a group of its own")
            }
            _ => None,
        }
    }
}

/// A control group for one step. It is removed with this value, and so is each process in it.
#[derive(Debug)]
pub(crate) struct Group {
    held: Held,
    keeps: Vec<Controller>,
    swap: bool,
}

impl Group {
    /// Returns a new group that keeps what it can of `limits`; and why it does not keep the rest, if it does not.
    pub(crate) fn new(limits: &Limits) -> (Option<Self>, Option<NoGroup>) {
        static BASE: OnceLock<Result<Base, NoGroup>> = OnceLock::new();
        let wanted = Controller::wanted(limits);
        let base = BASE.get_or_init(|| {
            let Some(parent) = &limits.parent else {
                return Base::new(&own_group().ok_or(NoGroup::NotInSight)?, &wanted);
            };
            let path = group_at(parent)?;
            // The step is to be in there, whatever that keeps.
            let without = |reason| Base::new(&path, &[]).map(|base| Base { reason: Some(reason), ..base });
            Base::new(&path, &wanted).or_else(without)
        });
        let base = match base {
            Ok(base) => base,
            Err(reason) => return (None, Some(reason.clone())),
        };
        match base.group(limits) {
            Ok((group, reason)) => (Some(group), reason),
            Err(reason) => (None, Some(reason)),
        }
    }

    /// Returns its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.held.path
    }

    /// Returns what it keeps.
    pub(crate) fn keeps(&self) -> &[Controller] {
        &self.keeps
    }

    /// Returns whether it keeps the limit of swap.
    pub(crate) fn keeps_swap(&self) -> bool {
        self.swap
    }

    /// Returns whether a process in it was killed because the memory limit was reached.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.held.path.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|kills| kills.trim() != "0")
    }
}

/// Moves this process into the group at `path`.
pub(crate) fn join(path: &Path) -> Result<(), Errno> {
    write(path, "cgroup.procs", "0")
}

/// The group in which those of the steps are made.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    /// What it hands down.
    keeps: Vec<Controller>,
    reason: Option<NoGroup>,
    /// Where this process went to make room. It stays there until it ends, and the group too: until systemd, or the next
    /// build, removes it.
    _leaf: Option<Held>,
}

impl Base {
    /// Makes the group at `path` ready to hold groups with limits of the kinds `wanted`.
    fn new(path: &Path, wanted: &[Controller]) -> Result<Self, NoGroup> {
        let control = path.join("cgroup.subtree_control");
        if let Err(errno) = rustix::fs::open(&control, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            return Err(match errno {
                E::NOENT => NoGroup::NotInSight,
                _ => NoGroup::NotOurs { path: path.into() },
            });
        }
        let words = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(path.join(name)).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        let (available, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        let is_in = |list: &[String], controller: &Controller| list.iter().any(|name| name == controller.name());
        let (mut keeps, missing): (Vec<_>, Vec<_>) =
            wanted.iter().copied().partition(|controller| is_in(&available, controller));
        let names = |list: &[Controller]| list.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let mut reason =
            (!missing.is_empty()).then(|| NoGroup::NoController { path: path.into(), controllers: names(&missing) });
        if keeps.is_empty() && !wanted.is_empty() {
            return Err(reason.unwrap_or(NoGroup::NotInSight));
        }
        clean(path);
        let mut leaf = None;
        for controller in keeps.clone() {
            if is_in(&enabled, &controller) {
                continue;
            }
            let word = format!("+{}", controller.name());
            let mut enabled = write(path, "cgroup.subtree_control", &word);
            if matches!(&enabled, Err(errno) if errno.is(E::BUSY)) && leaf.is_none() {
                leaf = Some(make_room(path)?);
                enabled = write(path, "cgroup.subtree_control", &word);
            }
            if let Err(source) = enabled {
                keeps.retain(|one| *one != controller);
                reason = Some(NoGroup::Call { call: format!("write({control:?}, {word:?})"), source });
            }
        }
        Ok(Base { path: path.into(), keeps, reason, _leaf: leaf })
    }

    /// Returns a new group with `limits`.
    fn group(&self, limits: &Limits) -> Result<(Group, Option<NoGroup>), NoGroup> {
        let held = Held::new(&self.path, "step")?;
        let mut group = Group { held, keeps: self.keeps.clone(), swap: false };
        let mut reason = self.reason.clone();
        group.swap = set_limits(&group.held.path, limits, &mut group.keeps, &mut reason);
        Ok((group, reason))
    }
}

/// Writes `limits` to the group at `path`; what can not be written goes from `keeps`. Returns whether swap space is
/// limited too.
fn set_limits(path: &Path, limits: &Limits, keeps: &mut Vec<Controller>, reason: &mut Option<NoGroup>) -> bool {
    let failed = |name: &str, value: &str, source| {
        Some(NoGroup::Call { call: format!("write({:?}, {value:?})", path.join(name)), source })
    };
    keeps.retain(|controller| {
        let setting = match controller {
            Controller::Memory => limits.memory.map(|bytes| ("memory.max", bytes.to_string())),
            Controller::Cpu => limits
                .cpus
                .map(|thousandths| ("cpu.max", format!("{} {PERIOD}", u64::from(thousandths) * PERIOD / 1000))),
            Controller::Pids => limits.pids.map(|count| ("pids.max", count.to_string())),
        };
        let Some((name, value)) = setting else { return true };
        write(path, name, &value).map_err(|source| *reason = failed(name, &value, source)).is_ok()
    });
    let Some(memory) = limits.memory.filter(|_| keeps.contains(&Controller::Memory)) else { return false };
    let value = match limits.swap {
        Some(Swap::Unlimited) => "max".into(),
        Some(Swap::Bytes(bytes)) => bytes.to_string(),
        None => memory.to_string(),
    };
    // Kernels that do not count swap space have no such file; that matters only to who has asked.
    let written = write(path, "memory.swap.max", &value);
    if let (Err(source), Some(_)) = (&written, limits.swap) {
        *reason = failed("memory.swap.max", &value, *source);
    }
    written.is_ok()
}

/// Moves this process out of the group at `path` into one inside of it, if nobody else is there.
fn make_room(path: &Path) -> Result<Held, NoGroup> {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    if processes.split_whitespace().any(|process| process != own) {
        return Err(NoGroup::Shared { path: path.into() });
    }
    let held = Held::new(path, "build")?;
    join(&held.path).map_err(|source| NoGroup::Call {
        call: format!("write({:?}, \"0\")", held.path.join("cgroup.procs")),
        source,
    })?;
    Ok(held)
}

/// A group of ours, locked as long as this value lives and removed with it.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Held {
    fn new(base: &Path, what: &str) -> Result<Self, NoGroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut last = (String::new(), E::EXIST);
        // A name may be taken by a process with the same number in another pid namespace; and what was just made may be
        // taken for a left-over, in the moment before it is locked.
        for _ in 0..100 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("{PREFIX}{what}-{}-{number}", std::process::id()));
            let failed = match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
                Ok(()) => match lock(&path) {
                    Ok(lock) => return Ok(Held { path, _lock: lock }),
                    Err(errno) => errno,
                },
                Err(E::EXIST) => E::EXIST,
                Err(errno) => {
                    return Err(NoGroup::Call { call: format!("mkdir({path:?})"), source: errno.into() });
                }
            };
            last = (format!("mkdir({path:?})"), failed);
        }
        Err(NoGroup::Call { call: last.0, source: last.1.into() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = remove(&self.path, PATIENCE);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        kill(&self.held.path);
    }
}

/// Locks the group at `path`, which must still be there then.
fn lock(path: &Path) -> Result<OwnedFd, E> {
    let dir = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    rustix::fs::stat(path)?;
    Ok(dir)
}

/// Removes the groups of builds that were killed.
fn clean(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && let Ok(_lock) = lock(&entry.path()) {
            kill(&entry.path());
            let _ = remove(&entry.path(), 20);
        }
    }
}

/// Kills what is in the group at `path`.
fn kill(path: &Path) {
    // Kernels before 5.14 have no such file. There, what is in it ends with its pid namespace.
    let _ = write(path, "cgroup.kill", "1");
}

/// Removes the group at `path`, from which the kernel may still be taking processes that have ended.
fn remove(path: &Path, patience: u32) -> Result<(), E> {
    let mut tries = 0;
    loop {
        match rustix::fs::rmdir(path) {
            Err(E::BUSY) if tries < patience => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(()) | Err(E::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

fn write(dir: &Path, name: &str, value: &str) -> Result<(), Errno> {
    let mut file = fs::OpenOptions::new().write(true).open(dir.join(name))?;
    Ok(file.write_all(value.as_bytes())?)
}

/// Returns the folder of the group that /proc/PID/cgroup writes as `name`.
fn group_at(name: &Path) -> Result<PathBuf, NoGroup> {
    let missing = || NoGroup::Missing { path: name.to_path_buf() };
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|_| missing())?;
    let groups = format!("0::/{}", name.to_str().ok_or_else(missing)?.trim_start_matches('/'));
    find_group(&groups, &mounts).filter(|path| path.join("cgroup.procs").exists()).ok_or_else(missing)
}

/// Returns the folder of the group of this process.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    find_group(&groups, &mounts).filter(|path| path.join("cgroup.procs").exists())
}

/// Finds the group that /proc/PID/cgroup names, below a mount of /proc/PID/mountinfo.
fn find_group(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = own.strip_prefix(&root).ok()?;
        // A group outside of what this namespace shows.
        let outside = below.components().any(|part| part.as_os_str() == "..");
        (!outside).then(|| Path::new(&point).join(below)).map(|path| path.components().collect())
    })
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

#[cfg(test)]
mod tests;
