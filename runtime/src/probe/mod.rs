//! What this machine allows, found out by doing it, in a process of its own: the caller enters no namespace and no
//! version of the kernel is read.

mod features;
mod ladder;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{WaitOptions, waitpid};
use serde::{Deserialize, Serialize};

use crate::around::Host;
use crate::error::{Errno, RuntimeError};
use crate::idmap::IdMaps;
use crate::role::{self, Role};
use crate::sys::{self, Forked};
use crate::userns::Tools;
use crate::{userns, wire};
use features::{FEATURES, Feature, Place};
use ladder::Until;

pub use ladder::{Attempt, Choice, Mode, Rung, Wanted, choose, climb, full_map};

/// One thing that a kernel or its settings may have or lack.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// The kernel that brought it, "5.12".
    pub since: &'static str,
    /// What it is used for.
    pub used_for: &'static str,
    /// What is done without it; `None` where a RUN step needs it.
    pub fallback: Option<&'static str>,
    /// Whether it is there.
    pub status: Status,
    /// What went wrong.
    pub seen: Option<RuntimeError>,
}

/// Whether something is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It works.
    Ok,
    /// It does not, and something else is done.
    Degraded {
        /// What.
        fallback: String,
    },
    /// It does not, and a RUN step needs it.
    Missing {
        /// What to change.
        hint: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Request {
    #[serde(with = "wire::raw")]
    dir: PathBuf,
    tools: Tools,
    host: Host,
    question: Question,
}

#[derive(Clone, Serialize, Deserialize)]
enum Question {
    /// Every feature.
    Features,
    /// These ways to run a step.
    Rungs(Vec<Rung>, Until),
    /// Whether ids and devices can be emulated, with whatever ids there are.
    Emulation,
}

#[derive(Serialize, Deserialize)]
enum Answers {
    /// A result for each feature, in the order of the table.
    Features(Vec<Option<RuntimeError>>),
    /// What was tried.
    Rungs(Vec<Attempt>),
}

/// Returns every check, in a fixed order. `dir` is a directory on the file system where the store is or will be.
pub fn all(dir: &Path) -> Vec<Check> {
    let missing = || RuntimeError::Died { role: Role::Probe.name().into(), status: "gave no answer".into() };
    let (answers, rest) = match ask(dir, Question::Features) {
        Ok((Answers::Features(answers), _)) => (answers, missing()),
        Ok((Answers::Rungs(_), _)) => (Vec::new(), missing()),
        Err(error) => (Vec::new(), error),
    };
    let answers = answers.into_iter().chain(std::iter::repeat_with(|| Some(rest.clone())));
    FEATURES.iter().zip(answers).map(|(feature, seen)| check(feature, seen)).collect()
}

/// Finds out whether ids and devices of a step can be emulated in the namespaces of this process, whatever ids they have.
/// `dir` is a directory on the file system of the store.
///
/// # Errors
/// Why not.
pub fn emulation(dir: &Path) -> Result<(), RuntimeError> {
    match ask(dir, Question::Emulation)? {
        (Answers::Features(answers), _) => answers.into_iter().flatten().next().map_or(Ok(()), Err),
        (Answers::Rungs(_), _) => Err(RuntimeError::NotWanted),
    }
}

fn check(feature: &Feature, seen: Option<RuntimeError>) -> Check {
    let status = match (&seen, feature.fallback) {
        (None, _) => Status::Ok,
        (Some(_), Some(fallback)) => Status::Degraded { fallback: fallback.into() },
        (Some(error), None) => Status::Missing {
            hint: error
                .hint()
                .unwrap_or_else(|| format!("needs Linux {} and a kernel and profile that allow it", feature.since)),
        },
    };
    Check {
        name: feature.name,
        since: feature.since,
        used_for: feature.used_for,
        fallback: feature.fallback,
        status,
        seen,
    }
}

/// Returns the answers, and a file that came with them.
fn ask(dir: &Path, question: Question) -> Result<(Answers, Option<OwnedFd>), RuntimeError> {
    let (mut child, socket) = Role::Probe.start(&Request {
        dir: dir.into(),
        tools: Tools::find(),
        host: Host::of_this_process(),
        question,
    })?;
    let mut receiver = wire::Receiver::new();
    let answers = receiver.wait::<Answers>(&socket);
    drop(socket);
    let status = role::how_child_ended(child.wait());
    match answers {
        Ok(Some(answers)) => Ok((answers, receiver.fd())),
        _ => Err(RuntimeError::Died { role: Role::Probe.name().into(), status }),
    }
}

/// The role that tries.
pub(crate) fn role() -> ! {
    let Ok(begun) = role::begin::<Request>() else { sys::exit(1) };
    begun.request.host.is_told();
    let (answers, shown) = answer(&begun.request);
    let fds: Vec<_> = shown.iter().map(AsFd::as_fd).collect();
    let sent = wire::send(begun.socket.as_fd(), &answers, &fds);
    sys::exit(i32::from(sent.is_err()))
}

fn answer(request: &Request) -> (Answers, Option<OwnedFd>) {
    match &request.question {
        Question::Features => (Answers::Features(try_features(&request.dir, &request.tools)), None),
        Question::Emulation => (Answers::Features(vec![in_a_child(|| ladder::emulation(&request.dir)).err()]), None),
        Question::Rungs(rungs, until) => {
            let (attempts, namespace) = ladder::try_rungs(&request.dir, &request.tools, rungs, *until);
            (Answers::Rungs(attempts), namespace)
        }
    }
}

fn try_features(dir: &Path, tools: &Tools) -> Vec<Option<RuntimeError>> {
    let mut answers = Vec::new();
    // Why nothing can be tried inside; at first, because nobody has tried.
    let mut outside = Some(userns::refused(Errno::from_raw(libc::EPERM)));
    for feature in FEATURES {
        let answer = match feature.place {
            Place::Outside(attempt) => in_a_child(|| attempt(dir)),
            Place::Entering => {
                let full =
                    IdMaps::discover().and_then(|maps| in_a_child(|| userns::enter_with(&maps, tools)).map(|()| maps));
                let maps = full.as_ref().map_or_else(|_| IdMaps::single(), Clone::clone);
                // With one id only, the rest can still be tried.
                outside = userns::enter_with(&maps, tools).err();
                full.map(drop)
            }
            Place::Inside(attempt) => match &outside {
                Some(error) => Err(error.clone()),
                None => in_a_child(|| {
                    features::mount_namespace()?;
                    attempt(dir)
                }),
            },
        };
        answers.push(answer.err());
    }
    answers
}

/// Runs `attempt` in a copy of this process, so that nothing of it stays.
fn in_a_child(attempt: impl FnOnce() -> Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    in_a_child_that_shows(|| attempt().map(|()| None)).map(drop)
}

/// As [`in_a_child`], for an attempt that has a file to show.
fn in_a_child_that_shows(
    attempt: impl FnOnce() -> Result<Option<OwnedFd>, RuntimeError>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let (ours, theirs) = role::pair()?;
    match sys::fork().map_err(|errno| RuntimeError::call("fork", errno))? {
        Forked::Child => {
            drop(ours);
            let result = attempt();
            let fds: Vec<_> = result.iter().flatten().map(AsFd::as_fd).collect();
            let sent = wire::send(theirs.as_fd(), &result.as_ref().map(drop), &fds);
            sys::exit(i32::from(sent.is_err()))
        }
        Forked::Parent(child) => {
            drop(theirs);
            let mut receiver = wire::Receiver::new();
            let result = receiver.wait::<Result<(), RuntimeError>>(&ours);
            let status = waitpid(Some(child), WaitOptions::empty());
            match result {
                Ok(Some(result)) => result.map(|()| receiver.fd()),
                _ => {
                    let (code, signal) = match status {
                        Ok(Some((_, status))) => (status.exit_status(), status.terminating_signal()),
                        _ => (None, None),
                    };
                    let status = role::how_it_ended(code, signal);
                    Err(RuntimeError::Died { role: "a probe".into(), status })
                }
            }
        }
    }
}

/// Returns docs/kernel-features.md: the table, in Markdown.
pub fn document() -> String {
    let mut text = String::from(
        "# What coracle wants from the kernel\n\n\
         Made from the table of `coracle_runtime::probe`; a test keeps the two equal. `coracle doctor` tries each line on\n\
         the machine at hand: by doing it, never by the version. A RUN step needs every line without a fallback, which an\n\
         ordinary user with subordinate ids has from Linux 5.12 on, and one without from 5.14. A build without RUN needs none.\n\n\
         | feature | Linux | used for | without it |\n| --- | --- | --- | --- |\n",
    );
    for Feature { name, since, used_for, fallback, .. } in FEATURES {
        let without = fallback.unwrap_or("**no RUN step**");
        text.push_str(&format!("| {name} | {since} | {used_for} | {without} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_document_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernel-features.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, document()).expect("writes the document");
        }
        let text = fs::read_to_string(&path).expect("docs/kernel-features.md");
        assert!(text == document(), "docs/kernel-features.md is not the table: run the test with UPDATE_DOCS=1");
    }

    #[test]
    fn what_has_a_fallback_is_never_missing() {
        for feature in FEATURES {
            let failed = check(feature, Some(RuntimeError::call("x", Errno::from_raw(libc::ENOSYS))));
            assert_eq!(matches!(failed.status, Status::Missing { .. }), feature.fallback.is_none(), "{}", feature.name);
            assert_eq!(check(feature, None).status, Status::Ok);
        }
    }
}
