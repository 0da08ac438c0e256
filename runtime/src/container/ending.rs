//! The end of steps, as the caller sees it. Where another step follows, some of it goes on beside that.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as E;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};

use super::{Message, nursery};
use crate::error::RuntimeError;
use crate::{role, wire};

/// Outermost processes that have told all, and have nothing left to do but to end.
static ENDING: Mutex<Vec<Outermost>> = Mutex::new(Vec::new());

pub(super) fn end_later(child: Outermost) {
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    ending.retain(|child| !child.has_ended());
    ending.push(child);
}

/// Waits for the end of those.
pub(super) fn await_ending() {
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    for mut child in ending.drain(..) {
        child.wait();
    }
}

/// A step whose processes have ended, and whose mounts are ending.
pub(super) struct Unmounting {
    pub(super) socket: UnixStream,
    pub(super) receiver: wire::Receiver,
    /// Who ends them.
    pub(super) init: Option<OwnedFd>,
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
    for Unmounting { socket, mut receiver, init } in unmounting.drain(..) {
        let is_told = loop {
            match receiver.wait::<Message>(&socket) {
                Ok(Some(Message::Unmounted)) => break true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break false,
            }
        };
        if !is_told {
            wait_for_init(init);
        }
    }
}

/// The outermost process of a step. It does not outlive this, not even when `on_output` panics.
pub(super) enum Outermost {
    Child(Child),
    /// A child of the [`Nursery`] `parent`.
    Copy {
        pidfd: OwnedFd,
        parent: u32,
    },
}

impl Outermost {
    /// Returns a handle of it.
    pub(super) fn handle(&self) -> Result<OwnedFd, RuntimeError> {
        match self {
            Outermost::Child(child) => pidfd_open(Pid::from_child(child), PidfdFlags::empty())
                .map_err(|errno| RuntimeError::call("pidfd_open(coracle-step)", errno)),
            Outermost::Copy { pidfd, .. } => {
                pidfd.try_clone().map_err(|error| RuntimeError::call("dup(pidfd of coracle-step)", error))
            }
        }
    }

    /// Returns the number of the process that started it.
    pub(super) fn parent(&self) -> u32 {
        match self {
            Outermost::Child(_) => std::process::id(),
            Outermost::Copy { parent, .. } => *parent,
        }
    }

    pub(super) fn is_copy(&self) -> bool {
        matches!(self, Outermost::Copy { .. })
    }

    pub(super) fn has_ended(&self) -> bool {
        match self {
            Outermost::Child(_) => false,
            Outermost::Copy { pidfd, .. } => nursery::has_ended(pidfd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })),
        }
    }

    pub(super) fn kill(&mut self) {
        match self {
            // Nothing, once it has been waited for.
            Outermost::Child(child) => drop(child.kill()),
            Outermost::Copy { pidfd, .. } => nursery::end(pidfd),
        }
    }

    /// Waits for its end, and returns in words how that was.
    pub(super) fn wait(&mut self) -> String {
        match self {
            // It is no child any more only where somebody else has waited for it.
            Outermost::Child(child) => role::how_child_ended(child.wait()),
            Outermost::Copy { pidfd, .. } => {
                nursery::has_ended(pidfd, None);
                role::how_it_ended(None, None)
            }
        }
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Waits for process 1 of the outer pid namespace, which ends after all others in it.
pub(super) fn wait_for_init(init: Option<OwnedFd>) {
    if let Some(init) = init {
        // Readable once it has ended. When the outermost process was killed, the kernel has killed this one too.
        let mut fds = [PollFd::new(&init, PollFlags::IN)];
        while let Err(E::INTR) = poll(&mut fds, None) {}
        // It became our child if this program is process 1 or a reaper. Otherwise there is nothing to wait for.
        let _ = rustix::process::waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
