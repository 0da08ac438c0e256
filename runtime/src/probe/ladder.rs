//! The ways to run a step, best first, each tried by doing what it begins with.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode as FileMode, OFlags, Uid, XattrFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde::{Deserialize, Serialize};

use super::{Answers, Question, ask, features, in_a_child, in_a_child_that_shows};
use crate::error::RuntimeError;
use crate::idmap::{IdMaps, MapKind};
use crate::lacking::Lacking;
use crate::userns::{Tools, TriedNamespace};
use crate::{owner, sys, userns};

/// A way to run a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// A user namespace with a full map: users and owners are real.
    FullMap,
    /// A user namespace with one id: all others are emulated.
    SingleId,
    /// chroot(2) by root, without namespaces: users and owners are real, and nothing else is kept apart.
    Chroot,
}

/// Which ways may be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best one that works.
    #[default]
    Any,
    /// A user namespace.
    UserNamespace,
    /// A user namespace with one id.
    OneId,
    /// The same first, because of what a full map has not got; else the best one that works.
    OneIdFirst {
        /// What that is.
        lacking: Lacking,
        /// Whether chroot(2) may be taken.
        or_chroot: bool,
    },
    /// chroot(2).
    Chroot,
    /// chroot(2) where it works, else the best one that does.
    ChrootFirst,
    /// None: no step is run.
    Nothing,
}

/// How steps are run.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// In a user namespace with these id maps.
    UserNamespace(IdMaps),
    /// By chroot(2), without namespaces.
    Chroot {
        /// Whether users, owners and devices are emulated, and with them /proc. Else they are real, and there is no /proc.
        emulated: bool,
    },
    /// Not at all, for this reason.
    None(RuntimeError),
}

/// What came of trying a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The rung.
    pub rung: Rung,
    /// The id maps, for a user namespace, where they are known.
    pub maps: Option<IdMaps>,
    /// Whether users, owners and devices are emulated in it.
    pub emulated: bool,
    /// Why it is not there; `None` where it is.
    pub refused: Option<RuntimeError>,
}

/// What was chosen, and what would have been better.
#[derive(Debug)]
pub struct Choice {
    /// How steps are run.
    pub mode: Mode,
    /// The user namespace in which that was tried, where it takes other programs to make one: to be entered instead of another.
    pub tried: Option<TriedNamespace>,
    /// The rungs that were tried, in that order; those behind the chosen one were not, but by [`climb`].
    pub attempts: Vec<Attempt>,
    wanted: Wanted,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Rung; 3] = [Rung::FullMap, Rung::SingleId, Rung::Chroot];

    /// Returns the stable name: "full-map", "single-id", "chroot".
    pub fn name(self) -> &'static str {
        match self {
            Rung::FullMap => "full-map",
            Rung::SingleId => "single-id",
            Rung::Chroot => "chroot",
        }
    }

    fn attempt(self, dir: &Path, tools: &Tools) -> (Attempt, Option<OwnedFd>) {
        let mut namespace = None;
        let (maps, result) = match self {
            Rung::FullMap => match IdMaps::discover() {
                Ok(maps) => {
                    let tried = in_a_child_that_shows(|| namespaces(&maps, tools).map(|()| own_namespace()));
                    let result = tried.map(|tried| namespace = tried);
                    (Some(maps), result)
                }
                Err(error) => (None, Err(error)),
            },
            Rung::SingleId => {
                let maps = IdMaps::single();
                let result = in_a_child(|| single(&maps, tools, dir));
                (Some(maps), result)
            }
            Rung::Chroot => (None, in_a_child(|| by_chroot(dir))),
        };
        let emulated = match self {
            Rung::FullMap => false,
            Rung::SingleId => true,
            Rung::Chroot => result.is_ok() && in_a_child(|| emulation(dir)).is_ok(),
        };
        (Attempt { rung: self, maps, emulated, refused: result.err() }, namespace)
    }
}

impl fmt::Display for Rung {
    /// Writes a few words for a person: "full id map".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rung::FullMap => "full id map",
            Rung::SingleId => "user namespace with one id",
            Rung::Chroot => "chroot by root",
        })
    }
}

