//! The folder of a context on the host: every path is opened beneath one descriptor, and no link is ever followed.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::stat_cache::FileKey;
use crate::tree::{self, Kind, Meta, Mtime, Node, TreePath};

/// The longest path given to one system call. Longer ones are walked in pieces.
const PIECE: usize = 4000;

/// The longest path in a context: what the kernel takes. Each level of a deep tree costs the way to it.
const LONGEST: usize = 4096;

/// Bytes of directory entries read by one call.
const DIRENTS: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct HostDir {
    root: OwnedFd,
    /// openat2(2) is not there.
    walks: AtomicBool,
}

/// What stat says about a file on the host.
#[derive(Debug, Clone)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) key: FileKey,
    mode: u32,
    nlink: u32,
    device: (u32, u32),
}

/// One file in a directory.
#[derive(Debug)]
pub(super) struct Listed<M> {
    pub(super) path: TreePath,
    pub(super) node: Node,
    /// What the filter said about it.
    pub(super) mark: M,
}

impl HostDir {
    /// Opens the folder `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(HostDir { root, walks: AtomicBool::new(false) })
    }

    /// Returns device and inode of the folder.
    pub(super) fn id(&self) -> io::Result<(u64, u64)> {
        let stat = stat_fd(self.root.as_fd())?;
        Ok((stat.key.device, stat.key.inode))
    }

    /// Returns what is at `path`; `None` where nothing is, or a parent is not a directory.
    pub(super) fn stat(&self, path: &TreePath) -> Result<Option<Stat>, tree::Error> {
        self.with_parent(path, |_, _, stat| Ok(stat))
    }

    /// Returns what is at `path`, as [`stat`](Self::stat), with the text of a link.
    pub(super) fn node(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        self.with_parent(path, |dir, name, stat| node(dir, name, &stat))
    }

    fn with_parent<T>(
        &self,
        path: &TreePath,
        then: impl FnOnce(BorrowedFd<'_>, &[u8], Stat) -> rustix::io::Result<T>,
    ) -> Result<Option<T>, tree::Error> {
        check_length(path)?;
        let found = || {
            let Some(name) = path.name() else {
                return then(self.root.as_fd(), b".", stat_in(self.root.as_fd(), b".")?);
            };
            let dir = self.open_dir(&path.parent().unwrap_or_default(), OFlags::PATH)?;
            then(dir.as_fd(), name, stat_in(dir.as_fd(), name)?)
        };
        match found() {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(tree::Error::in_context("look up", path, errno)),
        }
    }

    /// Returns the files in the directory `path` for which `filter` returns a mark, sorted by name. The filter is told
    /// the type as the directory has it, which may be [`FileType::Unknown`].
    pub(super) fn list<M>(
        &self,
        path: &TreePath,
        mut filter: impl FnMut(&TreePath, FileType) -> Option<M>,
    ) -> Result<Vec<Listed<(Stat, M)>>, tree::Error> {
        let dir = self
            .open_dir(path, OFlags::RDONLY)
            .map_err(|errno| tree::Error::in_context("read directory", path, errno))?;
        let mut buffer = [const { MaybeUninit::uninit() }; DIRENTS];
        let mut entries = RawDir::new(&dir, &mut buffer);
        let mut listed = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| tree::Error::in_context("read directory", path, errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let child = path.child(name.to_bytes());
            let Some(mark) = filter(&child, entry.file_type()) else { continue };
            check_length(&child)?;
            let found = stat_in(dir.as_fd(), name.to_bytes())
                .and_then(|stat| Ok((node(dir.as_fd(), name.to_bytes(), &stat)?, stat)));
            match found {
                Ok((node, stat)) => listed.push(Listed { path: child, node, mark: (stat, mark) }),
                // Removed since the directory was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(tree::Error::in_context("look up", &child, errno)),
            }
        }
        // All in one directory: the order of the paths is that of the names.
        listed.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        Ok(listed)
    }

    /// Opens the directory at `path`.
    pub(super) fn open_dir(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_beneath(path, flags | OFlags::DIRECTORY)
    }

    /// Opens the regular file at `path` for reading, and returns what stat says about it. A fifo or a device there is an
    /// error, and is not waited for.
    pub(super) fn open_file(&self, path: &TreePath) -> Result<(OwnedFd, Stat), tree::Error> {
        let regular = |stat: &Stat| {
            if stat.file_type == FileType::RegularFile {
                return Ok(());
            }
            let source = io::Error::new(io::ErrorKind::InvalidInput, format!("it is a {}", word(stat.file_type)));
            Err(tree::Error { call: "open", path: path.to_string(), source })
        };
        // Opening a device can do something; look first.
        regular(&self.stat(path)?.ok_or_else(|| tree::Error::in_context("open", path, Errno::NOENT))?)?;
        let file = self
            .open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(|errno| tree::Error::in_context("open", path, errno))?;
        let stat = stat_fd(file.as_fd()).map_err(|errno| tree::Error::in_context("look up", path, errno))?;
        regular(&stat)?;
        Ok((file, stat))
    }

    fn open_beneath(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut rest = if path.is_root() { b"." } else { path.as_bytes() };
        let mut dir: Option<OwnedFd> = None;
        loop {
            let at = dir.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            if rest.len() <= PIECE {
                return self.open_piece(at, rest, flags);
            }
            // A component has at most 255 bytes, so there is a slash.
            let end = rest[..PIECE].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            let next = self.open_piece(at, &rest[..end], OFlags::PATH | OFlags::DIRECTORY)?;
            dir = Some(next);
            rest = &rest[end + 1..];
        }
    }

    fn open_piece(&self, at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if !self.walks.load(Ordering::Relaxed) {
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(at, path, flags, Mode::empty(), inside) {
                Err(Errno::NOSYS) => self.walks.store(true, Ordering::Relaxed),
                // A sandbox may answer so to a call that it does not know.
                Err(Errno::PERM) => {}
                done => return done,
            }
        }
        walk(at, path, flags)
    }
}

