//! Finds the file that a process means by a path. Two ways lead there. A process that may go anywhere, and has the root that
//! this one has, is answered by the kernel: its path is read here as it would be there (the working directory is /proc, so
//! "PID/cwd/x" and "PID/fd/3/x" are paths). For all others, each component is looked at: whether the emulated user may
//! pass, and where links lead in the root of the process.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno as E;

use super::Emulator;
use super::access::Want;
use super::call::{At, Call, PATH_MAX};
use super::credentials::{Cap, Credentials};
use super::owners::{stat_fd, stat_of};
use super::{older, proc};
use crate::error::Errno;

/// Symbolic links on one path at the most, as in the kernel.
const MOST_LINKS: u32 = 40;

/// File systems of what has no path (linux/magic.h).
const PIPEFS: i64 = 0x5049_5045;
const SOCKFS: i64 = 0x534F_434B;
const ANON_INODES: i64 = 0x0904_1934;
/// That of memfd_create(2), among others.
const TMPFS: i64 = 0x0102_1994;

/// A file, held by O_PATH.
#[derive(Debug)]
pub(super) struct Handle {
    fd: OwnedFd,
    stat: Stat,
    /// Whether it was found by a link of /proc, which leads to files that have no path.
    by_magic: bool,
    /// Whether the way to it leads through something that is not in the root of the step.
    by_outside: bool,
}

impl Handle {
    fn of(fd: OwnedFd) -> Result<Self, Errno> {
        let stat = stat_fd(&fd)?;
        Ok(Handle { fd, stat, by_magic: false, by_outside: false })
    }

    pub(super) fn open(name: impl rustix::path::Arg, dir: BorrowedFd<'_>, flags: OFlags) -> Result<Self, Errno> {
        let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())?;
        Handle::of(fd)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns a handle of an open file.
    pub(super) fn adopt(fd: OwnedFd) -> Result<Self, Errno> {
        Handle::of(fd)
    }

    /// Returns the same file, looked at again.
    pub(super) fn again(&self) -> Result<Self, Errno> {
        let Handle { by_magic, by_outside, .. } = *self;
        Ok(Handle { by_magic, by_outside, ..Handle::of(self.fd.try_clone()?)? })
    }

    /// What the file was when it was found.
    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(super) fn by_magic(&self) -> bool {
        self.by_magic
    }

    pub(super) fn by_outside(&self) -> bool {
        self.by_outside
    }

    /// Returns whether the file has no place in any file system: a pipe, a socket, memory.
    pub(super) fn is_anonymous(&self) -> bool {
        if !self.by_magic {
            return false;
        }
        match rustix::fs::fstatfs(&self.fd).map(|fs| fs.f_type) {
            Ok(PIPEFS | SOCKFS | ANON_INODES) => true,
            Ok(TMPFS) => self.stat.st_nlink == 0,
            _ => false,
        }
    }

    pub(super) fn is(&self, other: &Handle) -> bool {
        (self.stat.st_dev, self.stat.st_ino) == (other.stat.st_dev, other.stat.st_ino)
    }

    /// Returns a path of this very file, for calls that take no O_PATH descriptor.
    pub(super) fn name(&self) -> CString {
        use std::os::fd::AsRawFd;
        CString::new(format!("self/fd/{}", self.fd.as_raw_fd())).expect("digits")
    }

    /// Opens the file that `name`, one component, is in this directory; a link as a link.
    pub(super) fn child(&self, name: &[u8]) -> Result<Self, Errno> {
        Handle::open(name, self.fd(), OFlags::NOFOLLOW)
    }
}

/// What to do where the last component is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

