//! The file system of a step: mounts it, moves into it, and closes the way back.
//!
//! The order is what keeps an image from reaching the host. First everything is taken from outside, as mounts that are
//! nowhere yet. Then the new root becomes the root, and the old one goes. Only then is a path of the image looked up;
//! its links then lead nowhere but inside. What is mounted is put on handles of what was found, never on paths.
//!
//! What every step sees of the kernel was made before it was known what the step is: [`Ahead`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxFlags};
use rustix::io::Errno as E;
use rustix::mount::{MountPropagationFlags, mount_change, mount_move};

use super::ahead::{Ahead, Ground};
use super::detached::{self, clone_tree, failed, put, shown};
use super::mounts::{self, Stacks, Taken};
use super::process::Made;
use super::supervise::Handles;
use super::{ContainerSpec, DEFAULT_SHM, RootfsSource, cwd, overlay, template};
use crate::error::RuntimeError;
use crate::rootfs::Rootfs;
use crate::sys;

/// Makes `spec`'s file system the root of this process, which made `ahead`.
pub(super) fn build(spec: &ContainerSpec, ahead: Ahead) -> Result<(Made, Handles), RuntimeError> {
    let Ahead { proc, sys, dev, scratch, ground, report } = ahead;
    let (Inside { root, handles, binds, more }, mounts) = match ground {
        Ground::Shared { bare } => {
            let (inside, mounts) = from_shared(spec, &bare, &scratch)?;
            (inside, Some(mounts))
        }
        Ground::Copy => (from_copy(spec, &scratch)?, None),
    };
    arrived(&root)?;
    for (tree, name) in [(&proc, "proc"), (&sys, "sys"), (&dev, "dev")] {
        put(tree, &mount_point(&root, name)?).map_err(failed(format!("move_mount(…, \"/{name}\")")))?;
    }
    if spec.limits.shm_size() != DEFAULT_SHM {
        detached::resize_shm(&dev, spec.limits.shm_size())?;
    }
    for (tree, target) in &binds {
        attach_bind(&root, tree, target)?;
    }
    for (tree, target) in &more {
        mounts::attach(&root, tree, target)?;
    }
    // Whatever was mounted, the root is the one that it was.
    arrived(&root)?;
    let in_cwd = cwd::enter(&root, spec);
    Ok((Made { report, mounts, in_cwd }, handles))
}

/// What this process has got when it is in its new root, and the old one is gone. No path of the image has been looked up.
struct Inside {
    root: Rootfs,
    handles: Handles,
    binds: Vec<Taken>,
    more: Vec<Taken>,
}

/// From the mounts outside, which others share, to some of its own that begin as the `bare` ones: with an empty directory as their root,
/// which the new one covers. Returns the namespace, too.
fn from_shared(spec: &ContainerSpec, bare: &OwnedFd, scratch: &OwnedFd) -> Result<(Inside, OwnedFd), RuntimeError> {
    let handles = Handles::of(spec)?;
    let tree = match &spec.rootfs {
        RootfsSource::Overlay { lower, upper, work } => overlay::loose(lower, upper, work)?,
        RootfsSource::Dir(dir) => {
            clone_tree(dir, true).map_err(failed(format!("open_tree({}, OPEN_TREE_CLONE)", shown(dir))))?
        }
    };
    let binds = detached::take_binds(spec)?;
    let more = mounts::take(spec, Stacks::Loose)?;
    template::enter(bare, "bare mounts")?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|errno| RuntimeError::call("unshare(CLONE_NEWNS)", errno))?;
    let own = template::own_mounts(handles.command())?;
    let above = detached::open_path(Path::new("/"), OFlags::DIRECTORY)?;
    put(scratch, &above).map_err(failed("move_mount(scratch tmpfs, \"/\")"))?;
    rustix::process::fchdir(scratch).map_err(failed("fchdir(scratch)"))?;
    let more = mounts::make(spec, more)?;
    put(&tree, &above).map_err(failed("move_mount(root, \"/\")"))?;
    rustix::process::fchdir(&tree).map_err(failed("fchdir(root)"))?;
    cover()?;
    Ok((Inside { root: Rootfs::of(tree), handles, binds, more }, own))
}

