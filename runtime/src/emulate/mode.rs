//! Modes, times and lengths: chmod, utimensat, truncate and their kin.

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps};
use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::{Cap, Credentials};
use super::device;
use super::resolve::Last;
use crate::error::Errno;

#[cfg(target_arch = "x86_64")]
pub(super) fn chmod(call: &Call<'_>) -> Reply {
    change(call, &call.at_cwd(0)?, Last::Follow, call.word(1))
}

pub(super) fn fchmod(call: &Call<'_>) -> Reply {
    if call.int(0) < 0 {
        return Ok(Answer::Continue);
    }
    change(call, &At::fd(call.int(0)), Last::Follow, call.word(1))
}

pub(super) fn fchmodat(call: &Call<'_>) -> Reply {
    change(call, &call.at(1)?, Last::Follow, call.word(2))
}

pub(super) fn fchmodat2(call: &Call<'_>) -> Reply {
    let flags = call.int(3);
    let at = call.at_or_self(1, flags)?;
    change(call, &at, Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0), call.word(2))
}

fn change(call: &Call<'_>, at: &At, last: Last, mode: u32) -> Reply {
    let user = call.user()?;
    let owners = &call.emulator.owners;
    if user.may(Cap::FOWNER)
        && user.may(Cap::FSETID)
        && !owners.has_special()
        && let Some(name) = call.name_here(&user, at)
        // Where this user is root outside as well, the kernel would let it.
        && !call.emulator.proc.has_named(&name)
    {
        let said = owners.said_by(&name, last == Last::Follow || at.path.is_empty());
        if said.ok().flatten().is_none_or(|owner| owner.device.is_none()) {
            return Ok(Answer::Continue);
        }
    }
    let file = call.find(&user, at, last)?;
    // Pipes and the like have no owner here.
    if file.kind() == FileType::Symlink || file.by_magic() && !super::owners::carries(file.stat()) {
        return Ok(Answer::Continue);
    }
    let owner = call.check_owner(&user, &file)?;
    if owner.device.is_some() {
        call.still_waits()?;
        return device::chmod(call, &file, mode);
    }
    let keeps_setgid = mode & libc::S_ISGID == 0 || user.in_group(owner.gid) || user.may(Cap::FSETID);
    let in_table = owners.in_table(file.stat());
    if keeps_setgid && in_table.is_none() && (at.path.is_empty() || !call.is_elsewhere(&file)) {
        return Ok(Answer::Continue);
    }
    let mode = if keeps_setgid { mode } else { mode & !libc::S_ISGID };
    let file = call.apart(file)?;
    call.still_waits()?;
    rustix::fs::chmod(file.name(), Mode::from_raw_mode(mode & 0o7777))?;
    if let Some(owner) = in_table {
        // It may have been copied up, to another inode.
        owners.set(&file.again()?, owner)?;
    }
    Ok(Answer::Value(0))
}

/// How a call says which times to set.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Two of seconds and nanoseconds.
    Spec,
    /// Two of seconds and microseconds.
    #[cfg(target_arch = "x86_64")]
    Val,
    /// Two of seconds.
    #[cfg(target_arch = "x86_64")]
    Seconds,
}

