//! One call of a process: who makes it, its arguments, and what lies in the memory of the process.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use rustix::fs::Mode;
use rustix::io::Errno as E;
use rustix::process::Pid;

use super::Emulator;
use super::credentials::{Credentials, Ids};
use crate::error::Errno;
use crate::idmap::status_field;
use crate::sys::notify::{self, Notification};

/// Bytes of a path with its NUL at the most.
pub(super) const PATH_MAX: usize = 4096;

/// What a step starts with.
pub(super) const USUAL_UMASK: u32 = 0o022;

/// What the process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel does what was asked for.
    Continue,
    /// The call returns this.
    Value(i64),
    /// It has been told already.
    Told,
}

pub(super) type Reply = Result<Answer, Errno>;

/// The path of a file as a process names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    /// Where a relative path starts: AT_FDCWD, or a descriptor of the process.
    pub(super) dir: i32,
    /// Without NUL. Empty: the file `dir` itself.
    pub(super) path: Vec<u8>,
    /// Whether `dir` is the root of the path, as with RESOLVE_IN_ROOT.
    pub(super) in_dir: bool,
}

impl At {
    pub(super) fn fd(fd: i32) -> Self {
        At { dir: fd, path: vec![], in_dir: false }
    }

    pub(super) fn cwd(path: Vec<u8>) -> Self {
        At { dir: libc::AT_FDCWD, path, in_dir: false }
    }

    /// The same with another path.
    pub(super) fn with(&self, path: &[u8]) -> Self {
        At { path: path.to_vec(), ..*self }
    }
}

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) emulator: &'a Emulator,
    notification: Notification,
}

impl<'a> Call<'a> {
    pub(super) fn new(emulator: &'a Emulator, notification: Notification) -> Self {
        Call { emulator, notification }
    }

    pub(super) fn id(&self) -> u64 {
        self.notification.id
    }

    /// The thread.
    pub(super) fn pid(&self) -> Pid {
        self.notification.pid
    }

    pub(super) fn nr(&self) -> libc::c_long {
        self.notification.nr
    }

    pub(super) fn long(&self, n: usize) -> u64 {
        self.notification.args[n]
    }

    /// The low half of an argument, which is all that the kernel looks at in an `unsigned int`.
    pub(super) fn word(&self, n: usize) -> u32 {
        (self.notification.args[n] & 0xffff_ffff) as u32
    }

    pub(super) fn int(&self, n: usize) -> i32 {
        self.word(n).cast_signed()
    }

    /// Returns who makes the call.
    pub(super) fn user(&self) -> Result<Arc<Credentials>, Errno> {
        match self.emulator.families.owners {
            true => self.emulator.users.of(self.pid()),
            false => real_user(&self.status()?).map(Arc::new).ok_or(E::SRCH.into()),
        }
    }

    /// Makes the process somebody else.
    pub(super) fn become_user(&self, user: Credentials) -> Result<(), Errno> {
        let number = self.emulator.users.number(user)?;
        // The thread may be gone and its number somebody else's.
        self.still_waits()?;
        crate::sys::peer::set_locks_limit(self.pid(), number)
    }

    /// Checks that the thread is still the one that made the call. Before anything is done to it or in its name.
    pub(super) fn still_waits(&self) -> Result<(), Errno> {
        match notify::is_waited_for(self.emulator.listener(), self.id()) {
            true => Ok(()),
            false => Err(E::SRCH.into()),
        }
    }