/// From a copy of the mounts outside.
fn from_copy(spec: &ContainerSpec, scratch: &OwnedFd) -> Result<Inside, RuntimeError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("mount(\"/\", MS_REC | MS_PRIVATE)"))?;
    let handles = Handles::of(spec)?;
    let root = Rootfs::of(mount_root(spec, scratch)?);
    let old_root = detached::open_path(Path::new("/"), OFlags::DIRECTORY)?;
    let binds = detached::take_binds(spec)?;
    let more = mounts::make(spec, mounts::take(spec, Stacks::InScratch)?)?;
    rustix::process::fchdir(root.dir()).map_err(failed("fchdir(root)"))?;
    enter(&old_root)?;
    Ok(Inside { root, handles, binds, more })
}

/// Mounts the root file system in `scratch` and returns it. Leaves that as the working directory.
fn mount_root(spec: &ContainerSpec, scratch: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    put(scratch, &detached::open_path(&spec.scratch, OFlags::DIRECTORY)?)
        .map_err(failed(format!("move_mount(scratch tmpfs, {})", shown(&spec.scratch))))?;
    rustix::process::fchdir(scratch).map_err(failed("fchdir(scratch)"))?;
    match &spec.rootfs {
        RootfsSource::Overlay { lower, upper, work } => overlay::stack(lower, upper, work)?,
        RootfsSource::Dir(dir) => {
            rustix::mount::mount_bind_recursive(dir, "root")
                .map_err(failed(format!("mount({}, root, MS_BIND | MS_REC)", shown(dir))))?;
        }
    }
    detached::open_path(Path::new("root"), OFlags::DIRECTORY)
}

/// Makes the working directory the root, and takes the old one away. No path of the image is looked up before this.
fn enter(old_root: &OwnedFd) -> Result<(), RuntimeError> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => detached::drop_old_root(old_root),
        // A seccomp profile, or a root that can not be moved (initramfs). Here the new root covers the old one for good.
        Err(E::PERM | E::INVAL | E::NOSYS) => {
            mount_move(".", "/").map_err(failed("mount(\".\", \"/\", MS_MOVE)"))?;
            cover()
        }
        Err(errno) => Err(RuntimeError::call("pivot_root(\".\", \".\")", errno)),
    }
}

/// Makes the working directory the root, where it is mounted on the one of the mount namespace.
fn cover() -> Result<(), RuntimeError> {
    rustix::process::chroot(".").map_err(failed("chroot(\".\")"))?;
    rustix::process::chdir("/").map_err(failed("chdir(\"/\")"))
}

/// Checks that this process is in `root`, and that nothing lies above it or on top of it.
fn arrived(root: &Rootfs) -> Result<(), RuntimeError> {
    let mount_of = |dir: BorrowedFd<'_>, path: &str| {
        let stat = rustix::fs::statx(dir, path, AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
            .and_then(|stat| if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(E::OPNOTSUPP) } else { Ok(stat) })
            .map_err(failed(format!("statx({path:?}, STATX_MNT_ID)")))?;
        Ok(stat.stx_mnt_id)
    };
    let expected = mount_of(root.dir().as_fd(), "")?;
    for path in ["/", "/..", "."] {
        if mount_of(CWD, path)? != expected {
            return Err(RuntimeError::RootNotLeft { path: path.into() });
        }
    }
    Ok(())
}

/// Returns the directory `name` right below the root of the image.
fn mount_point(root: &Rootfs, name: &str) -> Result<OwnedFd, RuntimeError> {
    let bad = |what: &str| RuntimeError::BadMountPoint { path: format!("/{name}"), what: what.into() };
    match root.place(name) {
        Ok((place, FileType::Directory)) => Ok(place),
        Ok(_) => Err(bad("is not a directory")),
        Err(E::LOOP) => Err(bad("is a symbolic link, not a directory")),
        Err(E::NOENT) => Err(bad("does not exist")),
        Err(errno) => Err(RuntimeError::call(format!("openat2(\"/{name}\", RESOLVE_NO_SYMLINKS)"), errno)),
    }
}

fn attach_bind(root: &Rootfs, tree: &OwnedFd, target: &Path) -> Result<(), RuntimeError> {
    use std::os::unix::ffi::OsStrExt;
    let place = root
        .resolve(target.as_os_str().as_bytes())
        .map_err(|error| RuntimeError::call(format!("openat2({}, RESOLVE_IN_ROOT)", shown(target)), error))?;
    put(tree, &place).map_err(failed(format!("move_mount(…, {})", shown(target))))
}
