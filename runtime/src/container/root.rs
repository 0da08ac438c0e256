//! The file system of a step: mounts it, moves into it, and closes the way back.
//!
//! The order is what keeps an image from reaching the host. First everything is taken from outside, as mounts that are
//! nowhere yet. Then the new root becomes the root, and the old one goes. Only then is a path of the image looked up;
//! its links then lead nowhere but inside. What is mounted is put on handles of what was found, never on paths.
//!
//! What every step sees of the kernel was made before it was known what the step is: [`Ahead`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxFlags};
use rustix::io::Errno as E;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, mount_move,
    move_mount, unmount,
};

use super::ahead::Ahead;
use super::detached::{self, Own, failed, put, put_in, shown};
use super::{ContainerSpec, Report, RootfsSource, mounts};
use crate::error::RuntimeError;
use crate::rootfs::Rootfs;

/// Makes `spec`'s file system the root of this process, which made `ahead`.
pub(super) fn build(spec: &ContainerSpec, ahead: Ahead) -> Result<Report, RuntimeError> {
    let Ahead { proc, sys, dev, shm, scratch, report } = ahead;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("mount(\"/\", MS_REC | MS_PRIVATE)"))?;
    let root = Rootfs::of(mount_root(spec, &scratch)?);
    let old_root = detached::open_path(Path::new("/"), OFlags::DIRECTORY)?;
    let Own { binds, shm } = detached::take_own(spec, shm)?;
    let more = mounts::take(spec)?;
    rustix::process::fchdir(root.dir()).map_err(failed("fchdir(root)"))?;
    enter(&old_root)?;
    drop(old_root);
    arrived(&root)?;

    for (tree, name) in [(&proc, "proc"), (&sys, "sys"), (&dev, "dev")] {
        put(tree, &mount_point(&root, name)?).map_err(failed(format!("move_mount(…, \"/{name}\")")))?;
    }
    put_in(&shm, &dev, "shm").map_err(failed("move_mount(tmpfs, \"/dev/shm\")"))?;
    for (tree, target) in &binds {
        attach_bind(&root, tree, target)?;
    }
    for (tree, target) in &more {
        mounts::attach(&root, tree, target)?;
    }
    // Whatever was mounted, the root is the one that it was.
    arrived(&root)?;
    Ok(report)
}

/// Mounts the root file system in `scratch` and returns it. Leaves that as the working directory.
fn mount_root(spec: &ContainerSpec, scratch: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    put(scratch, &detached::open_path(&spec.scratch, OFlags::DIRECTORY)?)
        .map_err(failed(format!("move_mount(scratch tmpfs, {})", shown(&spec.scratch))))?;
    rustix::process::fchdir(scratch).map_err(failed("fchdir(scratch)"))?;
    match &spec.rootfs {
        RootfsSource::Overlay { lower, upper, work } => stack(lower, upper, work)?,
        RootfsSource::Dir(dir) => {
            rustix::mount::mount_bind_recursive(dir, "root")
                .map_err(failed(format!("mount({}, root, MS_BIND | MS_REC)", shown(dir))))?;
        }
    }
    detached::open_path(Path::new("root"), OFlags::DIRECTORY)
}

