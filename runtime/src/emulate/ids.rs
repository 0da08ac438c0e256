//! Who a process is, and becomes: getuid, setuid and their kin; and the limit in which that is kept.

use std::sync::atomic::Ordering;

use rustix::io::Errno as E;

use super::call::{Answer, Call, Reply, USUAL_UMASK};
use super::credentials::{Cap, Change, Credentials, Ids};
use super::rules::LOCKS;
use crate::error::Errno;

/// Groups of a process at the most, as in the kernel.
const MOST_GROUPS: u32 = 65_536;
const RLIM_INFINITY: u64 = u64::MAX;

fn told(id: u32) -> Reply {
    Ok(Answer::Value(id.into()))
}

pub(super) fn getuid(call: &Call<'_>) -> Reply {
    told(call.user()?.uid.real)
}

pub(super) fn geteuid(call: &Call<'_>) -> Reply {
    told(call.user()?.uid.effective)
}

pub(super) fn getgid(call: &Call<'_>) -> Reply {
    told(call.user()?.gid.real)
}

pub(super) fn getegid(call: &Call<'_>) -> Reply {
    told(call.user()?.gid.effective)
}

pub(super) fn getresuid(call: &Call<'_>) -> Reply {
    three(call, call.user()?.uid)
}

pub(super) fn getresgid(call: &Call<'_>) -> Reply {
    three(call, call.user()?.gid)
}

fn three(call: &Call<'_>, ids: Ids) -> Reply {
    for (n, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        call.write_word(call.long(n), id)?;
    }
    Ok(Answer::Value(0))
}

pub(super) fn getgroups(call: &Call<'_>) -> Reply {
    let user = call.user()?;
    let (size, count) = (call.int(0), user.groups.len());
    if size < 0 {
        return Err(E::INVAL.into());
    }
    if size != 0 {
        if usize::try_from(size).is_ok_and(|size| size < count) {
            return Err(E::INVAL.into());
        }
        let bytes: Vec<u8> = user.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        call.write(call.long(1), &bytes)?;
    }
    Ok(Answer::Value(count as i64))
}

/// Makes the process whom `change` makes of it; the call returns what that returns.
fn change(call: &Call<'_>, change: impl FnOnce(&mut Credentials) -> Result<u32, E>) -> Reply {
    let old = call.user()?;
    let mut user = (*old).clone();
    let result = change(&mut user)?;
    if user != *old {
        call.become_user(user)?;
    }
    told(result)
}

fn arguments(call: &Call<'_>) -> [u32; 3] {
    [0, 1, 2].map(|n| call.word(n))
}

pub(super) fn setuid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_uid(Change::One(call.word(0))))
}

pub(super) fn setgid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_gid(Change::One(call.word(0))))
}

pub(super) fn setreuid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_uid(Change::Two(call.word(0), call.word(1))))
}

pub(super) fn setregid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_gid(Change::Two(call.word(0), call.word(1))))
}

pub(super) fn setresuid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_uid(Change::Three(arguments(call))))
}

pub(super) fn setresgid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_gid(Change::Three(arguments(call))))
}

pub(super) fn setfsuid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_uid(Change::Fs(call.word(0))))
}

pub(super) fn setfsgid(call: &Call<'_>) -> Reply {
    change(call, |user| user.set_gid(Change::Fs(call.word(0))))
}

pub(super) fn setgroups(call: &Call<'_>) -> Reply {
    let count = call.word(0);
    if count > MOST_GROUPS {
        return Err(E::INVAL.into());
    }
    let mut bytes = vec![0; 4 * count as usize];
    call.read(call.long(1), &mut bytes)?;
    let (words, _) = bytes.as_chunks::<4>();
    let groups = words.iter().map(|word| u32::from_ne_bytes(*word)).collect();
    change(call, |user| user.set_groups(groups).map(|()| 0))
}

/// getrlimit, setrlimit and prlimit64 of RLIMIT_LOCKS, which says who a process is: it seems to be without limit.
#[cfg(target_arch = "x86_64")]
pub(super) fn getrlimit(call: &Call<'_>) -> Reply {
    tell_no_limit(call, call.long(1))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn setrlimit(call: &Call<'_>) -> Reply {
    call.read(call.long(1), &mut [0; 16])?;
    Ok(Answer::Value(0))
}

pub(super) fn prlimit64(call: &Call<'_>) -> Reply {
    let number = call.int(0);
    if number != 0 {
        let Some(pid) = call.emulator.proc.process(call, number) else { return call.is_not_there() };
        if pid != call.pid() && !may_limit(&*call.user()?, &*call.emulator.users.of(pid)?) {
            return Err(E::PERM.into());
        }
    }
    if !LOCKS.contains(&call.word(1)) {
        return Ok(Answer::Continue);
    }
    match call.long(3) {
        0 => Ok(Answer::Value(0)),
        old => tell_no_limit(call, old),
    }
}

/// Returns whether `user` may see and set the limits of `other`: prlimit(2).
fn may_limit(user: &Credentials, other: &Credentials) -> bool {
    let is_all = |id: u32, ids: Ids| [ids.real, ids.effective, ids.saved].iter().all(|theirs| *theirs == id);
    user.may(Cap::SYS_RESOURCE) || is_all(user.uid.real, other.uid) && is_all(user.gid.real, other.gid)
}

fn tell_no_limit(call: &Call<'_>, address: u64) -> Result<Answer, Errno> {
    call.write(address, &[RLIM_INFINITY.to_ne_bytes(); 2].concat())?;
    Ok(Answer::Value(0))
}

/// umask(2) itself is the kernel's: what counts is that somebody calls it.
pub(super) fn umask(call: &Call<'_>) -> Reply {
    if call.word(0) & 0o777 != USUAL_UMASK {
        call.emulator.umask_varies.store(true, Ordering::Release);
    }
    Ok(Answer::Continue)
}
