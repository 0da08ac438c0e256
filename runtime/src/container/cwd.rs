//! The working directory of a command. It is entered before the command is anybody, as runc and crun do it: an image may have one that
//! its user may not enter. Where it is missing, it is made, as BuildKit and runc do it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno as E;

use super::{ContainerSpec, Place};
use crate::owner::{FileOwner, XATTR};
use crate::rootfs::Rootfs;

/// Goes to the working directory of `spec`, in `root`, which is the root and the working directory of this process and has all its
/// mounts.
///
/// Descriptors of the outside are open here, and the path is an image's: links of /proc that lead to files are not followed
/// (CVE-2024-21626).
pub(super) fn enter(root: &Rootfs, spec: &ContainerSpec) -> Result<(), E> {
    if spec.cwd == Path::new("/") {
        return Ok(());
    }
    let path = spec.cwd.as_os_str().as_bytes();
    let found = match root.resolve(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            // Where nothing is mounted, a directory only stands for /proc.
            let stand_in = matches!(spec.place, Place::Chroot { .. }).then(|| root.place("proc").map(|(dir, _)| dir));
            let stand_in = stand_in.and_then(Result::ok);
            root.resolve_making(path, &|here, name| match &stand_in {
                Some(proc) if is_same(here, proc.as_fd())? => Err(E::NOENT),
                _ => make(spec, here, name),
            })
        }
        other => other.map_err(|error| E::from_io_error(&error).unwrap_or(E::IO)),
    };
    found.and_then(rustix::process::fchdir)
}

/// Goes there as the user of the command, where this process could not [`enter`] it, for want of permission: on some file systems root may
/// less than others.
pub(super) fn enter_as_user(entered: Result<(), E>, spec: &ContainerSpec) -> Result<(), E> {
    match entered {
        Err(E::ACCESS | E::PERM) => rustix::process::chdir(&spec.cwd),
        other => other,
    }
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, E> {
    let number = |file| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    Ok(number(one)? == number(other)?)
}

/// Makes the directory `name` in `here`.
fn make(spec: &ContainerSpec, here: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, E> {
    rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(here, name, flags, Mode::empty())?;
    own(spec, &dir)?;
    Ok(dir)
}

/// Gives a directory that was made to the user of the command.
fn own(spec: &ContainerSpec, dir: &OwnedFd) -> Result<(), E> {
    if !spec.ids.are_emulated() {
        let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
        return rustix::fs::chownat(dir, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
    }
    let owner = FileOwner::new(spec.uid, spec.gid);
    if owner.is_default() {
        return Ok(());
    }
    match rustix::fs::fsetxattr(dir, XATTR, owner.to_string().as_bytes(), XattrFlags::empty()) {
        // What is mounted there and keeps no attributes, as memory before Linux 6.6. It is not of the image.
        Err(E::OPNOTSUPP) => Ok(()),
        other => other,
    }
}