    /// Reads memory of the process.
    pub(super) fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        let length = to.len();
        match self.read_some(address, to)? == length {
            true => Ok(()),
            false => Err(E::FAULT.into()),
        }
    }

    fn read_some(&self, address: u64, to: &mut [u8]) -> Result<usize, Errno> {
        if to.is_empty() {
            return Ok(0);
        }
        let base = usize::try_from(address).map_err(|_| E::FAULT)?;
        let remote = [RemoteIoVec { base, len: to.len() }];
        process_vm_readv(self.remote(), &mut [IoSliceMut::new(to)], &remote).map_err(|_| E::FAULT.into())
    }

    /// Writes memory of the process.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.still_waits()?;
        let base = usize::try_from(address).map_err(|_| E::FAULT)?;
        let remote = [RemoteIoVec { base, len: bytes.len() }];
        match process_vm_writev(self.remote(), &[IoSlice::new(bytes)], &remote) {
            Ok(written) if written == bytes.len() => Ok(()),
            _ => Err(E::FAULT.into()),
        }
    }

    pub(super) fn write_word(&self, address: u64, value: u32) -> Result<(), Errno> {
        self.write(address, &value.to_ne_bytes())
    }

    fn remote(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.pid().as_raw_nonzero().get())
    }

    /// Reads a string of less than `most` bytes; `too_long` is the error where it has more.
    pub(super) fn string(&self, address: u64, most: usize, too_long: E) -> Result<Vec<u8>, Errno> {
        const PAGE: u64 = 4096;
        const STRIDE: u64 = 512;
        let mut text = Vec::new();
        let mut address = address;
        while text.len() < most {
            // Never across a page: the next one may not be there.
            let room = (PAGE - address % PAGE).min(STRIDE).min((most - text.len()) as u64);
            let mut chunk = [0; STRIDE as usize];
            let read = self.read_some(address, &mut chunk[..room as usize])?;
            if read == 0 {
                return Err(E::FAULT.into());
            }
            if let Some(end) = chunk[..read].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            text.extend_from_slice(&chunk[..read]);
            address = address.wrapping_add(read as u64);
        }
        Err(too_long.into())
    }

    /// The path in argument `n`.
    pub(super) fn path(&self, n: usize) -> Result<Vec<u8>, Errno> {
        self.string(self.long(n), PATH_MAX, E::NAMETOOLONG)
    }

    /// The path in argument `n` from the working directory; there must be one.
    pub(super) fn at_cwd(&self, n: usize) -> Result<At, Errno> {
        self.named(libc::AT_FDCWD, n)
    }

    /// The path in argument `n` from the directory in the one before it; there must be one.
    pub(super) fn at(&self, n: usize) -> Result<At, Errno> {
        self.named(self.int(n - 1), n)
    }

    fn named(&self, dir: i32, n: usize) -> Result<At, Errno> {
        let path = self.path(n)?;
        if path.is_empty() { Err(E::NOENT.into()) } else { Ok(At { dir, path, in_dir: false }) }
    }

    /// As [`at`](Self::at), where AT_EMPTY_PATH in `flags` lets the path be empty.
    pub(super) fn at_or_self(&self, n: usize, flags: i32) -> Result<At, Errno> {
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        let path = if may_be_empty && self.long(n) == 0 { vec![] } else { self.path(n)? };
        if path.is_empty() && !may_be_empty {
            Err(E::NOENT.into())
        } else {
            Ok(At { dir: self.int(n - 1), path, in_dir: false })
        }
    }

    /// Returns the text of /proc/PID/status.
    pub(super) fn status(&self) -> Result<String, Errno> {
        status_of(self.pid())
    }

    /// Returns the permission bits that the process does not give to new files.
    pub(super) fn umask(&self) -> Mode {
        const USUAL: Mode = Mode::from_bits_retain(USUAL_UMASK);
        // As long as nobody has changed it, it is what every step starts with.
        if self.emulator.families.owners && !self.emulator.umask_varies.load(Ordering::Acquire) {
            return USUAL;
        }
        let status = self.status().unwrap_or_default();
        let mask = status_field(&status, "Umask").and_then(|octal| u32::from_str_radix(octal, 8).ok());
        mask.map_or(USUAL, Mode::from_bits_retain)
    }

    /// Calls `make` while this thread has the umask of the process, so that the kernel applies it as it would there.
    pub(super) fn with_umask<T>(&self, make: impl FnOnce() -> T) -> T {
        rustix::process::umask(self.umask());
        let made = make();
        rustix::process::umask(Mode::empty());
        made
    }
}

/// Returns the text of the file `status` of a process.
pub(super) fn status_of(pid: Pid) -> Result<String, Errno> {
    let path = format!("{}/status", pid.as_raw_nonzero());
    Ok(std::fs::read_to_string(path)?)
}

/// Returns who a process really is, by its file `status`.
fn real_user(status: &str) -> Option<Credentials> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        status_field(status, name)?.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
    };
    let ids = |name: &str| -> Option<Ids> {
        let &[real, effective, saved, fs] = numbers(name)?.as_slice() else { return None };
        Some(Ids { real, effective, saved, fs })
    };
    let caps = u64::from_str_radix(status_field(status, "CapEff")?, 16).ok()?;
    let mut user = Credentials::new(0, 0, &numbers("Groups")?, caps);
    (user.uid, user.gid) = (ids("Uid")?, ids("Gid")?);
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_who_its_status_says() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t0000000008000000\n";
        let user = real_user(status).expect("is complete");
        assert_eq!((user.uid.fs, user.gid.saved, &user.groups[..]), (4, 7, &[9, 10][..]));
        assert!(user.may(super::super::credentials::Cap::MKNOD));
        assert_eq!(real_user("Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\t\nCapEff:\t0\n"), None);
    }
}
