//! Opening and creating of files: open, creat, openat, openat2.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as E;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::create::{allowed_mode, is_link, new_owner, stays_roots};
use super::credentials::Credentials;
use super::resolve::{Found, Handle, Last};
use super::{device, proc};

/// Bytes of a `struct open_how` in its first form.
const OPEN_HOW: u64 = 24;

/// How a file is to be opened.
#[derive(Debug, Clone, Copy)]
struct How {
    flags: i32,
    mode: u32,
    resolve: u64,
}

impl How {
    fn new(flags: i32, mode: u32) -> Self {
        How { flags, mode, resolve: 0 }
    }

    fn has(&self, flags: i32) -> bool {
        self.flags & flags == flags
    }

    fn creates(&self) -> bool {
        !self.has(libc::O_PATH) && (self.has(libc::O_CREAT) || self.has(libc::O_TMPFILE))
    }

    fn want(&self) -> Want {
        let read_or_write = match self.flags & libc::O_ACCMODE {
            _ if self.has(libc::O_PATH) => return Want::NOTHING,
            libc::O_RDONLY => Want::READ,
            libc::O_WRONLY => Want::WRITE,
            _ => Want::READ.and(Want::WRITE),
        };
        if self.has(libc::O_TRUNC) { read_or_write.and(Want::WRITE) } else { read_or_write }
    }