impl Last {
    pub(super) fn unless(keep: bool) -> Self {
        if keep { Last::Keep } else { Last::Follow }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Found {
    /// The directory of the last component.
    pub(super) dir: Rc<Handle>,
    /// The last component, without slashes; `None` where it is `.`, `..` or there is none.
    pub(super) name: Option<Vec<u8>>,
    /// The file, where there is one.
    pub(super) file: Option<Rc<Handle>>,
    /// Whether a slash follows the name, which only a directory may have.
    pub(super) slash: bool,
}

impl Found {
    /// Returns the file.
    pub(super) fn file(self) -> Result<Rc<Handle>, Errno> {
        let file = self.file.ok_or(E::NOENT)?;
        if self.slash && !file.is_dir() { Err(E::NOTDIR.into()) } else { Ok(file) }
    }
}

impl Call<'_> {
    /// Returns a path by which the kernel finds here what it finds there; `None` where the other way must be gone.
    pub(super) fn name_here(&self, user: &Credentials, at: &At) -> Option<CString> {
        if !self.means_here_what_there(user, at) {
            return None;
        }
        let name = match (at.path.first(), at.dir) {
            (Some(b'/'), _) => at.path.clone(),
            _ => {
                let mut name = self.start_name(at.dir).into_bytes();
                if !at.path.is_empty() {
                    name.push(b'/');
                    name.extend_from_slice(&at.path);
                }
                name
            }
        };
        let name = (name.len() < PATH_MAX).then(|| CString::new(name).ok()).flatten()?;
        if self.may_lead_outside(&name) { None } else { Some(name) }
    }

    /// Returns whether nothing on the way is other for `user` than for this process. The way may lead outside nevertheless.
    fn means_here_what_there(&self, user: &Credentials, at: &At) -> bool {
        user.may(Cap::DAC_OVERRIDE)
            && !at.in_dir
            && !proc::is_special(&at.path)
            && !self.has_other_root()
            && !self.may_have_left()
    }

    /// Returns whether a process of the step may be outside of its root: in a chroot, after a second one.
    fn may_have_left(&self) -> bool {
        self.emulator.outside.is_some() && self.emulator.chrooted.load(Ordering::Acquire)
    }

    /// Returns a file that was found in the hands of a process, not by a path. Whoever has left the root of the step does outside what
    /// the kernel lets them do, within their Landlock domain; this process is in none, and does nothing there.
    fn within_reach(&self, file: Handle) -> Result<Handle, Errno> {
        if !self.may_have_left() || self.emulator.proc.has(&file) {
            return Ok(file);
        }
        let is_within = match file.kind() {
            FileType::Directory => older::is_below(&file, &self.emulator.root.0),
            FileType::RegularFile | FileType::Symlink => file.is_anonymous() || self.has_name_of(&file),
            _ => true,
        };
        if is_within { Ok(file) } else { Err(E::ACCESS.into()) }
    }

    /// Returns whether a file has a name in the root of the step, or had one.
    fn has_name_of(&self, file: &Handle) -> bool {
        let named = rustix::fs::readlink(file.name(), Vec::new()).map_err(Errno::from);
        let is_there =
            named.and_then(|path| Handle::open(path, CWD, OFlags::NOFOLLOW)).is_ok_and(|found| found.is(file));
        is_there || file.stat.st_nlink == 0 && file.stat.st_dev == self.emulator.root.stat().st_dev
    }

    /// Returns whether the file at `at`, if there is one, is for the kernel to open: `user` may open all of them, and none
    /// is a device.
    pub(super) fn is_plainly_opened(&self, user: &Credentials, at: &At) -> bool {
        let Emulator { may_have_devices, outside, .. } = self.emulator;
        outside.is_none() && !may_have_devices.load(Ordering::Acquire) && self.means_here_what_there(user, at)
    }

    /// The path of a descriptor of the process, or of its working directory.
    fn start_name(&self, dir: i32) -> String {
        let pid = self.pid().as_raw_nonzero();
        if dir == libc::AT_FDCWD { format!("{pid}/cwd") } else { format!("{pid}/fd/{dir}") }
    }

    fn root_name(&self) -> String {
        format!("{}/root", self.pid().as_raw_nonzero())
    }

    pub(super) fn has_other_root(&self) -> bool {
        if !self.emulator.chrooted.load(Ordering::Acquire) {
            return false;
        }
        let root = self.emulator.root.stat();
        let theirs = rustix::fs::stat(self.root_name());
        !theirs.is_ok_and(|theirs| (theirs.st_dev, theirs.st_ino) == (root.st_dev, root.st_ino))
    }

    /// Returns the file that a descriptor of the process, or its working directory, is.
    pub(super) fn opened(&self, dir: i32) -> Result<Rc<Handle>, Errno> {
        let bad = |errno: Errno| if errno.is(E::NOENT) { E::BADF.into() } else { errno };
        let mut handle = Handle::open(self.start_name(dir), CWD, OFlags::empty()).map_err(bad)?;
        handle.by_magic = true;
        self.within_reach(handle).map(Rc::new)
    }

    /// Returns the file that `at` means. It is there, and `user` may go there.
    pub(super) fn find(&self, user: &Credentials, at: &At, last: Last) -> Result<Rc<Handle>, Errno> {
        if at.path.is_empty() {
            return self.opened(at.dir);
        }
        if let Some(name) = self.name_here(user, at) {
            let flags = if last == Last::Keep { OFlags::NOFOLLOW } else { OFlags::empty() };
            match Handle::open(name, CWD, flags) {
                // What else is found may have been found by a link into /proc, where it is a file of this process.
                Ok(file) if file.stat.st_dev == self.emulator.root.stat().st_dev => return Ok(Rc::new(file)),
                Err(errno) if !errno.is(E::NOENT) => return Err(errno),
                _ => {}
            }
            return self.walk(user, at, last)?.file().map_err(|errno| self.or_bad_start(at, errno));
        }
        self.walk(user, at, last)?.file()
    }

    /// A path from a descriptor that is none does not lead nowhere: it starts there.
    fn or_bad_start(&self, at: &At, errno: Errno) -> Errno {
        let is_relative = at.path.first() != Some(&b'/') && at.dir != libc::AT_FDCWD;
        if is_relative && errno.is(E::NOENT) && stat_of(self.start_name(at.dir)).is_err() {
            return E::BADF.into();
        }
        errno
    }

    /// Returns the directory of the last component of `at`, and what the name in it is. `user` may go there.
    pub(super) fn find_place(&self, user: &Credentials, at: &At, last: Last) -> Result<Found, Errno> {
        let quick = match split(&at.path) {
            Some((parent, name, slash)) if !proc::is_special(&at.path) => {
                let parent = at.with(parent);
                self.name_here(user, &parent).map(|here| (here, name, slash))
            }
            _ => None,
        };
        let quick = quick.and_then(|(here, name, slash)| match Handle::open(here, CWD, OFlags::DIRECTORY) {
            Ok(dir) if dir.stat.st_dev == self.emulator.root.stat().st_dev => Some(Ok((dir, name, slash))),
            // Perhaps by a link into /proc: see `find`.
            Ok(_) => None,
            Err(errno) if errno.is(E::NOENT) => None,
            Err(errno) => Some(Err(self.or_bad_start(at, errno))),
        });
        if let Some(found) = quick {
            let (dir, name, slash) = found?;
            let dir = Rc::new(dir);
            let file = match dir.child(name) {
                Ok(file) => Some(file),
                Err(errno) if errno.is(E::NOENT) => None,
                Err(errno) => return Err(errno),
            };
            let is_link = file.as_ref().is_some_and(|file| file.kind() == FileType::Symlink);
            if !(is_link && (last == Last::Follow || slash)) {
                return Ok(Found { dir, name: Some(name.to_vec()), file: file.map(Rc::new), slash });
            }
        }
        self.walk(user, at, last)
    }

    /// Goes along the path, one component after the other.
    fn walk(&self, user: &Credentials, at: &At, last: Last) -> Result<Found, Errno> {
        let root = match self.has_other_root() {
            true => Rc::new(self.within_reach(Handle::open(self.root_name(), CWD, OFlags::DIRECTORY)?)?),
            false => self.emulator.root.clone_handle()?,
        };
        let (root, start) = match at.path.first() {
            _ if at.in_dir => {
                let dir = self.opened(at.dir)?;
                (dir.clone(), dir)
            }
            Some(b'/') => (root.clone(), root),
            _ => (root, self.opened(at.dir)?),
        };
        let instead = self.instead_of(&start)?;
        let goes_outside = instead.is_some();
        let dir = instead.map_or(start, Rc::new);
        let mut walk =
            Walk { call: self, user, root, dir, rest: VecDeque::new(), links: 0, slash: false, goes_outside };
        walk.follow(&at.path, true);
        walk.run(last)
    }
}

/// The directory at which all paths of a step start; shared by the threads of the emulator.
#[derive(Debug)]
pub(super) struct Root(Handle, Option<u64>);

impl Root {
    pub(super) fn open() -> Result<Self, Errno> {
        let root = Handle::open("/", CWD, OFlags::DIRECTORY)?;
        let mount = older::mount_of(&root);
        Ok(Root(root, mount))
    }