impl Wanted {
    fn rungs(self) -> &'static [Rung] {
        match self {
            Wanted::Any => &Rung::ALL,
            Wanted::UserNamespace => &[Rung::FullMap, Rung::SingleId],
            Wanted::OneId => &[Rung::SingleId],
            Wanted::OneIdFirst { or_chroot: true, .. } => &[Rung::SingleId, Rung::FullMap, Rung::Chroot],
            Wanted::OneIdFirst { or_chroot: false, .. } => &[Rung::SingleId, Rung::FullMap],
            Wanted::Chroot => &[Rung::Chroot],
            Wanted::ChrootFirst => &[Rung::Chroot, Rung::FullMap, Rung::SingleId],
            Wanted::Nothing => &[],
        }
    }
}

impl fmt::Display for Mode {
    /// Writes a line for a person: "user namespace, one id, owners emulated".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::UserNamespace(maps) => maps.fmt(f),
            Mode::Chroot { emulated: true } => f.write_str("chroot, no namespaces, owners emulated"),
            Mode::Chroot { emulated: false } => f.write_str("chroot, no namespaces"),
            Mode::None(_) => f.write_str("none, no step can be run"),
        }
    }
}

impl Mode {
    /// Returns the stable name: that of the rung, or "none".
    pub fn name(&self) -> &'static str {
        match self {
            Mode::UserNamespace(maps) if maps.kind() == MapKind::Single => Rung::SingleId.name(),
            Mode::UserNamespace(_) => Rung::FullMap.name(),
            Mode::Chroot { .. } => Rung::Chroot.name(),
            Mode::None(_) => "none",
        }
    }
}

impl Choice {
    /// Returns which better rung is missing, and why: with that, what to change for it. `None` where there is no better one.
    pub fn obstacle(&self) -> Option<(Rung, &RuntimeError)> {
        let of = |rung| {
            let refused = self.attempts.iter().find(|attempt| attempt.rung == rung)?.refused.as_ref();
            refused.map(|error| (rung, error))
        };
        match &self.mode {
            Mode::UserNamespace(_) if self.wanted == Wanted::ChrootFirst => of(Rung::Chroot),
            Mode::UserNamespace(_) => of(Rung::FullMap),
            Mode::Chroot { .. } if matches!(self.wanted, Wanted::Chroot | Wanted::ChrootFirst) => None,
            // A namespace with one id takes the least.
            Mode::Chroot { .. } | Mode::None(_) => of(Rung::SingleId).or(of(Rung::FullMap)).or(of(Rung::Chroot)),
        }
    }

    fn new(wanted: Wanted, mut attempts: Vec<Attempt>, namespace: Option<OwnedFd>) -> Self {
        let works = |rung: &Rung| attempts.iter().find(|attempt| attempt.rung == *rung && attempt.refused.is_none());
        let taken = wanted.rungs().iter().find_map(works).cloned();
        let mode = match &taken {
            Some(Attempt { maps: Some(maps), .. }) => Mode::UserNamespace(maps.clone()),
            Some(Attempt { maps: None, emulated, .. }) => Mode::Chroot { emulated: *emulated },
            None => Mode::None(RuntimeError::NotWanted),
        };
        let tried = match &mode {
            Mode::UserNamespace(maps) if maps.kind() == MapKind::SubIds => namespace.map(TriedNamespace),
            _ => None,
        };
        if let (Wanted::OneIdFirst { lacking, .. }, Some(Attempt { rung: Rung::SingleId, .. })) = (wanted, taken) {
            let refused = Some(RuntimeError::Lacking(lacking));
            attempts.push(Attempt { rung: Rung::FullMap, maps: None, emulated: false, refused });
        }
        let mut choice = Choice { mode, tried, attempts, wanted };
        if let (Mode::None(_), Some((_, reason))) = (&choice.mode, choice.obstacle()) {
            choice.mode = Mode::None(reason.clone());
        }
        choice
    }
}

/// Tries what is wanted, best first, until something works. `dir` is a directory on the file system of the store. The process
/// enters nothing: all is tried by children.
pub fn choose(dir: &Path, wanted: Wanted) -> Choice {
    let (attempts, namespace) = attempts(dir, wanted.rungs(), Until::OneWorks);
    Choice::new(wanted, attempts, namespace)
}