    /// The flags with which the file is made here: nobody else may have made it, and no link is followed.
    fn for_new(&self) -> OFlags {
        let own = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        OFlags::from_bits_retain(self.flags.cast_unsigned()) | own
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn open(call: &Call<'_>) -> Reply {
    open_file(call, &call.at_cwd(0)?, How::new(call.int(1), call.word(2)))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn creat(call: &Call<'_>) -> Reply {
    open_file(call, &call.at_cwd(0)?, How::new(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, call.word(1)))
}

pub(super) fn openat(call: &Call<'_>) -> Reply {
    open_file(call, &call.at(1)?, How::new(call.int(2), call.word(3)))
}

pub(super) fn openat2(call: &Call<'_>) -> Reply {
    if call.long(3) < OPEN_HOW {
        return Ok(Answer::Continue);
    }
    let mut bytes = [0; OPEN_HOW as usize];
    call.read(call.long(2), &mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let [flags, mode, resolve] = [0, 1, 2].map(|at| u64::from_ne_bytes(words[at]));
    let (Ok(flags), Ok(mode)) = (i32::try_from(flags), u32::try_from(mode)) else { return Ok(Answer::Continue) };
    let mut at = call.at(1)?;
    if resolve & ResolveFlags::IN_ROOT.bits() != 0 {
        at.in_dir = true;
    }
    open_file(call, &at, How { flags, mode, resolve })
}

fn open_file(call: &Call<'_>, at: &At, how: How) -> Reply {
    if proc::is_status(&at.path)
        && let Some(answer) = proc::open_status(call, at, how.flags)?
    {
        return Ok(answer);
    }
    let user = call.user()?;
    if !how.creates() {
        return open_existing(call, &user, at, how);
    }
    if how.has(libc::O_TMPFILE) {
        return open_unnamed(call, &user, at, how);
    }
    create(call, &user, at, how)
}

fn open_existing(call: &Call<'_>, user: &Credentials, at: &At, how: How) -> Reply {
    if call.is_plainly_opened(user, at) {
        return Ok(Answer::Continue);
    }
    let last = Last::unless(how.has(libc::O_NOFOLLOW));
    if let Some(name) = call.name_here(user, at) {
        let said = call.emulator.owners.said_by(&name, last == Last::Follow);
        return match said.ok().flatten().and_then(|owner| owner.device) {
            Some(device) => device::open(call, device, how.flags),
            None => Ok(Answer::Continue),
        };
    }
    let file = call.find(user, at, last)?;
    open_found(call, user, &file, how)
}

/// Lets the kernel open a file that is there, if `user` may.
fn open_found(call: &Call<'_>, user: &Credentials, file: &Handle, how: How) -> Reply {
    // Then it is not to be followed, and the kernel says so.
    if file.kind() == FileType::Symlink {
        return if call.is_elsewhere(file) { Err(E::LOOP.into()) } else { Ok(Answer::Continue) };
    }
    call.check(user, file, how.want())?;
    if how.has(libc::O_NOATIME) && !how.has(libc::O_PATH) {
        call.check_owner(user, file)?;
    }
    match call.emulator.owners.of(file).device {
        Some(device) => device::open(call, device, how.flags),
        // From an open directory of /proc the kernel finds it, and gives what can not be handed over.
        None if how.has(libc::O_PATH) && !file.by_outside() => Ok(Answer::Continue),
        None if call.is_elsewhere(file) => call.open_elsewhere(file, how.flags),
        None => Ok(Answer::Continue),
    }
}

fn create(call: &Call<'_>, user: &Credentials, at: &At, how: How) -> Reply {
    let last = Last::unless(how.has(libc::O_EXCL) || how.has(libc::O_NOFOLLOW));
    if stays_roots(call, user, at)
        && let Some(name) = call.name_here(user, at)
        // A link may lead to a directory that gives its group away.
        && !(last == Last::Follow && is_link(&name))
    {
        let said = call.emulator.owners.said_by(&name, last == Last::Follow);
        return match said.ok().flatten().and_then(|owner| owner.device) {
            Some(device) if !how.has(libc::O_EXCL) => device::open(call, device, how.flags),
            _ => Ok(Answer::Continue),
        };
    }
    let Found { dir, name, file, slash } = call.find_place(user, at, last)?;
    if let Some(file) = file {
        return if how.has(libc::O_EXCL) { Err(E::EXIST.into()) } else { open_found(call, user, &file, how) };
    }
    // A name that must be a directory is not created; the kernel has its own errors for that.
    let Some(name) = name.filter(|_| !slash && !how.has(libc::O_DIRECTORY)) else { return Ok(Answer::Continue) };
    call.check(user, &dir, Want::CHANGE)?;
    let owner = new_owner(call, user, &dir);
    if owner.is_default() {
        return Ok(Answer::Continue);
    }
    call.still_waits()?;
    let mode = allowed_mode(user, owner, how.mode & 0o7777);
    let flags = how.for_new();
    let made = call.with_umask(|| match how.resolve {
        0 => rustix::fs::openat(dir.fd(), &*name, flags, mode),
        resolve => open_within(call, at, flags, mode, resolve),
    });
    match made {
        Ok(file) => give_new(call, file, owner, how),
        // Somebody else was quicker.
        Err(E::EXIST) if !how.has(libc::O_EXCL) => Ok(Answer::Continue),
        Err(errno) => Err(errno.into()),
    }
}

/// As openat2(2) with the `resolve` of the process, from where it starts.
fn open_within(call: &Call<'_>, at: &At, flags: OFlags, mode: Mode, resolve: u64) -> Result<OwnedFd, E> {
    let resolve = ResolveFlags::from_bits_retain(resolve);
    match call.opened(at.dir) {
        Ok(dir) => rustix::fs::openat2(dir.fd(), &*at.path, flags, mode, resolve),
        Err(_) => rustix::fs::openat2(CWD, &*at.path, flags, mode, resolve),
    }
}

fn open_unnamed(call: &Call<'_>, user: &Credentials, at: &At, how: How) -> Reply {
    let dir = call.find(user, at, Last::unless(how.has(libc::O_NOFOLLOW)))?;
    if !dir.is_dir() {
        return Ok(Answer::Continue);
    }
    call.check(user, &dir, Want::CHANGE)?;
    let owner = new_owner(call, user, &dir);
    if owner.is_default() {
        return Ok(Answer::Continue);
    }
    call.still_waits()?;
    let flags = OFlags::from_bits_retain(how.flags.cast_unsigned()) | OFlags::CLOEXEC;
    let mode = allowed_mode(user, owner, how.mode & 0o7777);
    let file = call.with_umask(|| rustix::fs::openat(dir.fd(), ".", flags, mode))?;
    give_new(call, file, owner, how)
}

fn give_new(call: &Call<'_>, file: OwnedFd, owner: crate::owner::FileOwner, how: How) -> Reply {
    let handle = Handle::adopt(file.try_clone()?)?;
    call.emulator.owners.set(&handle, owner)?;
    drop(handle);
    call.give(&file, how.flags)
}