#[cfg(target_arch = "x86_64")]
pub(super) fn utime(call: &Call<'_>) -> Reply {
    touch(call, &call.at_cwd(0)?, Last::Follow, Form::Seconds, call.long(1))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn utimes(call: &Call<'_>) -> Reply {
    touch(call, &call.at_cwd(0)?, Last::Follow, Form::Val, call.long(1))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn futimesat(call: &Call<'_>) -> Reply {
    let at = if call.long(1) == 0 { At::fd(call.int(0)) } else { call.at(1)? };
    touch(call, &at, Last::Follow, Form::Val, call.long(2))
}

pub(super) fn utimensat(call: &Call<'_>) -> Reply {
    let flags = call.int(3);
    let at = if call.long(1) == 0 { At::fd(call.int(0)) } else { call.at_or_self(1, flags)? };
    touch(call, &at, Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0), Form::Spec, call.long(2))
}

fn touch(call: &Call<'_>, at: &At, last: Last, form: Form, times: u64) -> Reply {
    let user = call.user()?;
    let owners = &call.emulator.owners;
    if user.may(Cap::FOWNER)
        && user.may(Cap::DAC_OVERRIDE)
        && !owners.has_special()
        && let Some(name) = call.name_here(&user, at)
        && !call.emulator.proc.has_named(&name)
    {
        return Ok(Answer::Continue);
    }
    let wanted = read_times(call, form, times)?;
    let is_omitted = |time: &Timespec| matches!(form, Form::Spec) && time.tv_nsec == rustix::fs::UTIME_OMIT;
    if wanted.as_ref().is_some_and(|times| is_omitted(&times.last_access) && is_omitted(&times.last_modification)) {
        // The kernel does not even look at the path.
        return Ok(Answer::Continue);
    }
    let file = call.find(&user, at, last)?;
    let is_now = wanted.is_none();
    if call.check_owner(&user, &file).is_err() {
        // Whoever may write may say that it was now.
        if !is_now {
            return Err(E::PERM.into());
        }
        call.check(&user, &file, Want::WRITE)?;
    }
    let owner = owners.in_table(file.stat());
    if owner.is_none() && (at.path.is_empty() || !call.is_elsewhere(&file)) {
        return Ok(Answer::Continue);
    }
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = wanted.unwrap_or(Timestamps { last_access: now, last_modification: now });
    call.still_waits()?;
    // The name is a link of /proc to the file itself, which is not followed any further.
    rustix::fs::utimensat(CWD, file.name(), &times, rustix::fs::AtFlags::empty())?;
    if let Some(owner) = owner {
        owners.set(&file.again()?, owner)?;
    }
    Ok(Answer::Value(0))
}

/// Returns whether a path may lead to a file that the kernel does not see.
fn leads_outside(call: &Call<'_>, user: &Credentials, at: &At) -> bool {
    call.emulator.outside.is_some() && call.name_here(user, at).is_none()
}

/// Returns the times that the process wants; `None` where both are now.
fn read_times(call: &Call<'_>, form: Form, address: u64) -> Result<Option<Timestamps>, Errno> {
    if address == 0 {
        return Ok(None);
    }
    let mut bytes = [0; 32];
    let length = match form {
        #[cfg(target_arch = "x86_64")]
        Form::Seconds => 16,
        _ => 32,
    };
    call.read(address, &mut bytes[..length])?;
    let (words, _) = bytes.as_chunks::<8>();
    let word = |at: usize| i64::from_ne_bytes(words[at]);
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let (last_access, last_modification) = match form {
        Form::Spec if word(1) == UTIME_NOW && word(3) == UTIME_NOW => return Ok(None),
        Form::Spec => (time(word(0), word(1)), time(word(2), word(3))),
        #[cfg(target_arch = "x86_64")]
        Form::Val => (time(word(0), word(1).saturating_mul(1000)), time(word(2), word(3).saturating_mul(1000))),
        #[cfg(target_arch = "x86_64")]
        Form::Seconds => (time(word(0), 0), time(word(1), 0)),
    };
    Ok(Some(Timestamps { last_access, last_modification }))
}

const UTIME_NOW: i64 = 0x3fff_ffff;

pub(super) fn truncate(call: &Call<'_>) -> Reply {
    let user = call.user()?;
    let at = call.at_cwd(0)?;
    let leads_outside = leads_outside(call, &user, &at);
    if leads_outside || !user.may(Cap::DAC_OVERRIDE) {
        let file = call.find(&user, &at, Last::Follow)?;
        call.check(&user, &file, Want::WRITE)?;
        if leads_outside && call.is_elsewhere(&file) && file.kind() == FileType::RegularFile {
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
            let file = rustix::fs::openat(CWD, file.name(), flags, Mode::empty())?;
            rustix::fs::ftruncate(&file, call.long(1))?;
            return Ok(Answer::Value(0));
        }
    }
    Ok(Answer::Continue)
}
