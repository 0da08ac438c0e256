//! Where the processes of steps come from: a process that has been executed once. Its children are I, from which the commands
//! come, and the supervisors of those whose calls are answered. To execute this program anew for each takes several times as long.
//!
//! It has one thread and does nothing else, so that its copies may do all that a new program may. It ends with the thread that
//! started it, and all that come from it end with it: the kernel sees to that.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, set_parent_process_death_signal, wait};
use serde::{Deserialize, Serialize};

use super::step::{hide, own_pidfd};
use super::{detached, init, supervise};
use crate::emulate;
use crate::error::{Errno, RuntimeError};
use crate::sys::{self, Forked};
use crate::{role, wire};

/// The argument of the process.
pub(super) const NURSERY: &str = "nursery";

/// What it is told first. With it comes the socket on which I hears and tells.
#[derive(Serialize, Deserialize)]
pub(super) struct Opening {
    /// Whether many steps are to come, so that what makes each of them quicker is worth it.
    pub(super) for_many: bool,
}

/// What it is asked: a supervisor. With it come the socket on which that hears its request and tells, and the one on which a listener
/// will come.
#[derive(Serialize, Deserialize)]
pub(super) struct Supervise;

/// What it answers.
#[derive(Serialize, Deserialize)]
pub(super) struct Supervised(pub(super) Result<(), Errno>);

/// The process. Its exit status is 128 and the signal by which I was killed, if it was.
pub(super) fn serve(socket: UnixStream) -> Result<i32, Errno> {
    let (role::Begun { socket, mut receiver, request, .. }, _) = role::hear::<Opening>(socket)?;
    let to_init = UnixStream::from(receiver.fd().ok_or(Errno::from(rustix::io::Errno::BADF))?);
    // What is made ahead must not keep the step that runs from its processor, and neither must who makes it.
    sys::take_time();
    let home = if request.for_many { home() } else { None };
    let this = getpid();
    let made = own_pidfd().and_then(|pidfd| {
        let proc = emulate::open_proc()?;
        let forked = sys::fork_into(libc::CLONE_NEWPID);
        Ok((pidfd, proc, forked.map_err(|errno| RuntimeError::call("clone(CLONE_NEWPID)", errno))?))
    });
    let (proc, init) = match made {
        Ok((pidfd, proc, Forked::Child)) => {
            drop((socket, receiver, proc));
            sys::exit(i32::from(init::serve(to_init, &pidfd, home).is_err()))
        }
        Ok((_, proc, Forked::Parent(init))) => (proc, init),
        Err(error) => return wire::send(to_init.as_fd(), &init::Word::Failed(error), &[]).and(Ok(1)),
    };
    drop(to_init);
    hide();
    let mut ended = None;
    while receiver.wait::<Supervise>(&socket)?.is_some() {
        let (Some(caller), Some(calls)) = (receiver.fd(), receiver.fd()) else {
            return Err(rustix::io::Errno::BADF.into());
        };
        let forked = sys::fork();
        if let Ok(Forked::Child) = forked {
            drop((socket, receiver));
            let served = as_child_of(this).and_then(|()| supervise::serve(&caller.into(), &calls.into(), proc, home));
            sys::exit(i32::from(served.is_err()))
        }
        wire::send(socket.as_fd(), &Supervised(forked.map(drop)), &[])?;
        // Those that have ended.
        while let Ok(Some((child, status))) = wait(WaitOptions::NOHANG) {
            ended = ended.or((child == init).then_some(status));
        }
    }
    // None of those who are left has anything to wait for.
    while let Ok(Some((child, status))) = wait(WaitOptions::empty()) {
        ended = ended.or((child == init).then_some(status));
    }
    Ok(ended.and_then(WaitStatus::terminating_signal).map_or(0, |signal| 128 + signal))
}

/// Makes mounts of its own, which commands can come back to from those of their steps; the ones around this can not be entered
/// from below. What is unmounted outside goes here too.
fn home() -> Option<OwnedFd> {
    sys::unshare(libc::CLONE_NEWNS).ok()?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).ok()?;
    detached::own_mounts().ok()
}

/// What a copy does first.
fn as_child_of(parent: Pid) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before that sends none.
    if getppid() != Some(parent) {
        sys::exit(1);
    }
    Ok(())
}
