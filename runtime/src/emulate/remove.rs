//! Names that go, change or get another: unlink, rmdir, rename, link and their kin.

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::Credentials;
use super::older::is_below;
use super::resolve::{Found, Handle, Last};
use crate::error::Errno;

#[cfg(target_arch = "x86_64")]
pub(super) fn unlink(call: &Call<'_>) -> Reply {
    remove(call, || call.at_cwd(0))
}

pub(super) fn unlinkat(call: &Call<'_>) -> Reply {
    remove(call, || call.at(1))
}

fn remove(call: &Call<'_>, at: impl FnOnce() -> Result<At, Errno>) -> Reply {
    let user = call.user()?;
    if user.may_change_all() {
        return Ok(Answer::Continue);
    }
    let found = call.find_place(&user, &at()?, Last::Keep)?;
    // The kernel has its errors for `.` and `..`.
    if found.name.is_some() {
        if found.file.is_none() {
            return Err(E::NOENT.into());
        }
        call.check_removal(&user, &found)?;
    }
    Ok(Answer::Continue)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn rename(call: &Call<'_>) -> Reply {
    move_name(call, || Ok((call.at_cwd(0)?, call.at_cwd(1)?)), 0)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn renameat(call: &Call<'_>) -> Reply {
    move_name(call, || Ok((call.at(1)?, call.at(3)?)), 0)
}

pub(super) fn renameat2(call: &Call<'_>) -> Reply {
    move_name(call, || Ok((call.at(1)?, call.at(3)?)), call.word(4))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn rename_in_tree(call: &Call<'_>) -> Reply {
    move_in_tree(call, (call.at_cwd(0)?, call.at_cwd(1)?), 0)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn renameat_in_tree(call: &Call<'_>) -> Reply {
    move_in_tree(call, (call.at(1)?, call.at(3)?), 0)
}

pub(super) fn renameat2_in_tree(call: &Call<'_>) -> Reply {
    move_in_tree(call, (call.at(1)?, call.at(3)?), call.word(4))
}

/// A name that moves, where owners are real: all but the one thing is the kernel's.
fn move_in_tree(call: &Call<'_>, (from, to): (At, At), flags: u32) -> Reply {
    // Whoever it is, the kernel will say whether he may.
    let anybody = Credentials::new(0, 0, &[], u64::MAX);
    let find = |at: &At| call.find_place(&anybody, at, Last::Keep);
    let (Ok(from), Ok(to)) = (find(&from), find(&to)) else { return Ok(Answer::Continue) };
    let (Some(file), Some(_), Some(_)) = (&from.file, &from.name, &to.name) else { return Ok(Answer::Continue) };
    let stays = stays_where_it_is(call, file, &to, RenameFlags::from_bits_retain(flags));
    if let Err(errno) = stays {
        let user = call.user()?;
        if call.check_removal(&user, &from).is_ok() && call.check_removal(&user, &to).is_ok() {
            return Err(errno.into());
        }
    }
    Ok(Answer::Continue)
}

fn move_name(call: &Call<'_>, paths: impl FnOnce() -> Result<(At, At), Errno>, flags: u32) -> Reply {
    let user = call.user()?;
    if user.may_change_all() && !call.emulator.owners.has_special() && call.emulator.older.is_none() {
        return Ok(Answer::Continue);
    }
    let (from, to) = paths()?;
    let from = call.find_place(&user, &from, Last::Keep)?;
    let to = call.find_place(&user, &to, Last::Keep)?;
    let (Some(old), Some(new)) = (&from.name, &to.name) else { return Ok(Answer::Continue) };
    let file = from.file.as_ref().ok_or(E::NOENT)?;
    call.check_removal(&user, &from)?;
    call.check_removal(&user, &to)?;
    // A directory that moves gets another `..`.
    if file.is_dir() && !from.dir.is(&to.dir) {
        call.check(&user, file, Want::WRITE)?;
    }
    let flags = RenameFlags::from_bits_retain(flags);
    stays_where_it_is(call, file, &to, flags)?;
    // Overlayfs may copy what is moved, to another inode.
    let mut moved = vec![(&**file, &to, new)];
    if flags.contains(RenameFlags::EXCHANGE)
        && let Some(other) = &to.file
    {
        moved.push((other, &from, old));
    }
    let owners = &call.emulator.owners;
    let in_table: Vec<_> =
        moved.iter().filter_map(|(file, to, name)| Some((owners.in_table(file.stat())?, *to, *name))).collect();
    if in_table.is_empty() {
        return Ok(Answer::Continue);
    }
    call.still_waits()?;
    rustix::fs::renameat_with(from.dir.fd(), &**old, to.dir.fd(), &**new, flags)?;
    for (owner, Found { dir, .. }, name) in in_table {
        owners.set(&dir.child(name)?, owner)?;
    }
    Ok(Answer::Value(0))
}

/// Refuses to move `file` as overlayfs would, and what is mounted, where there is no such thing.
fn stays_where_it_is(call: &Call<'_>, file: &Handle, to: &Found, flags: RenameFlags) -> Result<(), E> {
    let Some(older) = call.emulator.older.as_ref().filter(|_| file.is_dir()) else { return Ok(()) };
    if older.is_mounted(file) || call.emulator.proc.is_root(file) {
        return Err(E::BUSY);
    }
    let has = |file: &Handle| older.has(&call.emulator.root, file);
    let moves = match &to.file {
        _ if has(file) => true,
        Some(other) if flags.contains(RenameFlags::EXCHANGE) => has(other),
        _ => return Ok(()),
    };
    // What the kernel finds wrong first, it is to say itself.
    let is_taken = flags.contains(RenameFlags::NOREPLACE) && to.file.is_some();
    let is_other = to.file.as_ref().is_some_and(|other| other.is(file) || other.is_dir() != file.is_dir());
    if moves && !is_taken && !is_other && !is_below(&to.dir, file) { Err(E::XDEV) } else { Ok(()) }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn link(call: &Call<'_>) -> Reply {
    add_name(call, || Ok((call.at_cwd(0)?, call.at_cwd(1)?)), 0)
}

pub(super) fn linkat(call: &Call<'_>) -> Reply {
    let flags = call.int(4);
    add_name(call, || Ok((call.at_or_self(1, flags)?, call.at(3)?)), flags)
}

fn add_name(call: &Call<'_>, paths: impl FnOnce() -> Result<(At, At), Errno>, flags: i32) -> Reply {
    let user = call.user()?;
    let owners = &call.emulator.owners;
    if user.may_change_all() && !owners.has_special() && call.emulator.outside.is_none() {
        return Ok(Answer::Continue);
    }
    let (from, to) = paths()?;
    let file = call.find(&user, &from, Last::unless(flags & libc::AT_SYMLINK_FOLLOW == 0))?;
    let to = call.find_place(&user, &to, Last::Keep)?;
    let Some(name) = to.name.filter(|_| !to.slash) else { return Ok(Answer::Continue) };
    if to.file.is_some() {
        return Err(E::EXIST.into());
    }
    check_link(call, &user, &file)?;
    call.check(&user, &to.dir, Want::CHANGE)?;
    let owner = owners.in_table(file.stat());
    // By /proc/self/fd a file gets a name that has none.
    if owner.is_none() && (from.path.is_empty() || !call.is_elsewhere(&file)) {
        return Ok(Answer::Continue);
    }
    call.still_waits()?;
    let source = file.name();
    // The name is a link of /proc to the file itself, which is not followed any further.
    rustix::fs::linkat(rustix::fs::CWD, source, to.dir.fd(), &*name, AtFlags::SYMLINK_FOLLOW)?;
    if let Some(owner) = owner {
        owners.set(&to.dir.child(&name)?, owner)?;
    }
    Ok(Answer::Value(0))
}

/// As fs.protected_hardlinks: nobody gives names to files of others, which could not be removed any more.
fn check_link(call: &Call<'_>, user: &Credentials, file: &Handle) -> Result<(), Errno> {
    let mode = file.stat().st_mode;
    let is_plain = mode & libc::S_IFMT == libc::S_IFREG
        && mode & libc::S_ISUID == 0
        && mode & (libc::S_ISGID | libc::S_IXGRP) != libc::S_ISGID | libc::S_IXGRP;
    if is_plain && call.check(user, file, Want::READ.and(Want::WRITE)).is_ok() {
        return Ok(());
    }
    call.check_owner(user, file).map(drop)
}
