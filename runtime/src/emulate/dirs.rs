//! Where a process is: chdir, fchdir, chroot; and what a directory says of the types of its files.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;

use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::Cap;
use super::resolve::Last;
use super::socket::copy_of;
use crate::error::Errno;
use crate::sys::peer;

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

/// The most that is read of a directory at once, in bytes. C libraries ask for 32 KiB.
const MOST_ENTRIES: usize = 64 << 10;

/// Directories say of what stands for a device that it is a file, and some programs look no further: find -type f.
pub(super) fn getdents64(call: &Call<'_>) -> Reply {
    if !call.emulator.may_have_devices.load(Ordering::Acquire) {
        return Ok(Answer::Continue);
    }
    // What is wrong with the descriptor the kernel will say.
    let Ok(dir) = copy_of(call, call.int(0)) else { return Ok(Answer::Continue) };
    let mut bytes = vec![0; MOST_ENTRIES.min(call.word(2) as usize)];
    call.still_waits()?;
    let length = peer::entries(dir.as_fd(), &mut bytes)?;
    let bytes = &mut bytes[..length];
    correct(bytes, |name| {
        let path = [format!("self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        let said = call.emulator.owners.said_by(&CString::new(path).ok()?, false).ok()??;
        said.device.map(|device| if device.is_block() { libc::DT_BLK } else { libc::DT_CHR })
    });
    call.write(call.long(1), bytes)?;
    Ok(Answer::Value(length as i64))
}

/// Gives those of the `entries` that are regular files the type that `device` returns for their names, if it does.
fn correct(entries: &mut [u8], device: impl Fn(&[u8]) -> Option<u8>) {
    // Of an entry: its number, the place of the next one, its length, its type, its name with NUL.
    const LENGTH: usize = 16;
    const TYPE: usize = 18;
    const NAME: usize = 19;
    let mut at = 0;
    while let Some(entry) = entries.get_mut(at..).filter(|rest| rest.len() > NAME) {
        let length = usize::from(u16::from_ne_bytes([entry[LENGTH], entry[LENGTH + 1]]));
        let name = entry.get(NAME..length).and_then(|name| name.split(|byte| *byte == 0).next());
        if entry[TYPE] == libc::DT_REG
            && let Some(found) = name.and_then(&device)
        {
            entry[TYPE] = found;
        }
        at += length.max(NAME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_stand_for_devices_are_told_as_such() {
        let entry = |name: &str, file_type: u8| {
            let length = (19 + name.len() + 1).next_multiple_of(8);
            let mut bytes = vec![0; length];
            bytes[16..18].copy_from_slice(&u16::try_from(length).expect("short").to_ne_bytes());
            bytes[18] = file_type;
            bytes[19..19 + name.len()].copy_from_slice(name.as_bytes());
            bytes
        };
        let list = |types: [u8; 4]| {
            let names = ["a", "zero", "a longer name", "zero"];
            names.iter().zip(types).flat_map(|(name, file_type)| entry(name, file_type)).collect::<Vec<_>>()
        };
        let (file, link) = (libc::DT_REG, libc::DT_LNK);
        let mut bytes = list([file, file, file, link]);
        correct(&mut bytes, |name| (name == b"zero").then_some(libc::DT_CHR));
        assert_eq!(bytes, list([file, libc::DT_CHR, file, link]));
        // What makes no sense does no harm.
        correct(&mut [0; 100], |_| None);
        correct(&mut [0xff; 100], |_| Some(libc::DT_CHR));
        correct(&mut [], |_| None);
    }
}
