//! What is the same for all steps of a nursery. I makes it once; what a step sees of the kernel ([`Ahead`](super::ahead::Ahead)) is
//! put together of copies, which takes a fraction of the calls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::Report;
use super::ahead::scratch;
use super::detached::{self, Devices, clone_of, failed, private, put, put_in};
use super::restrict::{Cover, Restrictions};
use super::step::own_pidfd;
use crate::error::RuntimeError;
use crate::sys;

/// It is nowhere mounted; who copies it must be in the mounts in which it was made.
pub(super) struct Template {
    /// A mount namespace with nothing in it but an empty directory, for steps to begin theirs with: to leave the mounts around takes as
    /// long as a processor may take to notice, and to copy them as long as they are many.
    pub(super) bare: OwnedFd,
    /// `None` where it can not be shown read-only.
    pub(super) sys: Option<OwnedFd>,
    pub(super) devices: Devices,
    pub(super) devices_missing: Vec<String>,
    pub(super) in_proc: Restrictions,
    /// A read-only tmpfs with nothing in it.
    pub(super) empty: OwnedFd,
}

impl Template {
    /// Makes it. `home` are the mounts that this process, the first one of its pid namespace, is in, and is in again when this returns.
    /// `None` where steps can not begin so.
    ///
    /// # Errors
    /// The way back is closed.
    pub(super) fn make(home: &OwnedFd) -> Result<Option<Self>, RuntimeError> {
        if !takes_mounts_nowhere() || sys::unshare(libc::CLONE_NEWNS).is_err() {
            return Ok(None);
        }
        let bare = leave();
        enter(home, "mounts outside")?;
        // What is wrong shows where a step does without it, and says so.
        Ok(bare.and_then(Self::with).ok())
    }

    fn with(bare: OwnedFd) -> Result<Self, RuntimeError> {
        let mut report = Report::default();
        let in_proc = Restrictions::of_proc(&detached::take_proc(&mut report)?)?;
        let devices = detached::take_devices(&mut report)?;
        let empty = detached::empty()?;
        let sys = detached::take_sys();
        if let Some(sys) = &sys {
            let null = clone_of(&devices.null, false).map_err(failed("open_tree(\"/dev/null\", OPEN_TREE_CLONE)"))?;
            let mut cover = Cover::shared(
                clone_of(&empty, false).map_err(failed("open_tree(empty tmpfs, OPEN_TREE_CLONE)"))?,
                null,
            );
            Restrictions::of_sys(sys)?.impose(sys, &mut cover)?;
            private(sys).map_err(|errno| RuntimeError::call("mount_setattr(\"/sys\", MS_PRIVATE)", errno))?;
        }
        Ok(Template { bare, sys, devices, devices_missing: report.devices_missing, in_proc, empty })
    }
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

/// Returns whether the kernel mounts on a mount that is nowhere, as it does from 6.15 on. Then it also takes from one.
fn takes_mounts_nowhere() -> bool {
    let trial = || -> Result<(), RuntimeError> {
        put_in(&detached::empty()?, &scratch()?, "root").map_err(failed("move_mount(tmpfs, tmpfs)"))
    };
    trial().is_ok()
}
