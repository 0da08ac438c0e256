//! The loopback interface of a new network namespace.

use std::os::fd::AsRawFd;
use std::ptr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::check;
use crate::error::Errno;

/// Takes the loopback interface of this network namespace into use; a new one has it, but switched off.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all bytes 0 is a value of this structure: an empty name, no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads a whole `ifreq`, which outlives the call; its name ends with NUL.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, ptr::from_ref(&request)) }.into()).map(drop)
}
