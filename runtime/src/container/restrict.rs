//! What a step does not see of /proc and /sys, and what it can not change there.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno as E;

use super::detached::{clone_in, clone_of, failed, put_in, read_only};
use crate::error::RuntimeError;
use crate::oci::{PROC_MASKED, PROC_READ_ONLY, SYS_MASKED};
use crate::rootfs::Rootfs;

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

/// What there is to restrict in a file system of the kernel: the same in each that shows the same.
pub(super) struct Restrictions {
    /// Where it is.
    above: &'static str,
    read_only: Vec<&'static str>,
    masked: Vec<(&'static str, FileType)>,
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
        read_only: &[&'static str],
        masked: &[&'static str],
    ) -> Result<Self, RuntimeError> {
        let tree = Rootfs::of(tree.try_clone().map_err(|error| RuntimeError::call(format!("dup({above})"), error))?);
        let mut found = Restrictions { above, read_only: vec![], masked: vec![] };
        for path in read_only {
            found.read_only.extend(kind(&tree, above, path)?.map(|_| *path));
        }
        for path in masked {
            found.masked.extend(kind(&tree, above, path)?.map(|kind| (*path, kind)));
        }
        Ok(found)
    }

    /// Imposes them on `tree`. Nobody but the kernel makes names there, so they are what they were.
    pub(super) fn impose(&self, tree: &OwnedFd, cover: &mut Cover) -> Result<(), RuntimeError> {
        let above = self.above;
        let put = |from: &OwnedFd, path: &str| {
            put_in(from, tree, path).map_err(failed(format!("move_mount(…, \"{above}/{path}\")")))
        };
        for path in &self.read_only {
            let copy =
                clone_in(tree, path).map_err(failed(format!("open_tree(\"{above}/{path}\", OPEN_TREE_CLONE)")))?;
            read_only(&copy, true).map_err(|errno| {
                RuntimeError::call(format!("mount_setattr(\"{above}/{path}\", MOUNT_ATTR_RDONLY)"), errno)
            })?;
            put(&copy, path)?;
        }
        for (path, kind) in &self.masked {
            let instead = if *kind == FileType::Directory { cover.of_directory()? } else { cover.of_file()? };
            put(&instead, path)?;
        }
        Ok(())
    }
}

/// Returns what `path` is in a file system of the kernel; `None` where this kernel has no such thing.
fn kind(tree: &Rootfs, above: &str, path: &str) -> Result<Option<FileType>, RuntimeError> {
    match tree.place(path) {
        Ok((_, kind)) => Ok(Some(kind)),
        Err(E::NOENT | E::NOTDIR | E::ACCESS) => Ok(None),
        Err(errno) => Err(RuntimeError::call(format!("openat2(\"{above}/{path}\", RESOLVE_NO_SYMLINKS)"), errno)),
    }
}
