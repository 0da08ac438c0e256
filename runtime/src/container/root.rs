//! The file system of a step: mounts it, moves into it, and closes the way back.
//!
//! The order is what keeps an image from reaching the host. First everything is taken from outside, as mounts that are
//! nowhere yet. Then the new root becomes the root, and the old one goes. Only then is a path of the image looked up;
//! its links then lead nowhere but inside. What is mounted is put on handles of what was found, never on paths.
//!
//! Most of it is the same for every step, and made before it is known what the step is: [`Ahead`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno as E;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
};

use super::detached::{self, Outside, Own, clone_of, failed, put, read_only, shown};
use super::{ContainerSpec, Report, RootfsSource, mounts};
use crate::error::RuntimeError;
use crate::oci::{DEVICE_LINKS, PROC_MASKED, PROC_READ_ONLY, SYS_MASKED};
use crate::rootfs::Rootfs;

/// What every step sees of the kernel, as trees of mounts that are nowhere yet.
pub(super) struct Ahead {
    proc: OwnedFd,
    sys: OwnedFd,
    /// With an empty directory shm.
    dev: OwnedFd,
    report: Report,
}

impl Ahead {
    /// Makes them. This process must be process 1 of a new pid namespace in a mount namespace of its own.
    pub(super) fn make() -> Result<Self, RuntimeError> {
        // What is unmounted outside meanwhile goes here too, so that nobody waits for this process.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).map_err(failed("mount(\"/\", MS_REC | MS_SLAVE)"))?;
        let mut report = Report::default();
        let Outside { proc, sys, dev, empty } = detached::take(&mut report)?;
        // Kernels before 6.15 mount nothing on a mount that is nowhere. So the trees are put together on top of the root,
        // where no path leads from below, and then copied.
        let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let stage = detached::fresh("tmpfs", &[("mode", "700"), ("size", "64k")], quiet)
            .map_err(failed("fsmount(stage tmpfs)"))?;
        put(&stage, &detached::open_path(Path::new("/"), OFlags::DIRECTORY)?)
            .map_err(failed("move_mount(stage tmpfs, \"/\")"))?;
        let stage = Rootfs::of(stage);
        for name in ["proc", "sys", "dev"] {
            rustix::fs::mkdirat(stage.dir(), name, Mode::from_raw_mode(0o755))
                .map_err(failed(format!("mkdir(stage/{name})")))?;
        }
        let mut cover = Cover { empty, shown: false };
        let proc = mount_on(&stage, proc, "proc")?;
        let null = fill_dev(&stage, &dev)?;
        let point = mount_point(&stage, "sys")?;
        let sys = sys.filter(|tree| put(tree, &point).is_ok()).map(Rootfs::of);
        if sys.is_none() {
            report.sys_empty = true;
            cover.directory(&point)?;
        }
        restrict(&proc, sys.as_ref(), &null, &mut cover)?;
        rustix::process::fchdir(stage.dir()).map_err(failed("fchdir(stage)"))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(".", private).map_err(failed("mount(stage, MS_REC | MS_PRIVATE)"))?;
        let copy = |tree: &OwnedFd, name: &str| {
            clone_of(tree, true).map_err(failed(format!("open_tree(stage/{name}, OPEN_TREE_CLONE | AT_RECURSIVE)")))
        };
        let ahead = Ahead {
            proc: copy(proc.dir(), "proc")?,
            sys: copy(sys.as_ref().map_or(&cover.empty, Rootfs::dir), "sys")?,
            dev: copy(&dev.dir, "dev")?,
            report,
        };
        unmount(".", UnmountFlags::DETACH).map_err(failed("umount2(stage, MNT_DETACH)"))?;
        rustix::process::chdir("/").map_err(failed("chdir(\"/\")"))?;
        Ok(ahead)
    }
}

/// Makes `spec`'s file system the root of this process, which made `ahead`.
pub(super) fn build(spec: &ContainerSpec, ahead: Ahead) -> Result<Report, RuntimeError> {
    let Ahead { proc, sys, dev, report } = ahead;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("mount(\"/\", MS_REC | MS_PRIVATE)"))?;
    let root = Rootfs::of(mount_root(spec)?);
    let old_root = detached::open_path(Path::new("/"), OFlags::DIRECTORY)?;
    let Own { binds, shm } = detached::take_own(spec)?;
    let more = mounts::take(spec)?;
    rustix::process::fchdir(root.dir()).map_err(failed("fchdir(root)"))?;
    enter(&old_root)?;
    drop(old_root);
    arrived(&root)?;

    for (tree, name) in [(&proc, "proc"), (&sys, "sys"), (&dev, "dev")] {
        put(tree, &mount_point(&root, name)?).map_err(failed(format!("move_mount(…, \"/{name}\")")))?;
    }
    put(&shm, &named(&dev, "shm")?).map_err(failed("move_mount(tmpfs, \"/dev/shm\")"))?;
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

