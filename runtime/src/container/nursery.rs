//! Where the outermost processes of steps come from, when several follow each other: a process that has been executed once, and
//! is copied for each step. To execute this program anew for each takes several times as long.
//!
//! It has one thread and does nothing else, so that its copies may do all that a new program may. It ends with the thread that
//! started it, and each copy ends with it: the kernel sees to both.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as E;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, pidfd_open, pidfd_send_signal,
    set_dumpable_behavior, set_parent_process_death_signal, wait,
};
use serde::{Deserialize, Serialize};

use super::{detached, step};
use crate::error::{Errno, RuntimeError};
use crate::role::{self, Role};
use crate::sys::{self, Forked};
use crate::wire;

/// The argument of the process.
pub(super) const NURSERY: &str = "nursery";

/// What it is asked: a process on the socket that comes along, with the two outputs that do, and the socket of its command.
#[derive(Serialize, Deserialize)]
struct Wanted;

/// What it answers; the pidfd comes along.
#[derive(Serialize, Deserialize)]
struct Born(Result<(), Errno>);

/// The side of the caller.
pub(super) struct Nursery {
    /// `None` only after [`close`](Self::close).
    child: Option<std::process::Child>,
    id: u32,
    socket: UnixStream,
    receiver: wire::Receiver,
    /// Those that come next, in order.
    asked: VecDeque<Asked>,
}

/// A process that was asked for.
pub(super) struct Asked {
    /// The caller's end of its socket.
    pub(super) socket: UnixStream,
    /// The caller's end of the socket of its command.
    pub(super) command: UnixStream,
    /// The reading ends of its outputs.
    pub(super) outputs: [OwnedFd; 2],
}

impl Nursery {
    /// Starts one.
    pub(super) fn start() -> Result<Self, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        let mut command = Role::Step.command(theirs);
        command.arg(NURSERY).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| Role::Step.spawn_failed(error))?;
        let id = child.id();
        Ok(Nursery { child: Some(child), id, socket: ours, receiver: wire::Receiver::new(), asked: VecDeque::new() })
    }

    /// The process from which all others come.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Asks for a process, without waiting for it.
    pub(super) fn ask(&mut self) -> Result<(), RuntimeError> {
        let (ours, theirs) = role::pair()?;
        let (command, their_command) = role::pair()?;
        let pipe = || {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|errno| RuntimeError::call("pipe2(O_CLOEXEC)", errno))
        };
        let (stdout, their_stdout) = pipe()?;
        let (stderr, their_stderr) = pipe()?;
        let fds = [theirs.as_fd(), their_stdout.as_fd(), their_stderr.as_fd(), their_command.as_fd()];
        wire::send(self.socket.as_fd(), &Wanted, &fds).map_err(lost)?;
        self.asked.push_back(Asked { socket: ours, command, outputs: [stdout, stderr] });
        Ok(())
    }

    /// How many were asked for and have not been taken.
    pub(super) fn count(&self) -> usize {
        self.asked.len()
    }

    /// Lets it end by itself, and ends those that nobody needed. Returns the process, to be waited for.
    pub(super) fn close(mut self) -> Option<std::process::Child> {
        self.child.take()
    }

    /// Returns the one that was asked for first and could be made, with a handle of it. `None` where there is none.
    pub(super) fn born(&mut self) -> Option<(Asked, OwnedFd)> {
        while let Some(asked) = self.asked.pop_front() {
            match (self.receiver.wait::<Born>(&self.socket), self.receiver.fd()) {
                (Ok(Some(Born(Ok(())))), Some(pidfd)) => return Some((asked, pidfd)),
                // For this one there was no process; for the next there may be one.
                (Ok(Some(Born(Err(_)))), _) => {}
                _ => self.asked.clear(),
            }
        }
        None
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // Those that nobody needed.
        while let Some((_, pidfd)) = self.born() {
            end(&pidfd);
        }
        if let Some(child) = &mut self.child {
            // Both do nothing where it has ended; its copies end with it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lost(errno: Errno) -> RuntimeError {
    RuntimeError::call("socket of coracle-step, nursery", errno)
}

/// Returns whether the process `pidfd` has ended; waits for that if `patience` is none.
pub(super) fn has_ended(pidfd: &OwnedFd, patience: Option<&Timespec>) -> bool {
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

/// Kills the process `pidfd`, and waits for its end.
pub(super) fn end(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    has_ended(pidfd, None);
}

/// What a copy starts with.
pub(super) struct Copy {
    /// On which the step is told to it.
    pub(super) socket: UnixStream,
    /// On which the step is told to its command.
    pub(super) command: UnixStream,
    /// The mount namespace of the process that it is a copy of, where that is one to come back to.
    pub(super) home: Option<OwnedFd>,
}

/// The process: returns in each copy.
pub(super) fn serve(socket: UnixStream) -> Result<Copy, Errno> {
    step::hide();
    // What is made ahead must not keep the step that runs from its processor.
    sys::take_time();
    let home = home();
    let mut receiver = wire::Receiver::new();
    let this = getpid();
    while receiver.wait::<Wanted>(&socket)?.is_some() {
        let (Some(theirs), Some(stdout), Some(stderr), Some(command)) =
            (receiver.fd(), receiver.fd(), receiver.fd(), receiver.fd())
        else {
            return Err(E::BADF.into());
        };
        match sys::fork() {
            Ok(Forked::Child) => {
                drop((socket, receiver));
                become_step(this, &stdout, &stderr)?;
                return Ok(Copy { socket: theirs.into(), command: command.into(), home });
            }
            Ok(Forked::Parent(child)) => {
                // Before it is waited for: its number is its own till then.
                let pidfd = pidfd_open(child, PidfdFlags::empty());
                match &pidfd {
                    Ok(pidfd) => wire::send(socket.as_fd(), &Born(Ok(())), &[pidfd.as_fd()])?,
                    Err(errno) => wire::send(socket.as_fd(), &Born(Err((*errno).into())), &[])?,
                }
            }
            Err(errno) => wire::send(socket.as_fd(), &Born(Err(errno)), &[])?,
        }
        // Those that have ended.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
    sys::exit(0)
}

/// Makes mounts of its own, which the copies can come back to from those of their steps; the ones around this can not be entered
/// from below. What is unmounted outside goes here too.
fn home() -> Option<OwnedFd> {
    sys::unshare(libc::CLONE_NEWNS).ok()?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).ok()?;
    detached::own_mounts().ok()
}

/// What the copy does first.
fn become_step(parent: Pid, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before that sends none.
    if getppid() != Some(parent) {
        sys::exit(1);
    }
    // As a new program: it hides itself when it has made what it makes.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}
