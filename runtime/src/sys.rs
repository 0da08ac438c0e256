//! Every call that the compiler can not check, each behind a function that is safe to use as documented. What rustix
//! offers safely is used from there directly.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

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

/// Ends this process at once: no destructors, no exit handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Replaces this process; returns only if that failed.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let list = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (list(args), list(env));
    // SAFETY: `path` and every element of both lists point to strings that end with NUL and outlive the call; both
    // lists end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last()
}

/// Moves this process (with CLONE_NEWPID: its next children) to new namespaces. The process must have one thread.
pub(crate) fn unshare(flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: only namespaces are unshared, no memory and no table of descriptors.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Closes all descriptors from `first` on, or marks them close-on-exec with CLOSE_RANGE_CLOEXEC. Nothing in this
/// process may own one of those that are closed.
pub(crate) fn close_range(first: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: called where no object owns a descriptor from `first` on, or with a flag that closes nothing yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Changes the attributes of the mount at `tree`, and with `recursive` of those below it.
pub(crate) fn mount_setattr(tree: BorrowedFd<'_>, set: u64, recursive: bool) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
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

/// Blocks every signal that can be blocked, for this thread and the processes it makes.
pub(crate) fn block_signals() {
    // SAFETY: `set` is a signal set that sigfillset fills before it is used; no old set is asked for.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// Gives every signal its default action and unblocks all, as a new program expects. (Rust programs ignore SIGPIPE, and
/// what is ignored stays so over execve.)
pub(crate) fn default_signals() {
    // SAFETY: SIG_DFL runs no code of ours; numbers without a signal and the two that can not be changed give an error
    // that is ignored on purpose. `set` is filled by sigemptyset before it is used.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// What the children that were waited for, and theirs, used.
pub(crate) fn children_usage() -> libc::rusage {
    // SAFETY: `rusage` is a plain struct for which all zeroes is a value; the pointer is valid for the call.
    unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    }
}
