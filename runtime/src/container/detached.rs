//! Mounts that are nowhere yet. They are made while the old root is in sight, and put into the new one by handle.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount,
    open_tree, unmount,
};

use super::{Bind, ContainerSpec, DEFAULT_SHM, Report};
use crate::error::{Errno, RuntimeError};
use crate::oci::DEVICES;
use crate::sys;

const MOUNT_ATTR_RDONLY: u64 = 1;

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// What /dev is made of, besides the devices.
pub(super) struct Dev {
    /// A tmpfs.
    pub(super) dir: OwnedFd,
    pub(super) pts: OwnedFd,
    /// Few programs use message queues, and some kernels have none.
    pub(super) mqueue: Option<OwnedFd>,
}

/// The devices that every step has.
pub(super) struct Devices {
    pub(super) null: OwnedFd,
    /// With their names in /dev.
    pub(super) others: Vec<(&'static str, OwnedFd)>,
}

impl Devices {
    /// Returns copies of them.
    pub(super) fn copies(&self) -> Result<Self, E> {
        let others = self.others.iter().map(|(name, tree)| Ok((*name, clone_of(tree, false)?)));
        Ok(Devices { null: clone_of(&self.null, false)?, others: others.collect::<Result<_, E>>()? })
    }
}

pub(super) fn failed(call: impl Into<String>) -> impl FnOnce(E) -> RuntimeError {
    move |errno| RuntimeError::call(call, errno)
}

pub(super) fn shown(path: &Path) -> String {
    format!("{path:?}")
}

/// Takes the /sys of the outside; `None` where it can not be made read-only.
pub(super) fn take_sys() -> Option<OwnedFd> {
    clone_tree(Path::new("/sys"), true).ok().filter(|tree| read_only(tree, true).is_ok())
}

/// Returns a read-only tmpfs with nothing in it.
pub(super) fn empty() -> Result<OwnedFd, RuntimeError> {
    let quiet = NOSUID | NOEXEC | NODEV | MountAttrFlags::MOUNT_ATTR_RDONLY;
    fresh("tmpfs", &[("mode", "755"), ("size", "4k")], quiet).map_err(failed("fsmount(empty tmpfs)"))
}

/// Returns the mount namespace of this process, by /proc: also before Linux 6.11, which has no other way.
pub(super) fn own_mounts() -> Result<OwnedFd, E> {
    rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Returns memory of the usual size for /dev/shm.
pub(super) fn shm() -> Result<OwnedFd, RuntimeError> {
    let size = DEFAULT_SHM.to_string();
    fresh("tmpfs", &[("mode", "1777"), ("size", &size)], NOSUID | NOEXEC | NODEV).map_err(failed("fsmount(tmpfs)"))
}

/// Gives /dev/shm in `dev` another size.
pub(super) fn resize_shm(dev: &OwnedFd, size: u64) -> Result<(), RuntimeError> {
    let resize = || {
        let context = fspick(dev, "shm", FsPickFlags::FSPICK_CLOEXEC)?;
        fsconfig_set_string(&context, "size", size.to_string())?;
        fsconfig_reconfigure(&context)
    };
    resize().map_err(failed(format!("fsconfig(\"/dev/shm\", size={size})")))
}

/// Takes what `spec` shows of the host.
pub(super) fn take_binds(spec: &ContainerSpec) -> Result<Vec<(OwnedFd, PathBuf)>, RuntimeError> {
    let mut binds = Vec::with_capacity(spec.binds.len());
    for Bind { source, target, read_only: is_read_only } in &spec.binds {
        let name = shown(source);
        let tree = clone_tree(source, true).map_err(failed(format!("open_tree({name}, OPEN_TREE_CLONE)")))?;
        if *is_read_only {
            read_only(&tree, true)
                .map_err(|errno| RuntimeError::call(format!("mount_setattr({name}, MOUNT_ATTR_RDONLY)"), errno))?;
        }
        binds.push((tree, target.clone()));
    }
    Ok(binds)
}

/// A new procfs, which is granted only as long as the old one is in sight, without anything that hides a part of it.
/// Else the old one. That lists processes outside of the step, whose files must not be written: so it is read-only.
pub(super) fn take_proc(report: &mut Report) -> Result<OwnedFd, RuntimeError> {
    match fresh("proc", &[], NOSUID | NOEXEC | NODEV) {
        Err(E::PERM) => {}
        other => return other.map_err(failed("fsmount(proc)")),
    }
    report.proc_bound = true;
    let tree = clone_tree(Path::new("/proc"), true).map_err(failed("open_tree(\"/proc\", OPEN_TREE_CLONE)"))?;
    read_only(&tree, true)
        // Of something below it, which belongs to who hid a part of it.
        .or_else(|_| read_only(&tree, false))
        .map_err(|errno| RuntimeError::call("mount_setattr(\"/proc\", MOUNT_ATTR_RDONLY)", errno))?;
    Ok(tree)
}

/// Takes the devices of the outside. Those that are not there are left out, but for null.
pub(super) fn take_devices(report: &mut Report) -> Result<Devices, RuntimeError> {
    let take = |name: &str| clone_tree(&Path::new("/dev").join(name), false);
    let mut others = Vec::with_capacity(DEVICES.len());
    for (name, ..) in DEVICES.into_iter().filter(|(name, ..)| *name != "null") {
        match take(name) {
            Ok(tree) => others.push((name, tree)),
            Err(_) => report.devices_missing.push(name.into()),
        }
    }
    Ok(Devices { null: take("null").map_err(failed("open_tree(\"/dev/null\", OPEN_TREE_CLONE)"))?, others })
}

/// Makes the file systems of a /dev.
pub(super) fn new_dev() -> Result<Dev, RuntimeError> {
    let quiet = NOSUID | NOEXEC;
    // Group 5 is tty, by agreement; where the map has no such group, terminals belong to their user's.
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    Ok(Dev {
        dir: fresh("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID).map_err(failed("fsmount(tmpfs)"))?,
        pts: fresh("devpts", &pts, quiet)
            .or_else(|_| fresh("devpts", &pts[..3], quiet))
            .map_err(failed("fsmount(devpts, newinstance)"))?,
        mqueue: fresh("mqueue", &[], quiet | NODEV).ok(),
    })
}

/// Returns a new file system of `kind`. An option without a value is a flag.
pub(crate) fn fresh(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, E> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match *value {
            "" => fsconfig_set_flag(&context, *key)?,
            value => fsconfig_set_string(&context, *key, value)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Takes the old root away after pivot_root(".", "."): it lies on top of the new one, and what is unmounted is the topmost of what is
/// there. Goes to the new one.
pub(super) fn drop_old_root(old: &OwnedFd) -> Result<(), RuntimeError> {
    rustix::process::fchdir(old).map_err(failed("fchdir(old root)"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("umount2(old root, MNT_DETACH)"))?;
    rustix::process::chdir("/").map_err(failed("chdir(\"/\")"))
}

pub(super) fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())
        .map_err(failed(format!("open({}, O_PATH)", shown(path))))
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags
}

pub(super) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, E> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// Returns a copy of what is seen at `name` in `dir`, and below.
pub(super) fn clone_in(dir: &OwnedFd, name: &str) -> Result<OwnedFd, E> {
    open_tree(dir, name, clone_flags(true) | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// Returns a copy of what is seen at `file`. That must be mounted in this namespace, or, from Linux 6.15 on, made in it.
pub(super) fn clone_of(file: &OwnedFd, recursive: bool) -> Result<OwnedFd, E> {
    open_tree(file, c"", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

pub(super) fn read_only(tree: &OwnedFd, recursive: bool) -> Result<(), Errno> {
    sys::mount_setattr(tree.as_fd(), MOUNT_ATTR_RDONLY, 0, recursive)
}

/// Keeps what happens to other mounts from happening to those of `tree`.
pub(super) fn private(tree: &OwnedFd) -> Result<(), Errno> {
    sys::mount_setattr(tree.as_fd(), 0, libc::MS_PRIVATE, true)
}

/// Puts a mount on `place`, a handle. No path is looked up.
pub(super) fn put(tree: &OwnedFd, place: &OwnedFd) -> Result<(), E> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// As [`put`], on `name` in `dir`, which is no link.
pub(super) fn put_in(tree: &OwnedFd, dir: &OwnedFd, name: &str) -> Result<(), E> {
    move_mount(tree, c"", dir, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