/// Mounts the root file system and returns it.
fn mount_root(spec: &ContainerSpec) -> Result<OwnedFd, RuntimeError> {
    let scratch = &spec.scratch;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", scratch, "tmpfs", flags, c"mode=700,size=64m")
        .map_err(failed(format!("mount(tmpfs, {})", shown(scratch))))?;
    rustix::process::chdir(scratch).map_err(failed(format!("chdir({})", shown(scratch))))?;
    rustix::fs::mkdir("root", Mode::from_raw_mode(0o755)).map_err(failed("mkdir(scratch/root)"))?;
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
    attempt(options[1]).map_err(|errno| RuntimeError::Overlay {
        lower: lower.len(),
        upper: upper.to_path_buf(),
        options: options[1].into(),
        source: errno.into(),
    })
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

/// Puts `tree` on the directory `name` of the image and returns it as the root of its own paths.
fn mount_on(root: &Rootfs, tree: OwnedFd, name: &str) -> Result<Rootfs, RuntimeError> {
    put(&tree, &mount_point(root, name)?).map_err(failed(format!("move_mount(…, \"/{name}\")")))?;
    Ok(Rootfs::of(tree))
}

fn attach_bind(root: &Rootfs, tree: &OwnedFd, target: &Path) -> Result<(), RuntimeError> {
    use std::os::unix::ffi::OsStrExt;
    let place = root
        .resolve(target.as_os_str().as_bytes())
        .map_err(|error| RuntimeError::call(format!("openat2({}, RESOLVE_IN_ROOT)", shown(target)), error))?;
    put(tree, &place).map_err(failed(format!("move_mount(…, {})", shown(target))))
}

/// Returns what `name` in /dev is. Only this process has seen the new tmpfs: its names are what they were made as.
fn named(dev: &OwnedFd, name: &str) -> Result<OwnedFd, RuntimeError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dev, name, flags, Mode::empty()).map_err(failed(format!("open(\"/dev/{name}\", O_PATH)")))
}

/// Mounts /dev and what is in it. Returns its null device.
fn fill_dev(stage: &Rootfs, dev: &detached::Dev) -> Result<OwnedFd, RuntimeError> {
    let point = mount_point(stage, "dev")?;
    let dir = &dev.dir;
    put(dir, &point).map_err(failed("move_mount(tmpfs, \"/dev\")"))?;
    let moved = |tree: &OwnedFd, name: &str| {
        put(tree, &named(dir, name)?).map_err(failed(format!("move_mount(…, \"/dev/{name}\")")))
    };
    for (name, tree) in &dev.devices {
        rustix::fs::mknodat(dir, *name, FileType::RegularFile, Mode::from_raw_mode(0o666), 0)
            .map_err(failed(format!("mknod(\"/dev/{name}\")")))?;
        moved(tree, name)?;
    }
    for (target, link) in DEVICE_LINKS {
        rustix::fs::symlinkat(target, dir, link).map_err(failed(format!("symlink(\"/dev/{link}\")")))?;
    }
    for (name, tree) in [("pts", Some(&dev.pts)), ("shm", None), ("mqueue", dev.mqueue.as_ref())] {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))
            .map_err(failed(format!("mkdir(\"/dev/{name}\")")))?;
        if let Some(tree) = tree {
            moved(tree, name)?;
        }
    }
    named(dir, "null")
}

/// An empty directory that nothing can be put into, shown in place of others.
struct Cover {
    empty: OwnedFd,
    /// Whether it is mounted somewhere. A mount that is nowhere can not be copied.
    shown: bool,
}

impl Cover {
    fn directory(&mut self, place: &OwnedFd) -> Result<(), RuntimeError> {
        let put = |tree: &OwnedFd| put(tree, place).map_err(failed("move_mount(empty tmpfs, …)"));
        if self.shown {
            return put(&clone_of(&self.empty, false).map_err(failed("open_tree(empty tmpfs, OPEN_TREE_CLONE)"))?);
        }
        self.shown = true;
        put(&self.empty)
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
            Some((place, FileType::Directory)) => cover.directory(&place)?,
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
