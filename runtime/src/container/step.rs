//! What the processes of steps have in common.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as E;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitOptions, WaitStatus, getpid, pidfd_open, set_dumpable_behavior, waitpid,
};

use super::nursery::{self, NURSERY};
use super::process::Word;
use super::{ContainerSpec, Exit, Message, Report, chroot};
use crate::error::{Errno, RuntimeError};
use crate::{role, sys, wire};

/// The role `coracle-step`.
pub(crate) fn step_role() -> ! {
    // A terminal's signals reach the whole process group; what to do about them is the caller's affair.
    sys::block_signals();
    let Ok(socket) = role::arrive() else { sys::exit(1) };
    if std::env::args_os().nth(1).is_some_and(|word| word == NURSERY) {
        sys::exit(nursery::serve(socket).unwrap_or(1))
    }
    let Ok((begun, _)) = role::hear::<super::Request<ContainerSpec>>(socket) else { sys::exit(1) };
    sys::exit(i32::from(chroot::alone(begun).is_err()))
}

pub(super) fn tell(socket: &UnixStream, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    wire::send(socket.as_fd(), message, fds)
}

pub(super) fn to_root() -> Result<(), RuntimeError> {
    rustix::process::chdir("/").map_err(|errno| RuntimeError::call("chdir(\"/\")", errno))
}

/// Makes what came with the request the standard input.
pub(super) fn take_stdin(stdin: Option<OwnedFd>) -> Result<(), RuntimeError> {
    let stdin = stdin.ok_or_else(|| RuntimeError::call("recv(standard input)", E::BADF))?;
    rustix::stdio::dup2_stdin(&stdin).map_err(|errno| RuntimeError::call("dup2(standard input)", errno))
}

/// What C told of its way to the command.
#[derive(Default)]
pub(super) struct Told {
    /// All was made for it.
    pub(super) ready: Option<Report>,
    refused: Option<Exit>,
    failed: Option<RuntimeError>,
}

impl Told {
    pub(super) fn hear(&mut self, word: Word) {
        match word {
            Word::Ready(report) => self.ready = Some(report),
            Word::NotStarted { errno, what, path } => self.refused = Some(Exit::NotStarted { errno, what, path }),
            Word::Failed(error) => self.failed = Some(error),
        }
    }

    /// Returns how the command ended, when C has, and what was not as it should be.
    pub(super) fn verdict(self, code: Option<i32>, signal: Option<i32>) -> Result<(Exit, Report), RuntimeError> {
        let ended = match (code, signal) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
        };
        match (self.failed, self.ready) {
            (Some(error), _) => Err(error),
            (None, None) => Err(died("the process that makes the container", code, signal)),
            (None, Some(report)) => Ok((self.refused.unwrap_or(ended), report)),
        }
    }
}

pub(super) fn died(role: &str, code: Option<i32>, signal: Option<i32>) -> RuntimeError {
    RuntimeError::Died { role: role.into(), status: role::how_it_ended(code, signal) }
}

pub(super) fn own_pidfd() -> Result<OwnedFd, RuntimeError> {
    pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| RuntimeError::call("pidfd_open(getpid())", errno))
}

/// Returns whether the process `pidfd` has ended.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    ended_within(pidfd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
}

/// Waits until the process `pidfd` has ended.
pub(super) fn await_end(pidfd: &OwnedFd) {
    ended_within(pidfd, None);
}

fn ended_within(pidfd: &OwnedFd, patience: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, patience) {
            Err(E::INTR) => {}
            Ok(0) => return false,
            // What can not be polled can not be waited for.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Keeps this process from being looked into by the step, even where the /proc of the caller is shown there.
pub(super) fn hide() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

pub(super) fn wait(child: Pid) -> Result<WaitStatus, RuntimeError> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(E::INTR) => {}
            Err(errno) => return Err(RuntimeError::call("waitpid", errno)),
        }
    }
}
