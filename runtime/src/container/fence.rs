//! The fence around the processes of a step: a domain of Landlock. Who is in it can not look into a process outside of it
//! (ptrace(2), and what needs the same right: `environ`, `mem`, `root`, `fd` in /proc/PID), signal one, or connect to its
//! abstract sockets, which a shared network would lead to.
//!
//! Steps that run at the same time have the same user and the same capabilities, so where the /proc of outside is shown
//! they could otherwise read each other's memory. It takes nothing from a step that it could do without processes outside.
//!
//! Where there is no mount namespace, the fence is around files too: root can leave a chroot, but then opens, makes and
//! removes nothing. (It can still look at what files there are, and change modes and owners: Landlock does not know
//! these.)

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as E;

use crate::error::Errno;
use crate::sys::landlock;

/// Renaming and linking between directories. A domain with rules for files forbids it where it is not allowed.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// Executing and reading files, listing directories.
const READ: u64 = 0b1101;
/// All that the first version knows: these, and making and removing.
const FIRST: u64 = (1 << 13) - 1;
/// Abstract sockets and signals of processes outside.
const SCOPES: u64 = 0b11;

/// What can be had of the kernel.
struct Known {
    /// Rights on files.
    files: u64,
    scopes: u64,
}

fn known() -> Result<Known, Errno> {
    let version = landlock::version()?;
    let files = match version {
        // Without a rule for it nothing could be renamed between directories.
        ..2 => return Err(E::OPNOTSUPP.into()),
        2 => FIRST | REFER,
        3..5 => FIRST | REFER | TRUNCATE,
        _ => FIRST | REFER | TRUNCATE | IOCTL_DEVICE,
    };
    Ok(Known { files, scopes: if version < 6 { 0 } else { SCOPES } })
}

/// Puts this process into a domain of its own. It must have no_new_privs, or CAP_SYS_ADMIN in its user namespace, and
/// the root that it will have.
///
/// # Errors
/// The kernel has no Landlock, or one before 5.19, which would keep a step from renaming files between directories.
pub(crate) fn raise() -> Result<(), Errno> {
    match known()? {
        // There is no domain without rules: one that allows everything.
        Known { scopes: 0, .. } => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let rules = landlock::ruleset(REFER, 0)?;
            landlock::allow(rules.as_fd(), root.as_fd(), REFER)?;
            landlock::restrict_self(rules.as_fd())
        }
        Known { scopes, .. } => landlock::restrict_self(landlock::ruleset(0, scopes)?.as_fd()),
    }
}

/// As [`raise`], with files of `root` only; and those of `proc`, where there is one, which can be read. What may be written
/// there, the supervisor opens: the kernel's settings are not among it.
pub(super) fn raise_around(root: BorrowedFd<'_>, proc: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let Known { files, scopes } = known()?;
    let rules = landlock::ruleset(files, scopes)?;
    landlock::allow(rules.as_fd(), root, files)?;
    if let Some(proc) = proc {
        landlock::allow(rules.as_fd(), proc, files & READ)?;
    }
    landlock::restrict_self(rules.as_fd())
}