/// Opens `path` component by component: what openat2(2) does where it is there.
fn walk(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut dir: Option<OwnedFd> = None;
    let mut parts = path.split(|&b| b == b'/').peekable();
    while let Some(part) = parts.next() {
        let here = dir.as_ref().map_or(at, AsFd::as_fd);
        if parts.peek().is_none() {
            return rustix::fs::openat(here, part, flags, Mode::empty());
        }
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = rustix::fs::openat(here, part, step, Mode::empty())?;
        dir = Some(next);
    }
    Err(Errno::NOENT)
}

/// Returns what stat says about `name` in `dir`; a link is not followed.
pub(super) fn stat_in(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    stat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Returns what stat says about an open file.
pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> rustix::io::Result<Stat> {
    stat(fd, b"", AtFlags::EMPTY_PATH)
}

fn stat(at: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> rustix::io::Result<Stat> {
    let stat = rustix::fs::statx(at, name, flags, StatxFlags::BASIC_STATS)?;
    let mode = u32::from(stat.stx_mode);
    Ok(Stat {
        file_type: FileType::from_raw_mode(mode),
        key: FileKey {
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        },
        mode: mode & 0o7777,
        nlink: stat.stx_nlink,
        device: (stat.stx_rdev_major, stat.stx_rdev_minor),
    })
}

/// Returns the file as COPY shall see it: owned by root, in whole seconds, without extended attributes (BuildKit drops
/// `user.*`, and a file capability of the host is nothing that a context should give to an image). A socket is an empty
/// file.
fn node(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> rustix::io::Result<Node> {
    let kind = match stat.file_type {
        FileType::RegularFile => Kind::File { size: stat.key.size, digest: None },
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink { target: rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes() },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Char { device: stat.device },
        FileType::BlockDevice => Kind::Block { device: stat.device },
        FileType::Socket | FileType::Unknown => Kind::File { size: 0, digest: None },
    };
    let linked = stat.file_type == FileType::RegularFile && stat.nlink > 1;
    Ok(Node {
        kind,
        meta: Meta { mode: stat.mode, mtime: Mtime::from_secs(stat.key.mtime.0), ..Meta::default() },
        inode: linked.then_some((stat.key.device, stat.key.inode)),
    })
}

fn check_length(path: &TreePath) -> Result<(), tree::Error> {
    let bytes = path.as_bytes();
    if bytes.len() <= LONGEST {
        return Ok(());
    }
    let part = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let shown = format!("{}…{}", part(&bytes[..60]), part(&bytes[bytes.len() - 60..]));
    let source = io::Error::other(format!("the path has {} bytes, more than {LONGEST}", bytes.len()));
    Err(tree::Error { call: "read", path: shown, source })
}

/// Returns the word for a type of file.
pub(super) fn word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "file of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_without_openat2_gives_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        std::fs::write(dir.path().join("a/b/c"), "x").expect("written");
        std::os::unix::fs::symlink("b", dir.path().join("a/link")).expect("linked");
        for walks in [false, true] {
            let host = HostDir::open(dir.path()).expect("opened");
            host.walks.store(walks, Ordering::Relaxed);
            let path = |text: &str| TreePath::new(text).expect("a good path");
            assert!(host.open_file(&path("a/b/c")).is_ok());
            assert!(host.open_file(&path("a/link/c")).is_err(), "no link is followed");
            assert!(host.stat(&path("a/link/c")).expect("looked").is_none());
            assert!(host.stat(&path("a/b/c/d")).expect("looked").is_none());
            assert!(host.stat(&path("nothing/at/all")).expect("looked").is_none());
            assert!(host.open_dir(&TreePath::root(), OFlags::RDONLY).is_ok());
        }
    }
}
