//! What a step that works in place finds instead of the image's own files: put there before, and taken away afterwards, so
//! that nothing of it gets into the layer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_runtime::owner::{FileOwner, XATTR};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
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
    /// Where it goes afterwards, and which file it is: for what is shown, but stays.
    back: Option<Back>,
}

/// Where something comes from that is shown.
struct Back {
    place: PathBuf,
    /// Device and inode: a step may have put something else there.
    file: (u64, u64),
}

/// Mode, owner and group of a file that is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
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
    pub fn folder(&mut self, path: &TreePath, mode: u32) -> Result<(), BuildError> {
        let (dir, name) = self.hide(path)?;
        let mode = Mode::from_raw_mode(mode);
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

    /// Shows a file with `contents` and these attributes at `path`, whatever is there.
    pub fn text(
        &mut self,
        path: &TreePath,
        contents: &[u8],
        attributes: Attributes,
        owners: Owners,
    ) -> Result<(), BuildError> {
        let (dir, name) = self.hide(path)?;
        let Attributes { mode, uid, gid } = attributes;
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
            match owners {
                Owners::Native => rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?,
                _ if (uid, gid) == (0, 0) => {}
                _ => {
                    let says = FileOwner::new(uid, gid).to_string();
                    rustix::fs::fsetxattr(&file, XATTR, says.as_bytes(), XattrFlags::empty())?;
                }
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            io::Write::write_all(&mut fs::File::from(file), contents)
        };
        write().map_err(|source| self.fail("write", path, source))
    }

    /// Shows what is at `source`, on the same file system, at `path`, whatever is there: moves it. In the end it is removed, unless
    /// it `stays`: then it goes back.
    pub fn bring(&mut self, path: &TreePath, source: &Path, stays: Stays) -> Result<(), BuildError> {
        let (dir, name) = self.hide(path)?;
        let stat = rustix::fs::lstat(source).map_err(|errno| BuildError::io("stat", source, errno.into()))?;
        rustix::fs::renameat(CWD, source, &dir, name).map_err(|errno| BuildError::io("move", source, errno.into()))?;
        if stays == Stays::Yes
            && let Some(thing) = self.things.last_mut()
        {
            thing.back = Some(Back { place: source.to_path_buf(), file: (stat.st_dev, stat.st_ino) });
        }
        Ok(())
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
        self.things.push(Thing { path: path.clone(), own, back: None });
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
    pub fn restore(mut self) -> Result<(), BuildError> {
        // What was put into something that is shown goes before that.
        let things: Vec<Thing> = std::mem::take(&mut self.things).into_iter().rev().collect();

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
        for Thing { path, own, back } in &things {
            let Some((dir, _)) = path.parent().and_then(|parent| folders.get(&parent)) else { continue };
            if let Some(back) = back {
                back.bring(dir, path);
            }
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

/// Whether what is shown goes back to where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    Yes,
    No,
}

impl Back {
    /// Moves the thing at `path`, whose folder is open as `dir`, back. Where the step put something else there, nothing goes back:
    /// a link there could lead anywhere.
    fn bring(&self, dir: &OwnedFd, path: &TreePath) {
        let name = path.name().unwrap_or_default();
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.file) {
            let _ = rustix::fs::renameat(dir, name, CWD, &self.place);
        }
    }
}

impl Drop for Covers {
    /// What stays must not go with the tree of a step that could not even begin.
    fn drop(&mut self) {
        for Thing { path, back, .. } in self.things.iter().rev() {
            if let Some(back) = back
                && let Ok(dir) = open_dir_in(&self.root, &path.parent().unwrap_or_default())
            {
                back.bring(&dir, path);
            }
        }
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
