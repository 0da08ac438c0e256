//! New names: mkdir, mknod, symlink, bind of a socket. What would belong to root anyway is made by the kernel; all else is
//! made here and gets its owner before anybody can look at it.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, PATH_MAX, Reply};
use super::credentials::{Cap, Credentials};
use super::owners::stat_of;
use super::resolve::{Found, Handle, Last, split};
use super::{device, proc};
use crate::error::Errno;
use crate::owner::FileOwner;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    /// A file that can carry its owner.
    File,
    /// One that can not.
    Special,
}

/// Returns whether all that `user` makes in an ordinary directory belongs to 0:0.
fn is_plain_root(user: &Credentials) -> bool {
    user.uid.fs == 0 && user.gid.fs == 0
}

/// Returns whether what `user` makes at `at` belongs to 0:0, as far as can be seen at a glance.
pub(super) fn stays_roots(call: &Call<'_>, user: &Credentials, at: &At) -> bool {
    if !is_plain_root(user) || call.emulator.owners.hides() || proc::is_special(&at.path) {
        return false;
    }
    let Some((parent, ..)) = split(&at.path) else { return false };
    let Some(parent) = call.name_here(user, &at.with(parent)) else { return false };
    // A missing directory is for the kernel to tell.
    call.emulator.owners.said_by(&parent, true).map_or(true, |said| said.is_none_or(|owner| owner.gid == 0))
}

/// Returns whom a new file in `dir` belongs to.
pub(super) fn new_owner(call: &Call<'_>, user: &Credentials, dir: &Handle) -> FileOwner {
    let gid = match dir.stat().st_mode & libc::S_ISGID != 0 {
        true => call.emulator.owners.of(dir).gid,
        false => user.gid.fs,
    };
    FileOwner::new(user.uid.fs, gid)
}

/// Makes something at `at` by `make`, which gets the directory and the name, in the name of the process.
pub(super) fn make(
    call: &Call<'_>,
    at: &At,
    kind: Kind,
    make: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<(), E>,
) -> Reply {
    let user = call.user()?;
    // A new file may have the inode number of an old one that is in the table.
    let kernel_may = kind != Kind::Special || !call.emulator.owners.has_special();
    if kernel_may && stays_roots(call, &user, at) {
        return Ok(Answer::Continue);
    }
    let Some(Place { dir, name }) = place(call, &user, at, kind)? else { return Ok(Answer::Continue) };
    let owner = new_owner(call, &user, &dir);
    if kernel_may && owner.is_default() {
        return Ok(Answer::Continue);
    }
    call.still_waits()?;
    call.with_umask(|| make(dir.fd(), &name))?;
    own(call, &dir, &name, kind, owner)?;
    Ok(Answer::Value(0))
}

/// Where something new may be made.
pub(super) struct Place {
    pub(super) dir: std::rc::Rc<Handle>,
    pub(super) name: Vec<u8>,
}

/// Returns the place that `at` means; `None` where the kernel will refuse it.
pub(super) fn place(call: &Call<'_>, user: &Credentials, at: &At, kind: Kind) -> Result<Option<Place>, Errno> {
    let Found { dir, name, file, slash } = call.find_place(user, at, Last::Keep)?;
    let Some(name) = name else { return Ok(None) };
    if file.is_some() {
        return Err(E::EXIST.into());
    }
    if slash && kind != Kind::Dir {
        return Ok(None);
    }
    call.check(user, &dir, Want::CHANGE)?;
    Ok(Some(Place { dir, name }))
}

/// Gives the new file its owner; takes it away again where that can not be.
pub(super) fn own(call: &Call<'_>, dir: &Handle, name: &[u8], kind: Kind, owner: FileOwner) -> Result<(), Errno> {
    let owned = dir.child(name).and_then(|file| call.emulator.owners.set(&file, owner));
    if owned.is_err() {
        let flags = if kind == Kind::Dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let _ = rustix::fs::unlinkat(dir.fd(), name, flags);
    }
    owned
}

#[cfg(target_arch = "x86_64")]
pub(super) fn mkdir(call: &Call<'_>) -> Reply {
    make_dir(call, &call.at_cwd(0)?, call.word(1))
}

pub(super) fn mkdirat(call: &Call<'_>) -> Reply {
    make_dir(call, &call.at(1)?, call.word(2))
}

fn make_dir(call: &Call<'_>, at: &At, mode: u32) -> Reply {
    // As in vfs_mkdir: the setgid bit comes from the directory only.
    let mode = Mode::from_raw_mode(mode & 0o1777);
    make(call, at, Kind::Dir, |dir, name| rustix::fs::mkdirat(dir, name, mode))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn symlink(call: &Call<'_>) -> Reply {
    make_link(call, &call.at_cwd(1)?)
}

pub(super) fn symlinkat(call: &Call<'_>) -> Reply {
    make_link(call, &call.at(2)?)
}

fn make_link(call: &Call<'_>, at: &At) -> Reply {
    let target = call.string(call.long(0), PATH_MAX, E::NAMETOOLONG)?;
    if target.is_empty() {
        return Err(E::NOENT.into());
    }
    make(call, at, Kind::Special, |dir, name| rustix::fs::symlinkat(&*target, dir, name))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn mknod(call: &Call<'_>) -> Reply {
    make_node(call, || call.at_cwd(0), call.word(1), call.word(2))
}

pub(super) fn mknodat(call: &Call<'_>) -> Reply {
    make_node(call, || call.at(1), call.word(2), call.word(3))
}

fn make_node(call: &Call<'_>, at: impl FnOnce() -> Result<At, Errno>, mode: u32, device: u32) -> Reply {
    let bits = Mode::from_raw_mode(mode & 0o7777);
    let (kind, file_type) = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => (Kind::File, FileType::RegularFile),
        libc::S_IFIFO => (Kind::Special, FileType::Fifo),
        libc::S_IFSOCK => (Kind::Special, FileType::Socket),
        libc::S_IFCHR | libc::S_IFBLK => return device::make(call, &at()?, mode, device),
        _ => return Ok(Answer::Continue),
    };
    make(call, &at()?, kind, |dir, name| rustix::fs::mknodat(dir, name, file_type, bits, 0))
}

/// Returns whether there is a symbolic link at a path of this process.
pub(super) fn is_link(name: &std::ffi::CStr) -> bool {
    stat_of(name).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Returns the bits of a new file's mode: the setgid bit is not for those who are not in the group.
pub(super) fn allowed_mode(user: &Credentials, owner: FileOwner, mode: u32) -> Mode {
    let both = libc::S_ISGID | libc::S_IXGRP;
    let keeps = mode & both != both || user.in_group(owner.gid) || user.may(Cap::FSETID);
    Mode::from_raw_mode(if keeps { mode } else { mode & !libc::S_ISGID })
}