/// As [`choose`] with [`Wanted::Any`], but tries every rung.
pub fn climb(dir: &Path) -> Choice {
    let (attempts, _) = attempts(dir, &Rung::ALL, Until::AllAreTried);
    Choice::new(Wanted::Any, attempts, None)
}

/// Returns the full map, tried; for what only needs that.
///
/// # Errors
/// Why there is none.
pub fn full_map(dir: &Path) -> Result<IdMaps, RuntimeError> {
    let tried = attempts(dir, &[Rung::FullMap], Until::OneWorks).0.pop();
    match tried {
        Some(Attempt { maps: Some(maps), refused: None, .. }) => Ok(maps),
        Some(Attempt { refused: Some(error), .. }) => Err(error),
        _ => Err(RuntimeError::NotWanted),
    }
}

/// When trying ends.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Until {
    OneWorks,
    AllAreTried,
}

fn attempts(dir: &Path, rungs: &[Rung], until: Until) -> (Vec<Attempt>, Option<OwnedFd>) {
    if rungs.is_empty() {
        return (Vec::new(), None);
    }
    let all_refused = |error: RuntimeError| {
        rungs.iter().map(|&rung| Attempt { rung, maps: None, emulated: false, refused: Some(error.clone()) }).collect()
    };
    match ask(dir, Question::Rungs(rungs.to_vec(), until)) {
        Ok((Answers::Rungs(attempts), namespace)) => (attempts, namespace),
        Ok((Answers::Features(_), _)) => {
            (all_refused(RuntimeError::call("recv(socket of coracle-probe)", rustix::io::Errno::PROTO)), None)
        }
        Err(error) => (all_refused(error), None),
    }
}

/// The answer of the process that tries; and the user namespace of the one that works, where it is worth to be kept.
pub(super) fn try_rungs(dir: &Path, tools: &Tools, rungs: &[Rung], until: Until) -> (Vec<Attempt>, Option<OwnedFd>) {
    let mut attempts = Vec::new();
    for rung in rungs {
        let (attempt, namespace) = rung.attempt(dir, tools);
        let works = attempt.refused.is_none();
        attempts.push(attempt);
        if works && until == Until::OneWorks {
            return (attempts, namespace);
        }
    }
    (attempts, None)
}

