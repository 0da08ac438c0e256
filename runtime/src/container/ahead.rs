//! What every step sees of the kernel: /proc, /sys and /dev. It is the same for all of them, and made before it is known what
//! the step is, as trees of mounts that are nowhere yet.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::Report;
use super::detached::{self, Dev, Devices, clone_of, failed, put, put_in};
use super::restrict::{Cover, Restrictions};
use super::template::Template;
use crate::error::RuntimeError;
use crate::oci::DEVICE_LINKS;

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
    /// Makes them. This process must be process 1 of a new pid namespace, in the mounts of who made the `template`; without one, in a mount
    /// namespace of its own.
    pub(super) fn make(template: Option<Template>) -> Result<Self, RuntimeError> {
        let ahead = match template {
            Some(template) => Self::from_template(template),
            None => Self::from_outside(),
        }?;
        // From here on nothing of it goes any more when something is unmounted outside.
        for tree in [&ahead.proc, &ahead.sys, &ahead.dev] {
            detached::private(tree).map_err(|errno| RuntimeError::call("mount_setattr(…, MS_PRIVATE)", errno))?;
        }
        Ok(ahead)
    }

    fn from_template(template: Template) -> Result<Self, RuntimeError> {
        let Template { bare, sys, devices, devices_missing, in_proc, empty } = template;
        let mut report = Report { devices_missing, sys_empty: sys.is_none(), ..Report::default() };
        let proc = detached::take_proc(&mut report)?;
        let dev = detached::new_dev()?;
        make_file(&dev.dir, "null")?;
        let devices = devices.copies().map_err(failed("open_tree(devices, OPEN_TREE_CLONE)"))?;
        takes_mounts(&dev, &devices)?;
        let mut cover = Cover::shared(empty, fill_dev(&dev, &devices)?);
        in_proc.impose(&proc, &mut cover)?;
        let sys = match sys {
            Some(sys) => clone_of(&sys, true).map_err(failed("open_tree(sysfs, OPEN_TREE_CLONE | AT_RECURSIVE)"))?,
            None => cover.of_directory()?,
        };
        Ok(Ahead { proc, sys, dev: dev.dir, scratch: scratch()?, ground: Ground::Shared { bare }, report })
    }

    fn from_outside() -> Result<Self, RuntimeError> {
        // What is unmounted outside meanwhile goes here too, so that nobody waits for this process.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).map_err(failed("mount(\"/\", MS_REC | MS_SLAVE)"))?;
        let mut report = Report::default();
        let mut proc = detached::take_proc(&mut report)?;
        let mut sys = detached::take_sys();
        let devices = detached::take_devices(&mut report)?;
        let mut dev = detached::new_dev()?;
        make_file(&dev.dir, "null")?;
        let stage = match takes_mounts(&dev, &devices)? {
            true => None,
            false => {
                let stage = Stage::make(&proc, &mut sys, &dev.dir)?;
                takes_mounts(&dev, &devices)?;
                Some(stage)
            }
        };
        report.sys_empty = sys.is_none();
        let mut cover = Cover::new(detached::empty()?, fill_dev(&dev, &devices)?);
        Restrictions::of_proc(&proc)?.impose(&proc, &mut cover)?;
        if let Some(sys) = &sys {
            Restrictions::of_sys(sys)?.impose(sys, &mut cover)?;
        }
        let mut sys = sys.map_or_else(|| cover.of_directory(), Ok)?;
        if let Some(stage) = stage {
            let mut trees = vec![(&mut proc, "proc"), (&mut dev.dir, "dev")];
            // What stands for it has never been on the stage, or is a copy already.
            if !report.sys_empty {
                trees.push((&mut sys, "sys"));
            }
            stage.leave(trees)?;
        }
        Ok(Ahead { proc, sys, dev: dev.dir, scratch: scratch()?, ground: Ground::Copy, report })
    }
}

pub(super) fn scratch() -> Result<OwnedFd, RuntimeError> {
    let quiet =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dir = detached::fresh("tmpfs", &[("mode", "700"), ("size", "64m")], quiet)
        .map_err(failed("fsmount(scratch tmpfs)"))?;
    rustix::fs::mkdirat(&dir, "root", Mode::from_raw_mode(0o755)).map_err(failed("mkdir(scratch/root)"))?;
    Ok(dir)
}

/// Puts the null device into the new /dev, on its file. Returns whether that went: kernels before 6.15 mount nothing on a mount that is
/// nowhere.
fn takes_mounts(dev: &Dev, devices: &Devices) -> Result<bool, RuntimeError> {
    match put_in(&devices.null, &dev.dir, "null") {
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

/// Makes a file in /dev, to mount a device on. Who lists the directory is told the type of this one: so it is the device 0:0, the one that
/// everybody may make (Linux 5.8), or an empty file.
fn make_file(dev: &OwnedFd, name: &str) -> Result<(), RuntimeError> {
    let make = |file_type| rustix::fs::mknodat(dev, name, file_type, Mode::from_raw_mode(0o666), 0);
    make(FileType::CharacterDevice)
        .or_else(|_| make(FileType::RegularFile))
        .map_err(failed(format!("mknod(\"/dev/{name}\")")))
}

/// Fills /dev, where null is already. Only this process has seen the new tmpfs: its names are what they were made as. Returns the null
/// device.
fn fill_dev(dev: &Dev, devices: &Devices) -> Result<OwnedFd, RuntimeError> {
    let dir = &dev.dir;
    let moved =
        |tree: &OwnedFd, name: &str| put_in(tree, dir, name).map_err(failed(format!("move_mount(…, \"/dev/{name}\")")));
    for (name, tree) in &devices.others {
        make_file(dir, name)?;
        moved(tree, name)?;
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
