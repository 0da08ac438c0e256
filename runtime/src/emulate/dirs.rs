//! Where a process is: chdir, fchdir, chroot.

use std::sync::atomic::Ordering;

use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::Cap;
use super::resolve::Last;
use crate::error::Errno;

pub(super) fn chdir(call: &Call<'_>) -> Reply {
    enter(call, || call.at_cwd(0))
}

pub(super) fn fchdir(call: &Call<'_>) -> Reply {
    enter(call, || Ok(At::fd(call.int(0))))
}

fn enter(call: &Call<'_>, at: impl FnOnce() -> Result<At, Errno>) -> Reply {
    let user = call.user()?;
    if !user.may(Cap::DAC_OVERRIDE) {
        let dir = call.find(&user, &at()?, Last::Follow)?;
        if dir.is_dir() {
            call.check(&user, &dir, Want::SEARCH)?;
        }
    }
    Ok(Answer::Continue)
}

pub(super) fn chroot(call: &Call<'_>) -> Reply {
    let user = call.user()?;
    if !user.may(Cap::SYS_CHROOT) {
        return Err(E::PERM.into());
    }
    // From now on each process is asked for its root.
    call.emulator.chrooted.store(true, Ordering::Release);
    Ok(Answer::Continue)
}
