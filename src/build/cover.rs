//! What a step that works in place finds instead of the image's own files: put there before, and taken away afterwards, so
//! that nothing of it gets into the layer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::layer::DiskTree;
use crate::store::{Workplace, open_dir_in};
use crate::tree::{Owners, TreePath};

use super::BuildError;

/// Things in a tree that are there for one step only.
pub(super) struct Covers {
    root: PathBuf,
    aside: PathBuf,
    things: Vec<Thing>,
    /// Folders in which something was put: they keep their times.
    folders: BTreeMap<TreePath, Stat>,
    /// Folders that were made to put something in, outermost first.
    made: Vec<TreePath>,
}

struct Thing {
    path: TreePath,
    /// Where the image's own file is meanwhile, if it has one.
    own: Option<PathBuf>,
}

const DIR_MODE: u32 = 0o755;

impl Covers {
    /// Returns a cover of nothing, for the tree in `place`.
    pub fn new(place: &Workplace) -> Self {
        Covers {
            root: place.root(),
            aside: place.aside(),
            things: Vec::new(),
            folders: BTreeMap::new(),
            made: Vec::new(),
        }
    }

    /// Shows an empty folder at `path`, whatever is there.
    pub fn folder(&mut self, path: &TreePath) -> Result<(), BuildError> {
        let (dir, name) = self.hide(path)?;
        let mode = Mode::from_raw_mode(DIR_MODE);
        rustix::fs::mkdirat(&dir, name, mode)
            .and_then(|()| rustix::fs::chmodat(&dir, name, mode, AtFlags::empty()))
            .map_err(|errno| self.fail("create", path, errno.into()))
    }

    /// Shows a file with `contents` at `path`, whatever is there; makes the folders that lead to it.
    pub fn file(&mut self, path: &TreePath, contents: &[u8]) -> Result<(), BuildError> {
        let (dir, name) = self.hide(path)?;
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            io::Write::write_all(&mut fs::File::from(file), contents)
        };
        write().map_err(|source| self.fail("write", path, source))
    }

    /// Moves what is at `path` aside. Returns its folder, open, and its name in it.
    fn hide<'p>(&mut self, path: &'p TreePath) -> Result<(OwnedFd, &'p [u8]), BuildError> {
        let parent = path.parent().unwrap_or_default();
        let name = path.name().unwrap_or_default();
        let dir = self.parent(&parent)?;
        let aside = self.aside.join(self.things.len().to_string());
        let own = match rustix::fs::renameat(&dir, name, CWD, &aside) {
            Ok(()) => Some(aside),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(self.fail("move aside", path, errno.into())),
        };
        self.things.push(Thing { path: path.clone(), own });
        Ok((dir, name))
    }

    /// Opens a folder, and makes it where it is missing.
    fn parent(&mut self, path: &TreePath) -> Result<OwnedFd, BuildError> {
        for dir in path.ancestors().chain([path.clone()]).filter(|dir| !dir.is_root()) {
            let above = dir.parent().unwrap_or_default();
            let fd = open_dir_in(&self.root, &above).map_err(|source| self.fail("open", &above, source))?;
            let before = rustix::fs::fstat(&fd).map_err(|errno| self.fail("stat", &above, errno.into()))?;
            match rustix::fs::mkdirat(&fd, dir.name().unwrap_or_default(), Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) => {
                    self.folders.entry(above).or_insert(before);
                    self.made.push(dir);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.fail("create", &dir, errno.into())),
            }
        }
        let fd = open_dir_in(&self.root, path).map_err(|source| self.fail("open", path, source))?;
        let before = rustix::fs::fstat(&fd).map_err(|errno| self.fail("stat", path, errno.into()))?;
        self.folders.entry(path.clone()).or_insert(before);
        Ok(fd)
    }

    /// Returns the folders that were made for what is shown. They count as the step's only if it puts something into them.
    pub fn made(&self) -> &[TreePath] {
        &self.made
    }

    /// Gives the folders their times back: the step must not see that something was put there.
    pub fn ready(&self) -> Result<(), BuildError> {
        for (path, before) in &self.folders {
            let set = || -> io::Result<()> { set_times(&open_dir_in(&self.root, path)?, before) };
            set().map_err(|source| self.fail("set the time of", path, source))?;
        }
        Ok(())
    }

    /// Takes away what was put there, and brings back what was. A folder that the step removed or made anew keeps what the step
    /// left.
    pub fn restore(self) -> Result<(), BuildError> {
        // The times that the step left.
        let mut folders = BTreeMap::new();
        for (path, before) in &self.folders {
            let Ok(dir) = open_dir_in(&self.root, path) else { continue };
            let now = rustix::fs::fstat(&dir).map_err(|errno| self.fail("stat", path, errno.into()))?;
            if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino) {
                folders.insert(path.clone(), (dir, now));
            }
        }
        let mut tree = DiskTree::open(&self.root, Owners::Caller)?;
        for Thing { path, own } in &self.things {
            let Some((dir, _)) = path.parent().and_then(|parent| folders.get(&parent)) else { continue };
            tree.remove(path)?;
            if let Some(own) = own {
                rustix::fs::renameat(CWD, own, dir, path.name().unwrap_or_default())
                    .map_err(|errno| self.fail("move back", path, errno.into()))?;
            }
        }
        for path in self.made.iter().rev() {
            let Some((above, _)) = path.parent().and_then(|parent| folders.get(&parent)) else { continue };
            let Some((_, now)) = folders.get(path) else { continue };
            if now.st_mode & 0o7777 == DIR_MODE {
                // Fails where the step put something into it.
                let _ = rustix::fs::unlinkat(above, path.name().unwrap_or_default(), AtFlags::REMOVEDIR);
            }
        }
        for (path, (dir, now)) in &folders {
            set_times(dir, now).map_err(|source| self.fail("set the time of", path, source))?;
        }
        Ok(())
    }

    fn fail(&self, call: &'static str, path: &TreePath, source: io::Error) -> BuildError {
        BuildError::Io { call, path: format!("/{path}"), source }
    }
}

fn set_times(dir: &OwnedFd, like: &Stat) -> io::Result<()> {
    let time = |secs, nanos: u64| Timespec { tv_sec: secs, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(like.st_atime, like.st_atime_nsec),
        last_modification: time(like.st_mtime, like.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(dir.as_fd(), &times)?)
}