    /// The number of its mount, where the kernel tells it.
    pub(super) fn mount(&self) -> Option<u64> {
        self.1
    }

    pub(super) fn stat(&self) -> &Stat {
        self.0.stat()
    }

    fn clone_handle(&self) -> Result<Rc<Handle>, Errno> {
        let fd = self.0.fd.try_clone().map_err(Errno::from)?;
        Ok(Rc::new(Handle { fd, stat: self.0.stat, by_magic: false, by_outside: false }))
    }
}

struct Walk<'c, 'e> {
    call: &'c Call<'e>,
    user: &'c Credentials,
    root: Rc<Handle>,
    dir: Rc<Handle>,
    /// The components to go.
    rest: VecDeque<Vec<u8>>,
    links: u32,
    /// Whether the last component has to be a directory.
    slash: bool,
    /// Whether the way has left the root of the step.
    goes_outside: bool,
}

impl Walk<'_, '_> {
    /// Puts the components of `path` in front of those to go.
    fn follow(&mut self, path: &[u8], is_end: bool) {
        self.slash |= is_end && path.last() == Some(&b'/');
        for component in path.split(|byte| *byte == b'/').rev().filter(|component| !component.is_empty()) {
            self.rest.push_front(component.to_vec());
        }
    }

    fn run(mut self, last: Last) -> Result<Found, Errno> {
        while let Some(component) = self.rest.pop_front() {
            if !self.dir.is_dir() {
                return Err(E::NOTDIR.into());
            }
            self.call.check(self.user, &self.dir, Want::SEARCH)?;
            match &component[..] {
                b"." => {}
                b".." if self.dir.is(&self.root) => {}
                b".." if self.call.emulator.outside.is_some() && self.call.emulator.proc.is_root(&self.dir) => {
                    self.dir = self.root.clone();
                }
                b".." => self.dir = Rc::new(Handle::open("..", self.dir.fd(), OFlags::DIRECTORY)?),
                _ => {
                    let is_last = self.rest.is_empty();
                    let instead = self.call.instead(&self.root, &self.dir, &component)?;
                    self.goes_outside |= instead.is_some();
                    let file = match instead.map_or_else(|| self.dir.child(&component), Ok) {
                        Err(errno) if is_last && errno.is(E::NOENT) => {
                            let Walk { dir, slash, .. } = self;
                            return Ok(Found { dir, name: Some(component), file: None, slash });
                        }
                        file => Handle { by_outside: self.goes_outside, ..file? },
                    };
                    let follows = !is_last || last == Last::Follow || self.slash;
                    if file.kind() == FileType::Symlink && follows {
                        self.link(&file, &component, is_last)?;
                    } else if is_last {
                        let Walk { dir, slash, .. } = self;
                        return Ok(Found { dir, name: Some(component), file: Some(Rc::new(file)), slash });
                    } else {
                        self.dir = Rc::new(file);
                    }
                    continue;
                }
            }
        }
        let Walk { dir, slash, goes_outside, .. } = self;
        let file = if goes_outside { Rc::new(Handle { by_outside: true, ..dir.again()? }) } else { dir.clone() };
        Ok(Found { file: Some(file), dir, name: None, slash })
    }

