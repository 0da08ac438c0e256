//! Directories of a tree by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::tree::TreePath;

/// Opens directories below a root, never through a symbolic link, and remembers the one used last.
#[derive(Debug)]
pub(in crate::layer) struct Dirs {
    root: OwnedFd,
    /// Most entries of an archive are in the directory of the entry before.
    last: Option<(TreePath, OwnedFd)>,
    /// Whether the kernel has openat2(2); a seccomp filter may hide it.
    openat2: bool,
}

impl Dirs {
    pub(in crate::layer) fn new(root: OwnedFd) -> Self {
        Dirs { root, last: None, openat2: true }
    }

    /// Returns the directory at `path`, to make files in it.
    pub(in crate::layer) fn parent(&mut self, path: &TreePath) -> Result<BorrowedFd<'_>, Errno> {
        if path.is_root() {
            return Ok(self.root.as_fd());
        }
        if !matches!(&self.last, Some((last, _)) if last == path) {
            self.last = None;
            let dir = self.walk(path, OFlags::PATH)?;
            self.last = Some((path.clone(), dir));
        }
        match &self.last {
            Some((_, dir)) => Ok(dir.as_fd()),
            None => Err(Errno::BADF),
        }
    }

    /// Opens the directory at `path` for reading.
    pub(in crate::layer) fn open(&mut self, path: &TreePath) -> Result<OwnedFd, Errno> {
        self.walk(path, OFlags::RDONLY)
    }

    fn walk(&mut self, path: &TreePath, access: OFlags) -> Result<OwnedFd, Errno> {
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_root() {
            return rustix::fs::openat(&self.root, ".", flags, Mode::empty());
        }
        if self.openat2 {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, path.as_bytes(), flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.openat2 = false,
                result => return result,
            }
        }
        walk_by_component(&self.root, path, flags)
    }

    /// Removes what is at `path`, with all below it. Holds two descriptors however deep that is.
    pub(super) fn remove(&mut self, path: &TreePath) -> Result<(), Errno> {
        if matches!(&self.last, Some((last, _)) if last.starts_with(path)) {
            self.last = None;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Errno::BUSY);
        };
        let dir = match self.parent(&parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            dir => dir?,
        };
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // A directory. Which of the two it is depends on the file system.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        let mut found = vec![path.clone()];
        let mut at = 0;
        while at < found.len() {
            self.empty(&found[at].clone(), &mut found)?;
            at += 1;
        }
        for path in found.iter().rev() {
            let dir = self.parent(&path.parent().unwrap_or_default())?;
            rustix::fs::unlinkat(dir, path.name().unwrap_or_default(), AtFlags::REMOVEDIR)?;
        }
        self.last = None;
        Ok(())
    }

    /// Removes the files in the directory `path`, and adds its directories to `found`.
    fn empty(&mut self, path: &TreePath, found: &mut Vec<TreePath>) -> Result<(), Errno> {
        let name = path.name().unwrap_or_default();
        let parent = self.parent(&path.parent().unwrap_or_default())?;
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err(Errno::PERM);
        }
        if stat.st_mode & 0o700 != 0o700 {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
        }
        let dir = self.open(path)?;
        for item in Dir::read_from(&dir)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => found.push(path.child(name)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What openat2(2) does, a call for each component.
fn walk_by_component(root: &OwnedFd, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(name) = components.next() {
        let flags = if components.peek().is_some() { through } else { flags };
        let from = at.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        at = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_a_directory_refuse_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        for openat2 in [true, false] {
            let mut dirs = Dirs::new(std::fs::File::open(dir.path()).unwrap().into());
            dirs.openat2 = openat2;
            let mut open = |path: &str| dirs.open(&TreePath::new(path).unwrap()).map(drop);
            assert_eq!(open("a/b"), Ok(()));
            assert_eq!(open(""), Ok(()));
            assert_eq!(open("a/none"), Err(Errno::NOENT));
            for link in ["a/link", "out", "out/etc", "a/link/c"] {
                assert!(matches!(open(link), Err(Errno::LOOP | Errno::NOTDIR)), "{link}");
            }
        }
    }
}
