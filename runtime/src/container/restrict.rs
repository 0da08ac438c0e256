//! What a step does not see of /proc and /sys, and what it can not change there.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno as E;

use super::detached::{clone_in, clone_of, failed, put_in, read_only};
use crate::error::RuntimeError;
use crate::oci::{PROC_MASKED, PROC_READ_ONLY, SYS_MASKED};

/// What is shown in the place of something else.
pub(super) struct Cover {
    /// For directories: an empty one that nothing can be put into.
    empty: OwnedFd,
    /// For files: the null device.
    null: OwnedFd,
    /// Whether only copies of `empty` may be given away. Before Linux 6.15 a mount that is nowhere can not be copied; one that was
    /// given away is somewhere.
    is_given: bool,
}

impl Cover {
    pub(super) fn new(empty: OwnedFd, null: OwnedFd) -> Self {
        Cover { empty, null, is_given: false }
    }

    /// With an empty directory that others take copies of, too.
    pub(super) fn shared(empty: OwnedFd, null: OwnedFd) -> Self {
        Cover { empty, null, is_given: true }
    }

    pub(super) fn of_directory(&mut self) -> Result<OwnedFd, RuntimeError> {
        if self.is_given {
            return clone_of(&self.empty, false).map_err(failed("open_tree(empty tmpfs, OPEN_TREE_CLONE)"));
        }
        self.is_given = true;
        self.empty.try_clone().map_err(|error| RuntimeError::call("dup(empty tmpfs)", error))
    }

    fn of_file(&self) -> Result<OwnedFd, RuntimeError> {
        clone_of(&self.null, false).map_err(failed("open_tree(\"/dev/null\", OPEN_TREE_CLONE)"))
    }
}

/// What there is to restrict in a file system of the kernel: the same in each that shows the same, but for modules that come and go.
pub(super) struct Restrictions {
    /// Where it is.
    above: &'static str,
    read_only: &'static [&'static str],
    /// With what they were, where they were there.
    masked: Vec<(&'static str, Option<FileType>)>,
}

impl Restrictions {
    /// Returns what there is in `proc`, a procfs.
    pub(super) fn of_proc(proc: &OwnedFd) -> Result<Self, RuntimeError> {
        Self::of(proc, "/proc", &PROC_READ_ONLY, &PROC_MASKED)
    }

    /// Returns what there is in `sys`, a sysfs.
    pub(super) fn of_sys(sys: &OwnedFd) -> Result<Self, RuntimeError> {
        Self::of(sys, "/sys", &[], &SYS_MASKED)
    }

    fn of(
        tree: &OwnedFd,
        above: &'static str,
        read_only: &'static [&'static str],
        masked: &[&'static str],
    ) -> Result<Self, RuntimeError> {
        let masked = masked.iter().map(|path| Ok((*path, kind(tree, above, path)?)));
        Ok(Restrictions { above, read_only, masked: masked.collect::<Result<_, RuntimeError>>()? })
    }

    /// Imposes them on `tree`. Nobody but the kernel makes names there.
    pub(super) fn impose(&self, tree: &OwnedFd, cover: &mut Cover) -> Result<(), RuntimeError> {
        let above = self.above;
        let put = |from: &OwnedFd, path: &str| match put_in(from, tree, path) {
            Ok(()) | Err(E::NOENT) => Ok(()),
            Err(errno) => Err(RuntimeError::call(format!("move_mount(…, \"{above}/{path}\")"), errno)),
        };
        for path in self.read_only {
            let copy = match clone_in(tree, path) {
                Ok(copy) => copy,
                Err(E::NOENT | E::NOTDIR | E::ACCESS) => continue,
                Err(errno) => {
                    return Err(RuntimeError::call(format!("open_tree(\"{above}/{path}\", OPEN_TREE_CLONE)"), errno));
                }
            };
            read_only(&copy, true).map_err(|errno| {
                RuntimeError::call(format!("mount_setattr(\"{above}/{path}\", MOUNT_ATTR_RDONLY)"), errno)
            })?;
            put(&copy, path)?;
        }
        for (path, was) in &self.masked {
            // What was not there may have come since.
            match was.map_or_else(|| kind(tree, above, path), |kind| Ok(Some(kind)))? {
                None => {}
                Some(FileType::Directory) => put(&cover.of_directory()?, path)?,
                Some(_) => put(&cover.of_file()?, path)?,
            }
        }
        Ok(())
    }
}

/// Returns what `path` is in a file system of the kernel; `None` where this kernel has no such thing.
fn kind(tree: &OwnedFd, above: &str, path: &str) -> Result<Option<FileType>, RuntimeError> {
    // No link is followed: there is none at these places.
    match statat(tree, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(E::NOENT | E::NOTDIR | E::ACCESS) => Ok(None),
        Err(errno) => Err(RuntimeError::call(format!("fstatat(\"{above}/{path}\")"), errno)),
    }
}