    /// Goes on where a link leads.
    fn link(&mut self, link: &Handle, name: &[u8], is_last: bool) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(E::LOOP.into());
        }
        if self.call.emulator.proc.is_magic(&self.dir) {
            // Not a path but a file: of this very process, or another one.
            self.call.check_link(self.user, link)?;
            let mut file = Handle::open(name, self.dir.fd(), OFlags::empty())?;
            file.by_magic = true;
            self.dir = Rc::new(self.call.within_reach(file)?);
            return Ok(());
        }
        let target = match self.call.emulator.proc.link_to_self(self.call, &self.dir, name)? {
            Some(target) => target,
            None => rustix::fs::readlinkat(link.fd(), "", Vec::new())?.into_bytes(),
        };
        if target.is_empty() {
            return Err(E::NOENT.into());
        }
        if target.first() == Some(&b'/') {
            self.dir = self.root.clone();
        }
        self.follow(&target, is_last);
        Ok(())
    }
}

/// Returns the path before the last component, that component, and whether a slash follows it; `None` where the last one
/// is no name.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = &path[start..end];
    if matches!(name, b"." | b"..") {
        return None;
    }
    Some((&path[..start], name, end < path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        for (path, expected) in [
            ("a", Some(("", "a", false))),
            ("/a", Some(("/", "a", false))),
            ("a/b/", Some(("a/", "b", true))),
            ("/a//b//", Some(("/a//", "b", true))),
            ("", None),
            ("/", None),
            ("a/.", None),
            ("a/../", None),
            ("...", Some(("", "...", false))),
        ] {
            let expected =
                expected.map(|(parent, name, slash): (&str, &str, _)| (parent.as_bytes(), name.as_bytes(), slash));
            assert_eq!(split(path.as_bytes()), expected, "{path}");
        }
    }
}
