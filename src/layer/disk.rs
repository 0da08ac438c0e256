//! A layer's tree on disk.

mod contents;
mod dirs;
mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::LayerError;
use crate::tree::{Entry, FileDigest, Kind, Mtime, Owners, TreePath};
pub(super) use dirs::Dirs;

/// A layer's tree on disk that is being made.
///
/// Every file is made relative to the descriptor of its parent directory, and every directory is opened without
/// following a symbolic link: whatever an image holds, nothing outside of the tree is touched. Parents must exist
/// already, as real directories. Nobody else may write to the tree meanwhile.
///
/// Directories are open to the caller (0700) until [`finish`](DiskTree::finish) gives them their mode.
///
/// On a file system without extended attributes, and where a caller without privileges may not set them, those of the image are
/// only in the index.
///
/// A device is an empty regular file with the attribute [`XATTR`](coracle_runtime::owner::XATTR); where that cannot be set,
/// it is only in the index, too.
#[derive(Debug)]
pub struct DiskTree {
    dirs: Dirs,
    owners: Owners,
    /// Mode and time that a directory gets in the end.
    pending: BTreeMap<TreePath, (u32, Mtime)>,
    /// Devices that are not on disk: there can be hard links to them.
    unmade: BTreeSet<TreePath>,
    copier: contents::Copier,
}

/// What a file holds, for [`DiskTree::create`].
pub enum Contents<'a> {
    /// Nothing: an empty file, or no regular file.
    None,
    /// What can be read from here, to the end.
    Reader(&'a mut dyn Read),
    /// All of this file, whatever its position.
    File(&'a File),
    /// The regular file at this path of the host, which nobody needs any more and nobody else can write to: it becomes the new
    /// one, where that is possible, else it is copied. It must not have extended attributes that the entry lacks.
    Spare(&'a Path),
}

impl std::fmt::Debug for Contents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Contents::None => "None",
            Contents::Reader(_) => "Reader",
            Contents::File(_) => "File",
            Contents::Spare(_) => "Spare",
        })
    }
}

/// A file's bits while it is made.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

