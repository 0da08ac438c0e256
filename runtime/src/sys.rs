//! Every call that the compiler can not check, each behind a function that is safe to use as documented. What rustix
//! and nix offer safely is used from there.
#![allow(unsafe_code)]

pub(crate) mod child;
pub(crate) mod landlock;
pub(crate) mod net;
pub(crate) mod notify;
pub(crate) mod peer;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::process::Pid;

use crate::error::Errno;

/// Which of the two processes this is after [`fork`].
pub(crate) enum Forked {
    Parent(Pid),
    Child,
}

fn last() -> Errno {
    Errno::from(std::io::Error::last_os_error())
}

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// Copies this process. It must have one thread only, which the re-executed roles have; anything else is refused,
/// because the copy of a lock that another thread holds is never released.
pub(crate) fn fork() -> Result<Forked, Errno> {
    debug_assert_eq!(crate::userns::threads().unwrap_or(1), 1);
    // SAFETY: the process has one thread, so the child is a complete process and may do what the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(last()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(pid).expect("fork returns a positive pid to the parent"))),
    }
}

/// As [`fork`], for a child in new namespaces: with CLONE_NEWPID it is process 1 of one. unshare(2) would do the same to all later
/// children of this process, and the kernel then refuses it threads.
pub(crate) fn fork_into(namespaces: libc::c_int) -> Result<Forked, Errno> {
    debug_assert_eq!(crate::userns::threads().unwrap_or(1), 1);
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: as fork: one thread, and without a stack the child goes on with a copy of this one. The C library still takes
    // the child's thread for number that of its parent, which matters only to signals that a thread sends to itself.
    match check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })? {
        0 => Ok(Forked::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Forked::Parent(pid.expect("clone returns a positive pid to the parent")))
        }
    }
}

/// How a child ended, and what it and those that it waited for used.
pub(crate) struct Waited {
    /// What it returned; `None` where a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Processor time in user mode and in the kernel: seconds and microseconds.
    pub(crate) time: [(i64, i64); 2],
    /// Memory of the largest process, KiB.
    pub(crate) max_rss: i64,
}

/// Waits for the end of a child.
pub(crate) fn wait_child(child: Pid) -> Result<Waited, Errno> {
    let mut status = 0;
    // SAFETY: numbers only, for all of which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers lead to what the kernel writes, and outlive the call.
        match unsafe { libc::wait4(child.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) } {
            -1 if last().is(rustix::io::Errno::INTR) => {}
            -1 => return Err(last()),
            _ => break,
        }
    }
    let time = |time: libc::timeval| (time.tv_sec, time.tv_usec);
    Ok(Waited {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        time: [time(usage.ru_utime), time(usage.ru_stime)],
        max_rss: usage.ru_maxrss,
    })
}

/// Ends this process at once: no destructors, no exit handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Replaces this process; returns only if that failed.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(errno) => Errno::from_raw(errno as i32),
    }
}

/// Moves this process (with CLONE_NEWPID: its next children) to new namespaces. The process must have one thread.
pub(crate) fn unshare(flags: libc::c_int) -> Result<(), Errno> {
    let flags = nix::sched::CloneFlags::from_bits_retain(flags);
    nix::sched::unshare(flags).map_err(|errno| Errno::from_raw(errno as i32))
}

/// Moves this thread to a mount namespace, or to that of a process, and to the root of that. The thread must not share its root with
/// others.
pub(crate) fn enter_mounts(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).map_err(|errno| Errno::from_raw(errno as i32))
}

/// Returns the mount namespace of the process `pidfd` (Linux 6.11).
pub(crate) fn mounts_of(pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    /// PIDFD_GET_MNT_NAMESPACE.
    const REQUEST: libc::Ioctl = 0xFF03;
    // SAFETY: the request takes no argument, and returns a new descriptor, which nobody else knows.
    let fd = check(unsafe { libc::ioctl(pidfd.as_raw_fd(), REQUEST, 0) }.into())?;
    let fd = i32::try_from(fd).map_err(|_| Errno::from_raw(libc::EBADF))?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives this thread a working directory, root and umask of its own.
pub(crate) fn unshare_files() -> Result<(), Errno> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).map_err(|errno| Errno::from_raw(errno as i32))
}