/// Returns the user namespace of this process; `None` where /proc does not show it.
fn own_namespace() -> Option<OwnedFd> {
    rustix::fs::open("/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty()).ok()
}

/// Enters what every step in a user namespace enters.
fn namespaces(maps: &IdMaps, tools: &Tools) -> Result<(), RuntimeError> {
    userns::enter_with(maps, tools)?;
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let made = sys::unshare(flags).map_err(|errno| {
        RuntimeError::call("unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)", errno)
    });
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let mount =
        || mount_change("/", private).map_err(|errno| RuntimeError::call("mount(\"/\", MS_REC | MS_PRIVATE)", errno));
    made.and_then(|()| mount()).map_err(RuntimeError::or_apparmor)
}

fn single(maps: &IdMaps, tools: &Tools, dir: &Path) -> Result<(), RuntimeError> {
    namespaces(maps, tools)?;
    emulation(dir)
}

/// Does what an emulator of users begins with.
pub(super) fn emulation(dir: &Path) -> Result<(), RuntimeError> {
    let call = |call: &'static str| move |errno| RuntimeError::call(call, errno);
    if let Some(file) = unnamed_file(dir) {
        rustix::fs::fsetxattr(&file, owner::XATTR, b"0:1", XattrFlags::empty())
            .map_err(call("setxattr(user.coracle.file)"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    features::listener()
}

fn by_chroot(dir: &Path) -> Result<(), RuntimeError> {
    let call = |call: &'static str| move |errno: rustix::io::Errno| RuntimeError::call(call, errno);
    let (uid, gid) = (Uid::from_raw(1), Gid::from_raw(1));
    let file = unnamed_file(dir);
    rustix::process::chroot("/").map_err(call("chroot(\"/\")"))?;
    if let Some(file) = file {
        rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(call("chown(1, 1)"))?;
    }
    rustix::thread::set_thread_groups(&[]).map_err(call("setgroups([])"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(call("setresgid(1, 1, 1)"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(call("setresuid(1, 1, 1)"))
}

/// Returns a file on the file system of `dir` that is gone when it is closed; `None` where none can be made, which says nothing
/// about the rung.
fn unnamed_file(dir: &Path) -> Option<std::os::fd::OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, dir, flags, FileMode::from_raw_mode(0o600)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    fn attempt(rung: Rung, refused: bool) -> Attempt {
        let maps = (rung != Rung::Chroot).then(IdMaps::single);
        Attempt {
            rung,
            maps,
            emulated: false,
            refused: refused.then(|| RuntimeError::call(rung.name(), Errno::from_raw(libc::EPERM))),
        }
    }

    fn chosen(wanted: Wanted, refused: [bool; 3]) -> (String, Option<Rung>) {
        let attempts = Rung::ALL.into_iter().zip(refused).map(|(rung, refused)| attempt(rung, refused)).collect();
        let choice = Choice::new(wanted, attempts, None);
        (choice.mode.to_string(), choice.obstacle().map(|(rung, _)| rung))
    }

    #[test]
    fn without_a_mode_there_is_a_reason() {
        let refused = vec![attempt(Rung::FullMap, true), attempt(Rung::SingleId, true), attempt(Rung::Chroot, true)];
        let reason = RuntimeError::call("single-id", Errno::from_raw(libc::EPERM));
        assert_eq!(Choice::new(Wanted::Any, refused, None).mode, Mode::None(reason));
        assert_eq!(Choice::new(Wanted::Nothing, vec![], None).mode, Mode::None(RuntimeError::NotWanted));
    }

    #[test]
    fn one_id_is_taken_for_what_a_full_map_lacks() {
        let lacking = Lacking::Id(1_000_680_000);
        let wanted = Wanted::OneIdFirst { lacking, or_chroot: true };
        let choice = Choice::new(wanted, vec![attempt(Rung::SingleId, false)], None);
        assert_eq!(choice.mode.to_string(), "user namespace, one id, owners emulated");
        assert_eq!(choice.obstacle(), Some((Rung::FullMap, &RuntimeError::Lacking(lacking))));
        let choice = Choice::new(Wanted::OneId, vec![attempt(Rung::SingleId, false)], None);
        assert_eq!(choice.obstacle(), None);
        assert_eq!(chosen(wanted, [true, true, false]), ("chroot, no namespaces".into(), Some(Rung::SingleId)));
        let wanted = Wanted::OneIdFirst { lacking, or_chroot: false };
        assert_eq!(chosen(wanted, [true, true, false]).0, "none, no step can be run");
    }

    #[test]
    fn the_best_that_works_is_taken_and_what_would_be_better_is_named() {
        let userns = "user namespace, one id, owners emulated".to_owned();
        let (chroot, none) = ("chroot, no namespaces".to_owned(), "none, no step can be run".to_owned());
        for (wanted, refused, expected) in [
            (Wanted::Any, [false, false, false], (userns.clone(), None)),
            (Wanted::Any, [true, false, false], (userns.clone(), Some(Rung::FullMap))),
            (Wanted::Any, [true, true, false], (chroot.clone(), Some(Rung::SingleId))),
            (Wanted::Any, [true, true, true], (none.clone(), Some(Rung::SingleId))),
            (Wanted::UserNamespace, [true, true, false], (none.clone(), Some(Rung::SingleId))),
            (Wanted::OneId, [false, true, false], (none.clone(), Some(Rung::SingleId))),
            (Wanted::Chroot, [true, true, false], (chroot.clone(), None)),
            (Wanted::ChrootFirst, [true, true, false], (chroot, None)),
            (Wanted::ChrootFirst, [true, false, true], (userns.clone(), Some(Rung::Chroot))),
            (Wanted::Chroot, [false, false, true], (none.clone(), Some(Rung::Chroot))),
            (Wanted::Nothing, [false, false, false], (none, None)),
        ] {
            assert_eq!(chosen(wanted, refused), expected, "{wanted:?} {refused:?}");
        }
    }
}
