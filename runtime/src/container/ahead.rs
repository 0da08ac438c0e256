//! What every step sees of the kernel: /proc, /sys and /dev. It is the same for all of them, and made before it is known what
//! the step is, as trees of mounts that are nowhere yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::Report;
use super::detached::{self, Dev, Outside, clone_of, failed, put, put_in, read_only};
use super::step::own_pidfd;
use crate::error::RuntimeError;
use crate::oci::{DEVICE_LINKS, PROC_MASKED, PROC_READ_ONLY, SYS_MASKED};
use crate::rootfs::Rootfs;
use crate::sys;

/// The trees, and what is not as it should be in them.
pub(super) struct Ahead {
    pub(super) proc: OwnedFd,
    pub(super) sys: OwnedFd,
    /// With memory of the usual size in shm.
    pub(super) dev: OwnedFd,
    /// Memory for what is mounted but no part of anything, with an empty directory root. To be mounted somewhere: one that is not
    /// takes the kernel long to let go of.
    pub(super) scratch: OwnedFd,
    pub(super) ground: Ground,
    pub(super) report: Report,
}

/// What this process stands on when it hears what the step is.
pub(super) enum Ground {
    /// A copy of the mounts outside, of its own.
    Copy,
    /// The mounts outside, which others share: nothing is mounted there.
    Shared {
        /// What it begins its own mounts with.
        bare: OwnedFd,
    },
}

impl Ahead {
    /// Makes them. This process must be process 1 of a new pid namespace, in a mount namespace of its own where there are no `bare` mounts
    /// to begin with.
    pub(super) fn make(bare: Option<OwnedFd>) -> Result<Self, RuntimeError> {
        let ground = bare.map_or(Ground::Copy, |bare| Ground::Shared { bare });
        if matches!(ground, Ground::Copy) {
            // What is unmounted outside meanwhile goes here too, so that nobody waits for this process.
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change("/", slave).map_err(failed("mount(\"/\", MS_REC | MS_SLAVE)"))?;
        }
        let mut report = Report::default();
        let Outside { proc, mut sys, dev, empty } = detached::take(&mut report)?;
        make_file(&dev.dir, "null")?;
        let stage = match takes_mounts(&dev)? {
            true => None,
            false => {
                let stage = Stage::make(&proc, &mut sys, &dev.dir)?;
                takes_mounts(&dev)?;
                Some(stage)
            }
        };
        let null = fill_dev(&dev)?;
        let (proc, sys) = (Rootfs::of(proc), sys.map(Rootfs::of));
        report.sys_empty = sys.is_none();
        let mut cover = Cover { empty, used: false };
        restrict(&proc, sys.as_ref(), &null, &mut cover)?;
        let (mut proc, mut dev) = (proc.into_dir(), dev.dir);
        let mut sys = sys.map_or_else(|| cover.another(), |sys| Ok(sys.into_dir()))?;
        if let Some(stage) = stage {
            let mut trees = vec![(&mut proc, "proc"), (&mut dev, "dev")];
            // What stands for it has never been on the stage, or is a copy already.
            if !report.sys_empty {
                trees.push((&mut sys, "sys"));
            }
            stage.leave(trees)?;
        }
        // From here on nothing of it goes any more when something is unmounted outside.
        for tree in [&proc, &sys, &dev] {
            detached::private(tree).map_err(|errno| RuntimeError::call("mount_setattr(…, MS_PRIVATE)", errno))?;
        }
        Ok(Ahead { proc, sys, dev, scratch: scratch()?, ground, report })
    }
}

/// Makes a mount namespace with nothing in it but an empty directory, for steps to begin theirs with: to leave the mounts around takes as
/// long as a processor may take to notice, and to copy them as long as they are many. `home` are those that this process is in, and is in
/// again when this returns. `None` where steps can not begin so.
///
/// # Errors
/// The way back is closed.
pub(super) fn bare(home: &OwnedFd) -> Result<Option<OwnedFd>, RuntimeError> {
    if !takes_mounts_nowhere() || sys::unshare(libc::CLONE_NEWNS).is_err() {
        return Ok(None);
    }
    let bare = leave();
    enter(home, "mounts outside")?;
    Ok(bare.ok())
}

/// Returns the mount namespace of this process, by a handle of it: no /proc need be mounted.
pub(super) fn own_mounts(this: BorrowedFd<'_>) -> Result<OwnedFd, RuntimeError> {
    sys::mounts_of(this).map_err(|errno| RuntimeError::call("ioctl(PIDFD_GET_MNT_NAMESPACE)", errno))
}

