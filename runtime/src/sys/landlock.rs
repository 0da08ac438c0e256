//! Landlock: domains of processes that can not look into or signal those outside.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::check;
use crate::error::Errno;

/// `struct landlock_ruleset_attr`. Kernels that know less of it take the rest if it is zero.
#[repr(C)]
struct Ruleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// Returns which version of Landlock the kernel has, from 1 on.
pub(crate) fn version() -> Result<i64, Errno> {
    // SAFETY: with this flag the call takes no attributes.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0, CREATE_RULESET_VERSION) })
}

/// Returns a set of rules that handles these rights on files, and cuts off these scopes.
pub(crate) fn ruleset(fs: u64, scoped: u64) -> Result<OwnedFd, Errno> {
    let rules = Ruleset { fs, net: 0, scoped };
    // SAFETY: `rules` is a whole structure of the size given, and outlives the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(&rules), size_of::<Ruleset>(), 0)
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::from_raw(libc::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows the rights `fs` on `dir` and all below it.
pub(crate) fn allow(ruleset: BorrowedFd<'_>, dir: BorrowedFd<'_>, fs: u64) -> Result<(), Errno> {
    let rule = PathBeneath { allowed: fs, parent: dir.as_raw_fd() };
    // SAFETY: `rule` is a whole structure of its kind, and outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, ptr::from_ref(&rule), 0)
    })
    .map(drop)
}

/// Puts this process and those that it will make into a new domain with these rules. It needs no_new_privs, or
/// CAP_SYS_ADMIN in its user namespace.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and flags, and no memory.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}
