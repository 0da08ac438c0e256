//! The fence around the processes of a step: a domain of Landlock. Who is in it can not look into a process outside of it
//! (ptrace(2), and what needs the same right: `environ`, `mem`, `root`, `fd` in /proc/PID), or signal one.
//!
//! Steps that run at the same time have the same user and the same capabilities, so where the /proc of outside is shown
//! they could otherwise read each other's memory. It takes nothing from a step that it could do without processes outside.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as E;

use crate::error::Errno;
use crate::sys::landlock;

/// Renaming and linking between directories. A domain with rules for files forbids it where it is not allowed.
const REFER: u64 = 1 << 13;
/// Signals to processes outside.
const SIGNALS: u64 = 1 << 1;

/// Puts this process into a domain of its own. It must have no_new_privs, or CAP_SYS_ADMIN in its user namespace, and
/// the root that it will have.
///
/// # Errors
/// The kernel has no Landlock, or one before 5.19, which would keep a step from renaming files between directories.
pub(crate) fn raise() -> Result<(), Errno> {
    match landlock::version()? {
        ..2 => Err(E::OPNOTSUPP.into()),
        // There is no domain without rules: one that allows everything.
        2..6 => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let rules = landlock::ruleset(REFER, 0)?;
            landlock::allow(rules.as_fd(), root.as_fd(), REFER)?;
            landlock::restrict_self(rules.as_fd())
        }
        _ => landlock::restrict_self(landlock::ruleset(0, SIGNALS)?.as_fd()),
    }
}