/// Closes all descriptors from `first` on, or marks them close-on-exec with CLOSE_RANGE_CLOEXEC. Nothing in this
/// process may own one of those that are closed.
pub(crate) fn close_range(first: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: called where no object owns a descriptor from `first` on, or with a flag that closes nothing yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Changes the attributes of the mount at `tree`, and with `recursive` of those below it; and its propagation, where that is not 0.
pub(crate) fn mount_setattr(tree: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string that ends with NUL, `attr` is a whole `mount_attr` of the size given; both outlive
    // the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Puts `filter` in front of the system calls of this process and its children. Returns the descriptor of the listener
/// where the flags ask for one, else 0.
pub(crate) fn seccomp(filter: &[libc::sock_filter], flags: libc::c_ulong) -> Result<i32, Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::from_raw(libc::EINVAL))?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies and checks them, and does
    // not write to them.
    let result = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program))
    })?;
    Ok(i32::try_from(result).unwrap_or(0))
}

/// As [`seccomp`], for a filter whose listener is returned.
pub(crate) fn seccomp_listener(filter: &[libc::sock_filter], flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let fd = seccomp(filter, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with this flag the kernel returns a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Blocks every signal that can be blocked, for this thread and the processes it makes.
pub(crate) fn block_signals() {
    // It fails for no set of signals.
    let _ = SigSet::all().thread_set_mask();
}

/// Gives every signal its default action, as a new program expects. (Rust programs ignore SIGPIPE, and what is ignored stays so
/// over execve.)
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers without a signal and the two that can not be changed give an error
        // that is ignored on purpose.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The signal of [`interrupt`]; nobody else uses it, and it does nothing by itself.
const INTERRUPT: Signal = Signal::SIGURG;

/// Lets [`interrupt`] end a call in which this thread waits: EINTR.
pub(crate) fn may_be_interrupted() {
    extern "C" fn nothing(_: libc::c_int) {}
    // Without SA_RESTART.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(INTERRUPT, &action) };
    let _ = SigSet::from(INTERRUPT).thread_unblock();
}

/// Ends the call in which a thread of this process waits, if it waits in one.
pub(crate) fn interrupt(thread: Pid) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: numbers only. A thread that has ended is not there: an error that is as good.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, INTERRUPT as libc::c_int) };
}

/// Whether this process, or the one that it is a copy of, takes its time.
static TAKES_TIME: AtomicBool = AtomicBool::new(false);

/// Takes no processor from who is at work on it, from now on, and neither do the copies of this process; [`hurry`] ends it. A process
/// that runs by another rule than the usual one keeps that.
pub(crate) fn take_time() {
    // SAFETY: a number only; 0 is this thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if policy == libc::c_long::from(libc::SCHED_OTHER) {
        TAKES_TIME.store(set_policy(libc::SCHED_BATCH).is_ok(), Ordering::Relaxed);
    }
}

/// The end of [`take_time`].
pub(crate) fn hurry() {
    if TAKES_TIME.swap(false, Ordering::Relaxed) {
        // What was allowed in one direction is in the other; nothing depends on it.
        let _ = set_policy(libc::SCHED_OTHER);
    }
}

/// Sets one of the two policies that know no priority. (Not every C library makes this call.)
fn set_policy(policy: libc::c_int) -> Result<(), Errno> {
    let priority: libc::c_int = 0;
    // SAFETY: the kernel's `sched_param` is one number, which outlives the call; 0 is this thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) }).map(drop)
}

/// Unblocks every signal, as a new program expects.
pub(crate) fn unblock_signals() {
    let _ = SigSet::empty().thread_set_mask();
}
