//! The end of steps, as the caller sees it. Where another step follows, some of it goes on beside that.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal};

use super::step::await_end;
use super::{Message, ready};
use crate::error::RuntimeError;
use crate::{role, wire};

/// A step whose processes have ended, and whose mounts are ending.
pub(super) struct Unmounting {
    pub(super) words: UnixStream,
    pub(super) receiver: wire::Receiver,
    /// Who ends them.
    pub(super) init: Arc<OwnedFd>,
}

/// Those of all threads: the files of a layer must not be mounted as what a step may change and as a layer below at the same time.
static UNMOUNTING: Mutex<Vec<Unmounting>> = Mutex::new(Vec::new());

pub(super) fn unmount_later(step: Unmounting) {
    UNMOUNTING.lock().unwrap_or_else(PoisonError::into_inner).push(step);
}

/// Waits until nothing of them is mounted.
pub(super) fn await_unmounting() {
    // Whoever comes second waits as well.
    let mut unmounting = UNMOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    for Unmounting { words, mut receiver, init } in unmounting.drain(..) {
        let is_told = loop {
            match receiver.wait::<Message>(&words) {
                Ok(Some(Message::Unmounted)) => break true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break false,
            }
        };
        if !is_told {
            await_end(&init);
        }
    }
}

/// The process with which all of a step end. It does not outlive this, not even when `on_output` panics.
pub(super) enum Keeper {
    /// S0, in a chroot.
    Outermost(Child),
    /// The command, process 1 of a pid namespace.
    Command {
        pidfd: OwnedFd,
        /// I, whose child it is.
        init: Arc<OwnedFd>,
    },
}

impl Keeper {
    /// Returns a handle of it.
    pub(super) fn handle(&self) -> Result<OwnedFd, RuntimeError> {
        match self {
            Keeper::Outermost(child) => pidfd_open(Pid::from_child(child), PidfdFlags::empty())
                .map_err(|errno| RuntimeError::call("pidfd_open(coracle-step)", errno)),
            Keeper::Command { pidfd, .. } => {
                pidfd.try_clone().map_err(|error| RuntimeError::call("dup(pidfd of the command)", error))
            }
        }
    }

    pub(super) fn kill(&mut self) {
        match self {
            // Nothing, once it has been waited for.
            Keeper::Outermost(child) => drop(child.kill()),
            Keeper::Command { pidfd, .. } => drop(pidfd_send_signal(pidfd, Signal::KILL)),
        }
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        match self {
            // It is no child any more only where somebody else has waited for it.
            Keeper::Outermost(child) => drop(child.wait()),
            Keeper::Command { pidfd, .. } => await_end(pidfd),
        }
    }

    /// Returns what to say of a step that ended without a word: who ended before it should. That is `suspect` where nobody else did.
    pub(super) fn blame(&mut self, suspect: &str) -> RuntimeError {
        let died = |role: &str, status| RuntimeError::Died { role: role.into(), status };
        match self {
            Keeper::Outermost(child) => died(role::Role::Step.name(), role::how_child_ended(child.wait())),
            Keeper::Command { .. } => {
                self.wait();
                match ready::close() {
                    Some(Ok(status)) if status.code().is_some_and(|code| code > 128) => {
                        let signal = status.code().map(|code| code - 128);
                        died("process 1 of the step", role::how_it_ended(None, signal))
                    }
                    Some(ended) if !ended.as_ref().is_ok_and(ExitStatus::success) => {
                        died(role::Role::Step.name(), role::how_child_ended(ended))
                    }
                    _ => died(suspect, role::how_it_ended(None, None)),
                }
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Waits for S1 of a chroot, which ends after all others of the step.
pub(super) fn wait_for_reaper(init: Option<OwnedFd>) {
    if let Some(init) = init {
        // It watches S0: when that has been killed, it ends all that is below it, and itself.
        await_end(&init);
        bury(&init);
    }
}

/// Takes in the end of a process that became our child if this program is process 1 or a reaper. Otherwise there is nothing to
/// wait for.
pub(super) fn bury(orphan: &OwnedFd) {
    let _ = rustix::process::waitid(WaitId::PidFd(orphan.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}