impl DiskTree {
    /// Opens the tree at `dir`, which exists and is empty, or a tree that was made in this way before.
    ///
    /// # Errors
    /// [`LayerError::Open`].
    pub fn open(dir: &Path, owners: Owners) -> Result<Self, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())
            .and_then(|root| owner::take(&root, owners).map(|()| root))
            .map_err(|source| LayerError::Open { dir: dir.to_path_buf(), source: source.into() })?;
        Ok(DiskTree {
            dirs: Dirs::new(root),
            owners,
            pending: BTreeMap::new(),
            unmade: BTreeSet::new(),
            copier: contents::Copier::default(),
        })
    }

    /// Makes the file that `entry` describes and replaces what was there; a directory that was there is kept and gets
    /// the new attributes. Returns the SHA-256 of the contents where they came from a [`Contents::Reader`].
    ///
    /// A [`Kind::Whiteout`] becomes a character device 0:0, as overlayfs has it, but with [`Owners::Caller`]. [`Kind::Char`] and [`Kind::Block`] become
    /// files that stand for them. A [`Kind::Hardlink`] shares the attributes of its target, whatever `entry` says.
    ///
    /// # Errors
    /// [`LayerError::Io`] for what the system refuses, [`LayerError::UnmappedOwner`], and [`LayerError::Length`] where the
    /// contents are not as long as the entry says.
    pub fn create(&mut self, entry: &Entry, contents: Contents<'_>) -> Result<Option<FileDigest>, LayerError> {
        let path = &entry.path;
        let Some(name) = path.name() else {
            return self.update_root(entry).map(|()| None);
        };
        match &entry.kind {
            Kind::File { size, .. } => return self.create_file(entry, *size, contents),
            Kind::Dir => self.create_dir(entry)?,
            Kind::Symlink { target } => {
                self.replacing(path, "create the symbolic link", |dir| {
                    rustix::fs::symlinkat(target.as_slice(), dir, name)
                })?;
                self.attributes_at(entry, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Kind::Fifo => {
                self.replacing(path, "create the fifo", |dir| {
                    rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(PRIVATE_FILE), 0)
                })?;
                self.attributes_at(entry, AtFlags::empty())?;
            }
            // Nothing is mounted there, and old kernels make no such device for an ordinary user: the index says it.
            Kind::Whiteout if self.owners == Owners::Caller => self.remove(path)?,
            Kind::Whiteout => self.replacing(path, "create the whiteout of", |dir| {
                let dev: Dev = rustix::fs::makedev(0, 0);
                match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), dev) {
                    // Overlayfs refuses to have such a device in it. Nothing can be mounted upon it either.
                    Err(Errno::PERM) => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) => Err(Errno::EXIST),
                        Err(_) => Ok(()),
                    },
                    result => result,
                }
            })?,
            Kind::Hardlink { target } => self.create_hardlink(path, target)?,
            Kind::Char { .. } | Kind::Block { .. } => self.create_device(entry)?,
        }
        Ok(None)
    }

    /// Removes whatever is at `path`, with all below it; nothing there is no error. The root cannot be removed.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn remove(&mut self, path: &TreePath) -> Result<(), LayerError> {
        self.forget(path);
        self.dirs.remove(path).map_err(|error| io_error("remove", path, error))
    }

    /// Gives the file or directory at `path` the time `mtime`; a link itself, not what it leads to. Nothing there is no
    /// error.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn set_time(&mut self, path: &TreePath, mtime: Mtime) -> Result<(), LayerError> {
        let fail = |error| io_error("set the time of", path, error);
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            let root = self.dirs.open(path).map_err(fail)?;
            return rustix::fs::futimens(&root, &times(mtime)).map_err(fail);
        };
        let set = self
            .dirs
            .parent(&parent)
            .and_then(|dir| rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW));
        match set {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            result => result.map_err(fail),
        }
    }

    /// Gives all directories their mode and time, deepest first.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn finish(mut self) -> Result<(), LayerError> {
        for (path, (mode, mtime)) in std::mem::take(&mut self.pending).iter().rev() {
            let mode = if self.owners == Owners::Caller { PRIVATE_DIR } else { *mode };
            let result = self.dirs.open(path).and_then(|dir| {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
                rustix::fs::futimens(&dir, &times(*mtime))
            });
            result.map_err(|error| io_error("set the attributes of", path, error))?;
        }
        Ok(())
    }

    /// Gives the file at `entry.path`, which is no directory, the attributes of `entry`.
    pub(super) fn set_attributes(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let (path, call) = (&entry.path, "set the attributes of");
        let fail = |error| io_error(call, path, error);
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Ok(());
        };
        if self.unmade.contains(path) {
            return Ok(());
        }
        let dir = self.dirs.parent(&parent).map_err(fail)?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // Its mode may forbid even its owner to open it.
                rustix::fs::chmodat(dir, name, Mode::from_raw_mode(PRIVATE_FILE), AtFlags::empty()).map_err(fail)?;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(fail)?;
                self.attributes(file.as_fd(), entry, owner::Before::Known)
            }
            FileType::Symlink => self.attributes_at(entry, AtFlags::SYMLINK_NOFOLLOW),
            _ => self.attributes_at(entry, AtFlags::empty()),
        }
    }

    fn create_file(
        &mut self,
        entry: &Entry,
        size: u64,
        contents: Contents<'_>,
    ) -> Result<Option<FileDigest>, LayerError> {
        let (path, name) = (&entry.path, entry.path.name().unwrap_or_default());
        if let Contents::Spare(spare) = contents
            && self.take(entry, spare)?
        {
            return Ok(None);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .replacing(path, "create", |dir| rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(PRIVATE_FILE)))?;
        let written = match contents {
            Contents::Spare(spare) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(CWD, spare, flags, Mode::empty());
                let source = source.map_err(|error| io_error("read the contents of", path, error))?;
                self.copier.clone_file(&File::from(source), &file, path)?
            }
            Contents::None => contents::Written { length: 0, digest: None },
            Contents::Reader(reader) => self.copier.stream(reader, &file, path)?,
            Contents::File(source) => self.copier.clone_file(source, &file, path)?,
        };
        if written.length != size {
            return Err(LayerError::Length { path: path.clone(), expected: size, found: written.length });
        }
        self.attributes(file.as_fd(), entry, owner::Before::New)?;
        Ok(written.digest)
    }

    /// Gives the file `spare` the place and the attributes of `entry`. Returns whether that was possible.
    fn take(&mut self, entry: &Entry, spare: &Path) -> Result<bool, LayerError> {
        let (path, name) = (&entry.path, entry.path.name().unwrap_or_default());
        let linked = self.replacing(path, "create", |dir| {
            match rustix::fs::linkat(CWD, spare, dir, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                // The reasons that another file of the same tree may not have.
                Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::NAMETOOLONG | Errno::OPNOTSUPP) => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        if linked {
            self.set_attributes(entry)?;
        }
        Ok(linked)
    }

    /// Makes the empty file that stands for a device.
    fn create_device(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let (path, name) = (&entry.path, entry.path.name().unwrap_or_default());
        if self.owners == Owners::Exported {
            return self.leave_out(path);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .replacing(path, "create", |dir| rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(PRIVATE_FILE)))?;
        match self.attributes(file.as_fd(), entry, owner::Before::New) {
            Err(LayerError::NoAttributes { .. }) => self.leave_out(path),
            result => result,
        }
    }

    /// Makes no file at `path`, and remembers that there should be one.
    fn leave_out(&mut self, path: &TreePath) -> Result<(), LayerError> {
        let parent = path.parent().unwrap_or_default();
        self.dirs.parent(&parent).map_err(|error| io_error("create", path, error))?;
        self.remove(path)?;
        self.unmade.insert(path.clone());
        Ok(())
    }

    fn create_dir(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let (path, name) = (&entry.path, entry.path.name().unwrap_or_default());
        let fail = |error| io_error("create the directory", path, error);
        let parent = path.parent().unwrap_or_default();
        let private = Mode::from_raw_mode(PRIVATE_DIR);
        let dir = self.dirs.parent(&parent).map_err(fail)?;
        let mut was_there = false;
        match rustix::fs::mkdirat(dir, name, private) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    was_there = true;
                    rustix::fs::chmodat(dir, name, private, AtFlags::empty()).map_err(fail)?;
                } else {
                    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(fail)?;
                    rustix::fs::mkdirat(dir, name, private).map_err(fail)?;
                }
            }
            Err(error) => return Err(fail(error)),
        }
        self.unmade.remove(path);
        if let Owners::Native = self.owners {
            let dir = self.dirs.parent(&parent).map_err(fail)?;
            owner::chown_at(dir, entry)?;
        }
        let noted = self.owners == Owners::Emulated && (was_there || !owner::of(entry).is_default());
        if noted || !entry.meta.xattrs.is_empty() {
            let dir = self.dirs.open(path).map_err(fail)?;
            if noted {
                owner::note(dir.as_fd(), entry, owner::Before::Known)?;
            }
            self.xattrs(dir.as_fd(), entry)?;
        }
        self.pending.insert(path.clone(), (entry.meta.mode, entry.meta.mtime));
        Ok(())
    }

    fn update_root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if !entry.kind.is_dir() {
            return Err(LayerError::RootNotDir { kind: entry.kind.word() });
        }
        let fail = |error| io_error("set the attributes of", &entry.path, error);
        let root = self.dirs.open(&entry.path).map_err(fail)?;
        owner::set(root.as_fd(), entry, self.owners, owner::Before::Known)?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(PRIVATE_DIR)).map_err(fail)?;
        self.xattrs(root.as_fd(), entry)?;
        self.pending.insert(entry.path.clone(), (entry.meta.mode, entry.meta.mtime));
        Ok(())
    }

    fn create_hardlink(&mut self, path: &TreePath, target: &TreePath) -> Result<(), LayerError> {
        let fail = |error| io_error("create the hard link", path, error);
        if path == target {
            return Ok(());
        }
        if self.unmade.contains(target) {
            self.remove(path)?;
            self.unmade.insert(path.clone());
            return Ok(());
        }
        let (name, target_name) = (path.name().unwrap_or_default(), target.name().unwrap_or_default());
        // The parent of the target by a descriptor of its own: the cache holds that of the link.
        let from: Option<OwnedFd> = match target.parent() {
            Some(parent) if Some(&parent) != path.parent().as_ref() => Some(self.dirs.open(&parent).map_err(fail)?),
            _ => None,
        };
        self.replacing(path, "create the hard link", |dir| {
            let from = from.as_ref().map_or(dir, AsFd::as_fd);
            rustix::fs::linkat(from, target_name, dir, name, AtFlags::empty())
        })
    }

    /// Calls `make` with the parent of `path`, once more after removing what stands in its way.
    fn replacing<T>(
        &mut self,
        path: &TreePath,
        call: &'static str,
        mut make: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let fail = |error| io_error(call, path, error);
        let parent = path.parent().unwrap_or_default();
        self.unmade.remove(path);
        let mut result = make(self.dirs.parent(&parent).map_err(fail)?);
        if matches!(result, Err(Errno::EXIST)) {
            self.remove(path)?;
            result = make(self.dirs.parent(&parent).map_err(fail)?);
        }
        result.map_err(fail)
    }

    /// Drops what is known about `path` and all below.
    fn forget(&mut self, path: &TreePath) {
        let below = |p: &&TreePath| p.starts_with(path);
        let dirs: Vec<TreePath> = self.pending.range(path..).map(|(p, _)| p).take_while(below).cloned().collect();
        for path in &dirs {
            self.pending.remove(path);
        }
        let unmade: Vec<TreePath> = self.unmade.range(path..).take_while(below).cloned().collect();
        for path in &unmade {
            self.unmade.remove(path);
        }
    }

    /// Sets owner, mode, extended attributes and time of an open file, in the order that keeps all of them: chown(2)
    /// takes setuid bits and capabilities away.
    fn attributes(&self, file: BorrowedFd<'_>, entry: &Entry, before: owner::Before) -> Result<(), LayerError> {
        let fail = |error| io_error("set the attributes of", &entry.path, error);
        owner::set(file, entry, self.owners, before)?;
        self.xattrs(file, entry)?;
        rustix::fs::fchmod(file, self.mode(entry)).map_err(fail)?;
        rustix::fs::futimens(file, &times(entry.meta.mtime)).map_err(fail)
    }

    /// Sets owner, mode (where `flags` do not speak of a link) and time of what cannot be opened. Nobody else writes
    /// here, so that it still is what was just made.
    fn attributes_at(&mut self, entry: &Entry, flags: AtFlags) -> Result<(), LayerError> {
        let fail = |error| io_error("set the attributes of", &entry.path, error);
        let name = entry.path.name().unwrap_or_default();
        let mode = self.mode(entry);
        let dir = self.dirs.parent(&entry.path.parent().unwrap_or_default()).map_err(fail)?;
        if let Owners::Native = self.owners {
            owner::chown_at(dir, entry)?;
        }
        if flags.is_empty() {
            rustix::fs::chmodat(dir, name, mode, flags).map_err(fail)?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    /// The mode on disk of a file that is no directory.
    fn mode(&self, entry: &Entry) -> Mode {
        let is_device = matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. });
        Mode::from_raw_mode(match self.owners {
            Owners::Caller => PRIVATE_FILE,
            Owners::Emulated if is_device => PRIVATE_FILE,
            _ => entry.meta.mode,
        })
    }

    fn xattrs(&self, file: BorrowedFd<'_>, Entry { path, meta, .. }: &Entry) -> Result<(), LayerError> {
        for (name, value) in &meta.xattrs {
            match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if matches!(self.owners, Owners::Caller | Owners::Exported) => {}
                Err(error) => return Err(io_error("set an extended attribute of", path, error)),
            }
        }
        Ok(())
    }
}

fn io_error(call: &'static str, path: &TreePath, error: impl Into<io::Error>) -> LayerError {
    LayerError::Io { call, path: path.clone(), source: error.into() }
}

fn times(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;
