//! What the files of a tree were at one moment.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::disk::Dirs;
use crate::tree::{Error, TreePath};

/// What the files of a tree were at one moment, to find out later which of them changed. The kernel gives a file another
/// time of change (ctime) with whatever is done to it, and no program can set that.
#[derive(Debug, Default)]
pub struct Record {
    files: BTreeMap<TreePath, Seen>,
    /// Sockets and devices 0:0, which no layer can have.
    unfit: Vec<TreePath>,
}

/// A file as lstat(2) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) inode: (u64, u64),
    /// Type and permissions.
    pub(super) mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Seen {
            inode: (stat.st_dev, stat.st_ino),
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            device: stat.st_rdev,
            size: stat.st_size.unsigned_abs(),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode).is_dir()
    }

    /// Whether, as far as can be told, nobody wrote to the file since it was `other`.
    pub(super) fn has_same_bytes(&self, other: &Seen) -> bool {
        (self.size, self.mtime) == (other.size, other.mtime)
    }

    /// Whether this is `other`, but for its names: to give a file a name or to take one away changes its ctime too.
    pub(super) fn is_same_file(&self, other: &Seen) -> bool {
        Seen { ctime: (0, 0), ..*self } == Seen { ctime: (0, 0), ..*other }
    }
}

impl Record {
    /// Returns what is in the folder `tree` now, its root included. Nobody may change it meanwhile.
    ///
    /// # Errors
    /// [`Error`] where a folder cannot be read.
    pub fn of(tree: &Path) -> Result<Self, Error> {
        let mut record = Record::default();
        let mut dirs = open(tree)?;
        let root = dirs.open(&TreePath::root()).and_then(|root| rustix::fs::fstat(&root));
        record.files.insert(
            TreePath::root(),
            Seen::of(&root.map_err(|errno| Error::in_image("stat", &TreePath::root(), errno))?),
        );
        let mut todo = vec![TreePath::root()];
        while let Some(dir) = todo.pop() {
            let fd = dirs.open(&dir).map_err(|errno| Error::in_image("open directory", &dir, errno))?;
            record.list(&dir, &fd, &mut todo)?;
        }
        Ok(record)
    }

    fn list(&mut self, dir: &TreePath, fd: &OwnedFd, todo: &mut Vec<TreePath>) -> Result<(), Error> {
        let read = |errno| Error::in_image("read directory", dir, errno);
        for item in Dir::read_from(fd).map_err(read)? {
            let item = item.map_err(read)?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = dir.child(name);
            let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| Error::in_image("stat", &path, errno))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Socket => self.unfit.push(path),
                FileType::CharacterDevice if stat.st_rdev == 0 => self.unfit.push(path),
                kind => {
                    if kind.is_dir() {
                        todo.push(path.clone());
                    }
                    self.files.insert(path, Seen::of(&stat));
                }
            }
        }
        Ok(())
    }

    /// Looks at the files `paths` in the folder `tree` once more; those that are gone are forgotten.
    ///
    /// # Errors
    /// [`Error`] where a folder cannot be read.
    pub fn renew<'a>(&mut self, tree: &Path, paths: impl Iterator<Item = &'a TreePath>) -> Result<(), Error> {
        let mut dirs = open(tree)?;
        for path in paths {
            let stat = match (path.parent(), path.name()) {
                (Some(parent), Some(name)) => {
                    dirs.parent(&parent).and_then(|dir| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))
                }
                _ => dirs.open(path).and_then(|root| rustix::fs::fstat(&root)),
            };
            match stat {
                Ok(stat) => drop(self.files.insert(path.clone(), Seen::of(&stat))),
                Err(Errno::NOENT | Errno::NOTDIR) => self.forget(path),
                Err(errno) => return Err(Error::in_image("stat", path, errno)),
            }
        }
        Ok(())
    }

    /// Forgets the file at `path`: it will count as new.
    pub fn forget(&mut self, path: &TreePath) {
        self.files.remove(path);
    }

    /// Returns the latest time of change in it: seconds and nanoseconds since 1970.
    pub fn latest(&self) -> (i64, i64) {
        self.files.values().map(|seen| seen.ctime).max().unwrap_or_default()
    }

    /// Returns the names of files that have several.
    pub fn linked(&self) -> impl Iterator<Item = &TreePath> {
        let names = self.names();
        self.files
            .iter()
            .filter(move |(_, seen)| names.get(&seen.inode).is_some_and(|names| names.len() > 1))
            .map(|(path, _)| path)
    }

    pub(super) fn files(&self) -> &BTreeMap<TreePath, Seen> {
        &self.files
    }

    pub(super) fn get(&self, path: &TreePath) -> Option<&Seen> {
        self.files.get(path)
    }

    pub(super) fn unfit(&self) -> &[TreePath] {
        &self.unfit
    }

    /// The names of each file that is no directory, sorted.
    pub(super) fn names(&self) -> HashMap<(u64, u64), Vec<&TreePath>> {
        let mut names: HashMap<_, Vec<_>> = HashMap::new();
        for (path, seen) in self.files.iter().filter(|(_, seen)| !seen.is_dir()) {
            names.entry(seen.inode).or_default().push(path);
        }
        names
    }
}

pub(super) fn open(tree: &Path) -> Result<Dirs, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, tree, flags, Mode::empty())
        .map_err(|errno| Error::in_image("open directory", &TreePath::root(), errno))?;
    Ok(Dirs::new(root))
}
