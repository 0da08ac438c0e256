//! Calls about another process, and about files in the form in which another process wants to read of them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::process::Pid;

use super::check;
use crate::error::Errno;

fn locks(pid: Pid, new: *const libc::rlimit64, old: *mut libc::rlimit64) -> Result<(), Errno> {
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: both pointers are null or lead to a whole `rlimit64` of the caller.
    check(unsafe { libc::prlimit64(pid, libc::RLIMIT_LOCKS, new, old) }.into()).map(drop)
}

/// Returns the soft and the hard limit of file locks of a process. Linux has not looked at it since 2.4.
pub(crate) fn locks_limit(pid: Pid) -> Result<(u64, u64), Errno> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    locks(pid, ptr::null(), &raw mut old)?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// Sets the soft limit of file locks of a process, which must not be above the hard one.
pub(crate) fn set_locks_limit(pid: Pid, soft: u64) -> Result<(), Errno> {
    let (_, hard) = locks_limit(pid)?;
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    locks(pid, &raw const new, ptr::null_mut())
}

/// Sends a signal by its number, which may be one without a name; 0 is none, and only tries it.
pub(crate) fn send_signal(pid: Pid, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }.into()).map(drop)
}

/// Reads the next entries of a directory as the kernel writes them, `struct linux_dirent64`. Returns how many bytes they have.
pub(crate) fn entries(dir: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes as many bytes as there are at the most.
    let read = check(unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), to.as_mut_ptr(), to.len()) })?;
    Ok(usize::try_from(read).unwrap_or(0))
}

/// Bytes of a `struct stat` of this architecture.
pub(crate) const STAT: usize = size_of::<libc::stat>();
/// Bytes of a `struct statx`.
pub(crate) const STATX: usize = size_of::<libc::statx>();

/// Returns fstatat(2) of a file as the bytes of the structure.
pub(crate) fn stat_bytes(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<[u8; STAT], Errno> {
    let mut bytes = [0; STAT];
    // SAFETY: the path ends with NUL, and the array has the size of what the kernel writes.
    check(unsafe { libc::syscall(libc::SYS_newfstatat, dir.as_raw_fd(), path.as_ptr(), bytes.as_mut_ptr(), flags) })?;
    Ok(bytes)
}

/// Returns statx(2) of a file as the bytes of the structure.
pub(crate) fn statx_bytes(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    mask: u32,
) -> Result<[u8; STATX], Errno> {
    let mut bytes = [0; STATX];
    // SAFETY: the path ends with NUL, and the array has the size of what the kernel writes.
    check(unsafe { libc::syscall(libc::SYS_statx, dir.as_raw_fd(), path.as_ptr(), flags, mask, bytes.as_mut_ptr()) })?;
    Ok(bytes)
}

/// Binds a socket to the address `bytes`, as bind(2) wants it.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(address.len()).map_err(|_| Errno::from_raw(libc::EINVAL))?;
    // SAFETY: the address has `length` bytes; the kernel takes any.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) }.into()).map(drop)
}

/// Returns the process at the other end of a socket; `None` where that is none that this process can see.
pub(crate) fn peer_of(socket: BorrowedFd<'_>) -> Option<Pid> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    let (value, length) = (ptr::from_mut(&mut peer).cast(), &raw mut length);
    // SAFETY: the structure has the length that is given, and outlives the call.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, value, length) };
    (result == 0 && peer.pid > 0).then(|| Pid::from_raw(peer.pid)).flatten()
}

/// Flags of sendmmsg(2) that mean nothing to a socket with a path, and that nobody uses together.
pub(crate) const UNSEEN: u32 = (libc::MSG_NOSIGNAL | libc::MSG_CONFIRM | libc::MSG_MORE).cast_unsigned();

/// Sends the descriptors by sendmmsg(2) with these flags. It is the one way to send that an emulator does not look at, so that
/// a process can give away the listener which it just made.
pub(crate) fn send_unseen<const N: usize>(socket: BorrowedFd<'_>, fds: [BorrowedFd<'_>; N]) -> Result<(), Errno> {
    const MOST: usize = 8;
    #[repr(C, align(8))]
    struct Control([u8; 16 + MOST * size_of::<libc::c_int>()]);
    const { assert!(N <= MOST) };
    let mut control = Control([0; 16 + MOST * size_of::<libc::c_int>()]);
    let mut byte = 0u8;
    let mut data = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    // SAFETY: numbers and pointers only, for all of which zero is a value.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut data;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
    let payload = u32::try_from(size_of_val(&fds.map(|fd| fd.as_raw_fd()))).unwrap_or(0);
    // SAFETY: `control` has room for the one header and the numbers that are written to it, and is aligned for it; all of
    // the message outlives the call.
    check(unsafe {
        message.msg_hdr.msg_controllen = libc::CMSG_SPACE(payload) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message.msg_hdr);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
        libc::CMSG_DATA(header).cast::<[libc::c_int; N]>().write_unaligned(fds.map(|fd| fd.as_raw_fd()));
        libc::sendmmsg(socket.as_raw_fd(), &raw mut message, 1, UNSEEN.cast_signed()).into()
    })
    .map(drop)
}