/// Moves this process to a mount namespace.
pub(super) fn enter(mounts: &OwnedFd, name: &str) -> Result<(), RuntimeError> {
    sys::enter_mounts(mounts.as_fd()).map_err(|errno| RuntimeError::call(format!("setns({name})"), errno))
}

/// Replaces all mounts of this process, which are its own, by an empty directory. Returns the namespace.
fn leave() -> Result<OwnedFd, RuntimeError> {
    let own = own_mounts(own_pidfd()?.as_fd())?;
    let root = detached::open_path(Path::new("/"), OFlags::DIRECTORY)?;
    let empty = detached::empty()?;
    put(&empty, &root).map_err(failed("move_mount(empty tmpfs, \"/\")"))?;
    rustix::process::fchdir(&empty).map_err(failed("fchdir(empty tmpfs)"))?;
    // Some seccomp profiles refuse it, and a root that can not be moved (initramfs).
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root(\".\", \".\")"))?;
    detached::drop_old_root(&root)?;
    Ok(own)
}

fn scratch() -> Result<OwnedFd, RuntimeError> {
    let quiet =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dir = detached::fresh("tmpfs", &[("mode", "700"), ("size", "64m")], quiet)
        .map_err(failed("fsmount(scratch tmpfs)"))?;
    rustix::fs::mkdirat(&dir, "root", Mode::from_raw_mode(0o755)).map_err(failed("mkdir(scratch/root)"))?;
    Ok(dir)
}

/// Returns whether the kernel mounts on a mount that is nowhere, as it does from 6.15 on. Then it also takes from one.
fn takes_mounts_nowhere() -> bool {
    let trial = || -> Result<(), RuntimeError> {
        put_in(&detached::empty()?, &scratch()?, "root").map_err(failed("move_mount(tmpfs, tmpfs)"))
    };
    trial().is_ok()
}

/// Puts the null device into the new /dev, on its file. Returns whether that went: kernels before 6.15 mount nothing on a mount that is
/// nowhere.
fn takes_mounts(dev: &Dev) -> Result<bool, RuntimeError> {
    let Some((name, null)) = dev.devices.iter().find(|(name, _)| *name == "null") else { return Ok(false) };
    match put_in(null, &dev.dir, name) {
        Ok(()) => Ok(true),
        Err(E::INVAL) => Ok(false),
        Err(errno) => Err(RuntimeError::call("move_mount(…, \"/dev/null\")", errno)),
    }
}

/// Where the trees are put together on kernels that can not do that nowhere: on top of the root, where no path leads from below.
/// Then they are copied.
struct Stage(OwnedFd);

impl Stage {
    /// Takes the trees. Leaves none of /sys where that can not be mounted.
    fn make(proc: &OwnedFd, sys: &mut Option<OwnedFd>, dev: &OwnedFd) -> Result<Self, RuntimeError> {
        let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let stage = detached::fresh("tmpfs", &[("mode", "700"), ("size", "64k")], quiet)
            .map_err(failed("fsmount(stage tmpfs)"))?;
        put(&stage, &detached::open_path(Path::new("/"), OFlags::DIRECTORY)?)
            .map_err(failed("move_mount(stage tmpfs, \"/\")"))?;
        for name in ["proc", "sys", "dev"] {
            rustix::fs::mkdirat(&stage, name, Mode::from_raw_mode(0o755))
                .map_err(failed(format!("mkdir(stage/{name})")))?;
        }
        put_in(proc, &stage, "proc").map_err(failed("move_mount(proc, stage)"))?;
        put_in(dev, &stage, "dev").map_err(failed("move_mount(tmpfs, stage)"))?;
        *sys = sys.take().filter(|tree| put_in(tree, &stage, "sys").is_ok());
        Ok(Stage(stage))
    }

    /// Makes each of the trees a copy that is nowhere, and ends.
    fn leave(self, trees: Vec<(&mut OwnedFd, &str)>) -> Result<(), RuntimeError> {
        for (tree, name) in trees {
            *tree = clone_of(tree, true)
                .map_err(failed(format!("open_tree(stage/{name}, OPEN_TREE_CLONE | AT_RECURSIVE)")))?;
        }
        rustix::process::fchdir(&self.0).map_err(failed("fchdir(stage)"))?;
        unmount(".", UnmountFlags::DETACH).map_err(failed("umount2(stage, MNT_DETACH)"))?;
        rustix::process::chdir("/").map_err(failed("chdir(\"/\")"))
    }
}

