//! What files are: stat, lstat, fstat, newfstatat, statx.

use std::ffi::CStr;
use std::mem::offset_of;

use rustix::fs::CWD;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::{Cap, Credentials};
use super::resolve::Last;
use crate::error::Errno;
use crate::oci::DEVICES;
use crate::owner::{Device, FileOwner};
use crate::sys::peer::{self, STAT, STATX};

/// How the process wants to be told.
#[derive(Debug, Clone, Copy)]
enum Form {
    Stat,
    /// With the flags and the mask of statx(2).
    Statx {
        flags: i32,
        mask: u32,
    },
}

/// Flags of statx(2) that say how fresh the answer must be.
const SYNC: i32 = 0x6000;

#[cfg(target_arch = "x86_64")]
pub(super) fn stat(call: &Call<'_>) -> Reply {
    tell(call, &call.at_cwd(0)?, Last::Follow, Form::Stat, call.long(1))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn lstat(call: &Call<'_>) -> Reply {
    tell(call, &call.at_cwd(0)?, Last::Keep, Form::Stat, call.long(1))
}

pub(super) fn fstat(call: &Call<'_>) -> Reply {
    if call.int(0) < 0 {
        return Ok(Answer::Continue);
    }
    tell(call, &At::fd(call.int(0)), Last::Follow, Form::Stat, call.long(1))
}

pub(super) fn newfstatat(call: &Call<'_>) -> Reply {
    let flags = call.int(3);
    let at = call.at_or_self(1, flags)?;
    tell(call, &at, last(flags), Form::Stat, call.long(2))
}

pub(super) fn statx(call: &Call<'_>) -> Reply {
    let flags = call.int(2);
    let at = call.at_or_self(1, flags)?;
    tell(call, &at, last(flags), Form::Statx { flags, mask: call.word(3) }, call.long(4))
}

fn last(flags: i32) -> Last {
    Last::unless(flags & libc::AT_SYMLINK_NOFOLLOW != 0)
}

/// Tells the process what a file is. Most are as the kernel knows them, and left to it.
fn tell(call: &Call<'_>, at: &At, last: Last, form: Form, buffer: u64) -> Reply {
    let owners = &call.emulator.owners;
    let user = call.user()?;
    let is_known = !may_be_another(&at.path);
    let name = is_known.then(|| call.name_here(&user, at)).flatten();
    let Some(name) = name else { return tell_other(call, &user, at, last, form, buffer) };
    // A descriptor is a link of /proc, and itself followed, whatever it is.
    let follow = last == Last::Follow || at.path.is_empty();
    let said = match owners.said_by(&name, follow) {
        Ok(Some(said)) => said,
        Ok(None) if owners.has_special() => {
            let flags = if follow { rustix::fs::AtFlags::empty() } else { rustix::fs::AtFlags::SYMLINK_NOFOLLOW };
            let found = rustix::fs::statat(CWD, &*name, flags).ok().and_then(|stat| owners.in_table(&stat));
            let Some(owner) = found else { return Ok(Answer::Continue) };
            owner
        }
        // The kernel knows the error.
        Ok(None) | Err(_) => return Ok(Answer::Continue),
    };
    write(call, &name, follow, form, said, buffer)
}

/// Returns whether a path may be that of a device, or from /proc on that of a process: their owners the kernel knows otherwise. To
/// look at each file that says no owner would make a stat by a fifth dearer, so devices are known by the names that they have.
fn may_be_another(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    path.starts_with(b"/dev/")
        || path.first().is_some_and(u8::is_ascii_digit)
        || DEVICES.iter().any(|(device, ..)| device.as_bytes() == name)
}

/// As [`tell`], for a process that may not go everywhere, and for /proc.
fn tell_other(call: &Call<'_>, user: &Credentials, at: &At, last: Last, form: Form, buffer: u64) -> Reply {
    let file = match call.find(user, at, last) {
        Ok(file) => file,
        // Root is refused nothing but by the kernel.
        Err(_) if user.may(Cap::DAC_OVERRIDE) => return Ok(Answer::Continue),
        Err(errno) => return Err(errno),
    };
    let owner = match call.emulator.proc.has(&file) {
        true => call.owner_of_process(&file),
        false => Some(call.emulator.owners.seen_by(user, &file)),
    };
    if call.is_elsewhere(&file) {
        let owner = owner.unwrap_or_else(|| FileOwner::new(file.stat().st_uid, file.stat().st_gid));
        return write(call, &file.name(), true, form, owner, buffer);
    }
    match owner {
        Some(owner) if (owner.uid, owner.gid) != (file.stat().st_uid, file.stat().st_gid) || owner.device.is_some() => {
            write(call, &file.name(), true, form, owner, buffer)
        }
        _ => Ok(Answer::Continue),
    }
}

/// Writes what the kernel knows of the file at `name`, but for owner and device, to the memory of the process.
fn write(call: &Call<'_>, name: &CStr, follow: bool, form: Form, owner: FileOwner, buffer: u64) -> Reply {
    let keep = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // Who opens such a file gets another one, and may compare (install, cp: "was replaced while being copied").
    let opened = call.emulator.outside.as_ref().zip(owner.device).filter(|(_, device)| !device.is_block());
    let opened = opened.and_then(|(outside, device)| outside.device((device.major, device.minor)).ok());
    let identity = opened.map(|file| (file.stat().st_dev, file.stat().st_ino));
    match form {
        Form::Stat => {
            let mut bytes = peer::stat_bytes(CWD, name, keep)?;
            change_stat(&mut bytes, owner);
            if let Some((device, inode)) = identity {
                put(&mut bytes, offset_of!(libc::stat, st_dev), device.to_ne_bytes());
                put(&mut bytes, offset_of!(libc::stat, st_ino), inode.to_ne_bytes());
            }
            call.write(buffer, &bytes)?;
        }
        Form::Statx { flags, mask } => {
            let mut bytes = peer::statx_bytes(CWD, name, keep | flags & SYNC, mask)?;
            change_statx(&mut bytes, owner);
            if let Some((device, inode)) = identity {
                put(&mut bytes, offset_of!(libc::statx, stx_dev_major), rustix::fs::major(device).to_ne_bytes());
                put(&mut bytes, offset_of!(libc::statx, stx_dev_minor), rustix::fs::minor(device).to_ne_bytes());
                put(&mut bytes, offset_of!(libc::statx, stx_ino), inode.to_ne_bytes());
            }
            call.write(buffer, &bytes)?;
        }
    }
    Ok(Answer::Value(0))
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn change_stat(bytes: &mut [u8; STAT], owner: FileOwner) {
    put(bytes, offset_of!(libc::stat, st_uid), owner.uid.to_ne_bytes());
    put(bytes, offset_of!(libc::stat, st_gid), owner.gid.to_ne_bytes());
    if let Some(Device { mode, major, minor }) = owner.device {
        put(bytes, offset_of!(libc::stat, st_mode), mode.to_ne_bytes());
        put(bytes, offset_of!(libc::stat, st_rdev), rustix::fs::makedev(major, minor).to_ne_bytes());
    }
}

fn change_statx(bytes: &mut [u8; STATX], owner: FileOwner) {
    put(bytes, offset_of!(libc::statx, stx_uid), owner.uid.to_ne_bytes());
    put(bytes, offset_of!(libc::statx, stx_gid), owner.gid.to_ne_bytes());
    if let Some(Device { mode, major, minor }) = owner.device {
        // The bits of a mode are 16.
        put(bytes, offset_of!(libc::statx, stx_mode), ((mode & 0xffff) as u16).to_ne_bytes());
        put(bytes, offset_of!(libc::statx, stx_rdev_major), major.to_ne_bytes());
        put(bytes, offset_of!(libc::statx, stx_rdev_minor), minor.to_ne_bytes());
    }
}

/// access(2), faccessat(2) and faccessat2(2).
#[cfg(target_arch = "x86_64")]
pub(super) fn access(call: &Call<'_>) -> Reply {
    may(call, || call.at_cwd(0), call.word(1), 0)
}

pub(super) fn faccessat(call: &Call<'_>) -> Reply {
    may(call, || call.at(1), call.word(2), 0)
}

pub(super) fn faccessat2(call: &Call<'_>) -> Reply {
    may(call, || call.at_or_self(1, call.int(3)), call.word(2), call.int(3))
}

fn may(call: &Call<'_>, at: impl FnOnce() -> Result<At, Errno>, mode: u32, flags: i32) -> Reply {
    if mode & !7 != 0 {
        return Ok(Answer::Continue);
    }
    let user = call.user()?;
    let asked = if flags & libc::AT_EACCESS == 0 { user.real() } else { (*user).clone() };
    let is_root = asked.may(Cap::DAC_OVERRIDE);
    // For root only the bits of the mode count, which are the real ones.
    if is_root && call.emulator.outside.is_none() {
        return Ok(Answer::Continue);
    }
    let at = at()?;
    if let Some(reply) = call.access_elsewhere(&asked, &at, last(flags), Want(mode)) {
        return reply;
    }
    if is_root {
        return Ok(Answer::Continue);
    }
    let file = call.find(&asked, &at, last(flags))?;
    call.check(&asked, &file, Want(mode))?;
    Ok(Answer::Continue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_be_that_of_a_device_wherever_it_starts() {
        for path in ["/dev/null", "null", "dev/tty", "../dev/./zero", "//dev/full", "/dev/pts/0", "7/fd"] {
            assert!(may_be_another(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "nulls", "dev", "null/x", "/usr/include/stdio.h"] {
            assert!(!may_be_another(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn only_owner_and_device_are_changed() {
        let device = Some(Device { mode: 0o20666, major: 1, minor: 3 });
        let mut bytes = peer::stat_bytes(CWD, c"/", 0).expect("a root");
        let before = bytes;
        change_stat(&mut bytes, FileOwner { uid: 7, gid: 8, device });
        let changed: Vec<usize> = (0..STAT).filter(|at| bytes[*at] != before[*at]).collect();
        let fields = [
            (offset_of!(libc::stat, st_mode), 4),
            (offset_of!(libc::stat, st_uid), 4),
            (offset_of!(libc::stat, st_gid), 4),
            (offset_of!(libc::stat, st_rdev), 8),
        ];
        assert!(changed.iter().all(|at| fields.iter().any(|(start, length)| (*start..start + length).contains(at))));
        assert_eq!(bytes[fields[1].0..fields[1].0 + 4], 7u32.to_ne_bytes());
        assert_eq!(bytes[fields[3].0..fields[3].0 + 8], 0x103u64.to_ne_bytes());
    }

    #[test]
    fn a_statx_tells_the_same() {
        let mut bytes = peer::statx_bytes(CWD, c"/", 0, libc::STATX_BASIC_STATS).expect("a root");
        let device = Some(Device { mode: 0o60660, major: 8, minor: 1 });
        change_statx(&mut bytes, FileOwner { uid: 7, gid: 8, device });
        assert_eq!(bytes[28..30], 0o60660u16.to_ne_bytes());
        assert_eq!(bytes[128..136], [8u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat());
    }
}