/// Mounts layers on "root" in the working directory.
pub(super) fn stack(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<(), RuntimeError> {
    keeps_attributes(upper).map_err(|errno| overlay_error(lower, upper, errno))?;
    // Where that fails, the older call does or says why not.
    if stack_one_by_one(lower, upper, work).is_ok() {
        return Ok(());
    }
    let layers = match plain_layers(lower, upper, work) {
        Some(layers) => layers,
        None => linked_layers(lower, upper, work)?,
    };
    let attempt = |options: &str| {
        let data = std::ffi::CString::new(format!("{layers},{options}")).map_err(|_| E::INVAL)?;
        mount("overlay", "root", "overlay", MountFlags::empty(), data.as_c_str())
    };
    // A crash loses the whole step anyway, so nothing need be synced. Old kernels do not know the word.
    let options = ["userxattr,volatile", "userxattr"];
    if attempt(options[0]) == Ok(()) {
        return Ok(());
    }
    attempt(options[1]).map_err(|errno| overlay_error(lower, upper, errno))
}

fn overlay_error(lower: &[PathBuf], upper: &Path, errno: E) -> RuntimeError {
    let (lower, upper) = (lower.len(), upper.to_path_buf());
    RuntimeError::Overlay { lower, upper, options: "userxattr".into(), source: errno.into() }
}

/// Checks that the file system of `upper` keeps attributes; memory does not before Linux 6.6. Overlayfs takes one that does not, and then no
/// directory of the layers can be replaced: EIO.
fn keeps_attributes(upper: &Path) -> Result<(), E> {
    match rustix::fs::getxattr(upper, "user.overlay.opaque", &mut [0u8; 0][..]) {
        Err(E::OPNOTSUPP) => Err(E::OPNOTSUPP),
        // Whatever else is wrong, the kernel says so when it mounts.
        _ => Ok(()),
    }
}

/// As [`stack`], where each layer is named in a call of its own (Linux 6.8): as many as there are, with any character in their names.
fn stack_one_by_one(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<(), E> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for dir in lower {
        fsconfig_set_string(&context, "lowerdir+", dir)?;
    }
    fsconfig_set_string(&context, "upperdir", upper)?;
    fsconfig_set_string(&context, "workdir", work)?;
    fsconfig_set_flag(&context, "userxattr")?;
    // A crash loses the whole step anyway, so nothing need be synced.
    fsconfig_set_flag(&context, "volatile")?;
    fsconfig_create(&context)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&mounted, c"", CWD, c"root", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Returns the options that name the directories, where they fit the page that mount(2) reads and no character in them means
/// anything.
fn plain_layers(lower: &[PathBuf], upper: &Path, work: &Path) -> Option<String> {
    // The rest of the page is for what comes after.
    const MOST: usize = 4000;
    let name = |dir: &Path| dir.to_str().filter(|name| !name.contains([':', ',', '\\'])).map(str::to_owned);
    let names: Option<Vec<String>> = lower.iter().map(|dir| name(dir)).collect();
    let layers = format!("lowerdir={},upperdir={},workdir={}", names?.join(":"), name(upper)?, name(work)?);
    (layers.len() <= MOST).then_some(layers)
}

/// As [`plain_layers`], by links with short names that stand for the directories: that way 500 of them fit.
fn linked_layers(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<String, RuntimeError> {
    let link = |target: &Path, name: &str| {
        rustix::fs::symlink(target, name).map_err(failed(format!("symlink({}, scratch/{name})", shown(target))))
    };
    let mut names = Vec::with_capacity(lower.len());
    for (at, dir) in lower.iter().enumerate() {
        let name = at.to_string();
        link(dir, &name)?;
        names.push(name);
    }
    link(upper, "u")?;
    link(work, "w")?;
    Ok(format!("lowerdir={},upperdir=u,workdir=w", names.join(":")))
}

/// Makes the working directory the root, and takes the old one away. No path of the image is looked up before this.
fn enter(old_root: &OwnedFd) -> Result<(), RuntimeError> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            // The old root lies on top of the new one: what is unmounted is the topmost of what is there.
            rustix::process::fchdir(old_root).map_err(failed("fchdir(old root)"))?;
            unmount(".", UnmountFlags::DETACH).map_err(failed("umount2(old root, MNT_DETACH)"))?;
        }
        // A seccomp profile, or a root that can not be moved (initramfs). Here the new root covers the old one for good.
        Err(E::PERM | E::INVAL | E::NOSYS) => {
            mount_move(".", "/").map_err(failed("mount(\".\", \"/\", MS_MOVE)"))?;
            rustix::process::chroot(".").map_err(failed("chroot(\".\")"))?;
        }
        Err(errno) => return Err(RuntimeError::call("pivot_root(\".\", \".\")", errno)),
    }
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