/// Makes an empty file in /dev, to mount a device on.
fn make_file(dev: &OwnedFd, name: &str) -> Result<(), RuntimeError> {
    rustix::fs::mknodat(dev, name, FileType::RegularFile, Mode::from_raw_mode(0o666), 0)
        .map_err(failed(format!("mknod(\"/dev/{name}\")")))
}

/// Fills /dev, where the file null is already. Only this process has seen the new tmpfs: its names are what they were made as.
/// Returns the null device.
fn fill_dev(dev: &Dev) -> Result<OwnedFd, RuntimeError> {
    let dir = &dev.dir;
    let moved =
        |tree: &OwnedFd, name: &str| put_in(tree, dir, name).map_err(failed(format!("move_mount(…, \"/dev/{name}\")")));
    for (name, tree) in &dev.devices {
        if *name != "null" {
            make_file(dir, name)?;
            moved(tree, name)?;
        }
    }
    for (target, link) in DEVICE_LINKS {
        rustix::fs::symlinkat(target, dir, link).map_err(failed(format!("symlink(\"/dev/{link}\")")))?;
    }
    for (name, tree) in [("pts", Some(&dev.pts)), ("shm", Some(&detached::shm()?)), ("mqueue", dev.mqueue.as_ref())] {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))
            .map_err(failed(format!("mkdir(\"/dev/{name}\")")))?;
        if let Some(tree) = tree {
            moved(tree, name)?;
        }
    }
    rustix::fs::openat(dir, "null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open(\"/dev/null\", O_PATH)"))
}

/// An empty directory that nothing can be put into, shown in place of others.
struct Cover {
    empty: OwnedFd,
    /// Whether it has been given away. Before 6.15, a mount that is nowhere can not be copied; one that was given away is somewhere.
    used: bool,
}

impl Cover {
    fn another(&mut self) -> Result<OwnedFd, RuntimeError> {
        if self.used {
            return clone_of(&self.empty, false).map_err(failed("open_tree(empty tmpfs, OPEN_TREE_CLONE)"));
        }
        self.used = true;
        self.empty.try_clone().map_err(|error| RuntimeError::call("dup(empty tmpfs)", error))
    }
}

/// Takes away what a step must not see, and the writing of what it must not change.
fn restrict(proc: &Rootfs, sys: Option<&Rootfs>, null: &OwnedFd, cover: &mut Cover) -> Result<(), RuntimeError> {
    for path in PROC_READ_ONLY {
        let Some((place, _)) = find(proc, "/proc", path)? else { continue };
        let name = format!("/proc/{path}");
        let tree = clone_of(&place, true).map_err(failed(format!("open_tree({name:?}, OPEN_TREE_CLONE)")))?;
        read_only(&tree, true)
            .map_err(|errno| RuntimeError::call(format!("mount_setattr({name:?}, MOUNT_ATTR_RDONLY)"), errno))?;
        put(&tree, &place).map_err(failed(format!("move_mount(…, {name:?})")))?;
    }
    let masks = PROC_MASKED.map(|path| (Some(proc), "/proc", path));
    for (dir, above, path) in masks.into_iter().chain(SYS_MASKED.map(|path| (sys, "/sys", path))) {
        let Some(dir) = dir else { continue };
        match find(dir, above, path)? {
            None => {}
            Some((place, FileType::Directory)) => {
                put(&cover.another()?, &place).map_err(failed("move_mount(empty tmpfs, …)"))?;
            }
            Some((place, _)) => {
                let tree = clone_of(null, false).map_err(failed("open_tree(\"/dev/null\", OPEN_TREE_CLONE)"))?;
                put(&tree, &place).map_err(failed(format!("move_mount(\"/dev/null\", \"{above}/{path}\")")))?;
            }
        }
    }
    Ok(())
}

/// Returns what is at `path` in a file system of the kernel; `None` where this kernel has no such thing.
fn find(dir: &Rootfs, above: &str, path: &str) -> Result<Option<(OwnedFd, FileType)>, RuntimeError> {
    match dir.place(path) {
        Ok(found) => Ok(Some(found)),
        Err(E::NOENT | E::NOTDIR | E::ACCESS) => Ok(None),
        Err(errno) => Err(RuntimeError::call(format!("openat2(\"{above}/{path}\", RESOLVE_NO_SYMLINKS)"), errno)),
    }
}
