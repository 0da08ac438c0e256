//! Processes that wait for a step, before it is known which.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use super::ending::{Outermost, end_later};
use super::nursery::Nursery;
use super::step::IN_NAMESPACES;
use super::{Place, Stream};
use crate::error::RuntimeError;
use crate::role::{self, Role};

/// Steps that get ready at the same time, at the most.
pub(super) const AHEAD: usize = 2;

/// A process for a step that does not know yet which.
pub(super) struct Waiting {
    pub(super) child: Outermost,
    pub(super) socket: UnixStream,
    /// The one on which the command is told what to do, where S0 does not.
    pub(super) command: Option<UnixStream>,
    /// The reading ends of its outputs.
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
}

thread_local! {
    /// Where this thread has the processes for its next steps from. It is no other thread's: the kernel kills a process when the
    /// thread ends that started it.
    static NURSERY: RefCell<Option<Nursery>> = const { RefCell::new(None) };
}

/// Lets the process of this thread end from which the others come, when none is needed any more.
pub(super) fn close() {
    if let Some(child) = NURSERY.take().and_then(Nursery::close) {
        end_later(Outermost::Child(child));
    }
}

impl Waiting {
    /// Executes this program anew.
    pub(super) fn start(output: fn() -> Stdio, place: Place) -> Result<Self, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        // The command holds our copy of their end, and goes at the end of this function.
        let mut command = Role::Step.command(theirs);
        if place == Place::Namespaces {
            command.arg(IN_NAMESPACES);
        }
        let child = command.stdout(output()).stderr(output()).spawn();
        let mut child = child.map_err(|error| Role::Step.spawn_failed(error))?;
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, OwnedFd::from(pipe)));
        let outputs = stdout.into_iter().chain(stderr).collect();
        Ok(Waiting { child: Outermost::Child(child), socket: ours, command: None, outputs })
    }

    /// Returns the one that was asked for on this thread, for a step in namespaces and a session of its own; where there is none, a
    /// new one.
    pub(super) fn take() -> Result<Self, RuntimeError> {
        let ready = NURSERY.with_borrow_mut(|nursery| {
            let there = nursery.as_mut()?;
            let had_any = there.count() > 0;
            let ready = Waiting::born(there);
            if ready.is_none() && had_any {
                // It is of no use any more; of those that came from it none is at work now.
                *nursery = None;
            }
            ready
        });
        ready.map_or_else(|| Waiting::start(Stdio::piped, Place::Namespaces), Ok)
    }

    /// As [`take`](Self::take); asks for one first, where none was asked for.
    pub(super) fn take_or_ask() -> Result<Self, RuntimeError> {
        if NURSERY.with_borrow(|nursery| nursery.as_ref().is_none_or(|nursery| nursery.count() == 0)) {
            Waiting::prepare(1);
        }
        Waiting::take()
    }

    /// Returns the first of those that were asked for and live.
    fn born(nursery: &mut Nursery) -> Option<Self> {
        let parent = nursery.id();
        while let Some((asked, pidfd)) = nursery.born() {
            let child = Outermost::Copy { pidfd, parent };
            if !child.has_ended() {
                let [stdout, stderr] = asked.outputs;
                let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
                return Some(Waiting { child, socket: asked.socket, command: Some(asked.command), outputs });
            }
        }
        None
    }

    /// Returns whether it has been asked for before.
    pub(super) fn is_copy(&self) -> bool {
        self.child.is_copy()
    }

    /// Asks ahead of time for as many as `following` steps need soon. Those for which that fails now are started when they are
    /// needed.
    pub(super) fn prepare(following: usize) {
        NURSERY.with_borrow_mut(|nursery| {
            while nursery.as_ref().map_or(0, Nursery::count) < following.min(AHEAD) {
                if nursery.is_none() {
                    *nursery = Nursery::start().ok();
                }
                // It stays, whatever is wrong: the step that runs came from it.
                let Some(Ok(())) = nursery.as_mut().map(Nursery::ask) else { return };
            }
        });
    }
}
