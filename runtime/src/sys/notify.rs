//! The listener of a seccomp filter (seccomp_unotify(2)): system calls of other processes that wait for an answer.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::Pid;

use super::check;
use crate::error::Errno;

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Names the call until it is answered.
    pub(crate) id: u64,
    /// The thread, by its number in the pid namespace of this process.
    pub(crate) pid: Pid,
    /// The number of the call, of the architecture of this program.
    pub(crate) nr: libc::c_long,
    pub(crate) args: [u64; 6],
}

/// Room for what a later kernel may add: it writes as much as it knows of.
#[repr(C)]
struct Room {
    notif: libc::seccomp_notif,
    more: [u64; 32],
}

/// SECCOMP_ADDFD_FLAG_SEND.
const SEND: u32 = 2;
/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
const SYNC_WAKE_UP: libc::c_ulong = 1;

fn ioctl(listener: BorrowedFd<'_>, request: libc::Ioctl, argument: *mut libc::c_void) -> Result<libc::c_long, Errno> {
    // SAFETY: every caller below passes the structure that belongs to `request`, which outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request, argument) }.into())
}

/// Waits for the next call. ENOENT: it was taken back meanwhile, or no process is left to make one.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: numbers only, for all of which zero is a value; the kernel wants it to be zero.
    let mut room: Room = unsafe { std::mem::zeroed() };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, ptr::from_mut(&mut room).cast())?;
    let notif = room.notif;
    let pid = i32::try_from(notif.pid).ok().and_then(Pid::from_raw).ok_or(Errno::from_raw(libc::ENOENT))?;
    Ok(Notification { id: notif.id, pid, nr: notif.data.nr.into(), args: notif.data.args })
}

/// What a call is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    /// The kernel does what was asked for.
    Continue,
    /// It succeeds with this result.
    Value(i64),
    /// It fails.
    Error(Errno),
}

/// Answers the call `id`. ENOENT: nobody waits for it any more.
pub(crate) fn respond(listener: BorrowedFd<'_>, id: u64, response: Response) -> Result<(), Errno> {
    let mut resp = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match response {
        Response::Continue => resp.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Response::Value(value) => resp.val = value,
        Response::Error(errno) => resp.error = -errno.raw(),
    }
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, ptr::from_mut(&mut resp).cast()).map(drop)
}

/// Gives a copy of `fd` to the caller of `id` and answers the call with its number, in one step.
pub(crate) fn respond_with_file(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<(), Errno> {
    let mut addfd = libc::seccomp_notif_addfd {
        id,
        flags: SEND,
        srcfd: fd.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, ptr::from_mut(&mut addfd).cast()).map(drop)
}

/// Returns whether somebody still waits for the answer to `id`: then its thread is the one that made the call.
pub(crate) fn is_waited_for(listener: BorrowedFd<'_>, mut id: u64) -> bool {
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, ptr::from_mut(&mut id).cast()).is_ok()
}

/// How the two sides of a call are woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// On the processor of who wakes.
    Taken,
    /// Where the kernel finds it best.
    Free,
}

/// Says how the two sides of a call are woken, where the kernel can do it in two ways (6.6).
pub(crate) fn take_turns(listener: BorrowedFd<'_>, turns: Turns) {
    let flags = if turns == Turns::Taken { SYNC_WAKE_UP } else { 0 };
    // SAFETY: the flags are passed by value.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) };
}
