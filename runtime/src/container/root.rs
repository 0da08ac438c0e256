//! The file system of a step: mounts it, moves into it, and closes the way back.
//!
//! Sources are taken from outside before the move, as detached mounts. Targets are resolved after it, by the kernel,
//! with the new root as root: no link in an image leads anywhere else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_move,
    move_mount, open_tree, unmount,
};

use super::{Bind, ContainerSpec, Report, RootfsSource};
use crate::error::{Errno, RuntimeError};
use crate::sys;

const MOUNT_ATTR_RDONLY: u64 = 1;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Files that would let uid 0 change or restart the machine where it is the real one (a direct map).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What tells of the machine more than a step should know, or belongs to the machine alone.
const MASKED: [&str; 18] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// What was taken from outside.
struct Outside {
    root: OwnedFd,
    empty: OwnedFd,
    null: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    sys: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    binds: Vec<(OwnedFd, PathBuf)>,
}

/// Makes `spec`'s file system the root of this process, which must be process 1 of a new pid namespace in a mount
/// namespace of its own.
pub(super) fn build(spec: &ContainerSpec) -> Result<Report, RuntimeError> {
    let mut report = Report::default();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("mount(\"/\", MS_REC | MS_PRIVATE)"))?;
    let new_root = mount_root(spec)?;
    let outside = take(spec, &mut report)?;
    rustix::process::fchdir(&new_root).map_err(failed("fchdir(root)"))?;
    let covered = enter()?;
    // A new procfs is granted only as long as the old one is in sight.
    mount_proc(&outside, &mut report)?;
    mount_dev(&outside)?;
    mount_sys(&outside, &mut report)?;
    restrict(&outside)?;
    for (tree, target) in &outside.binds {
        attach(tree, target)?;
    }
    if !covered {
        leave(&outside)?;
    }
    rustix::process::chdir("/").map_err(failed("chdir(\"/\")"))?;
    Ok(report)
}

fn failed(call: impl Into<String>) -> impl FnOnce(E) -> RuntimeError {
    move |errno| RuntimeError::call(call, errno)
}

fn shown(path: &Path) -> String {
    format!("{path:?}")
}

/// Mounts the root file system and returns it.
fn mount_root(spec: &ContainerSpec) -> Result<OwnedFd, RuntimeError> {
    let scratch = &spec.scratch;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", scratch, "tmpfs", flags, c"mode=700,size=4m")
        .map_err(failed(format!("mount(tmpfs, {})", shown(scratch))))?;
    rustix::process::chdir(scratch).map_err(failed(format!("chdir({})", shown(scratch))))?;
    for dir in ["root", "empty"] {
        rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)).map_err(failed(format!("mkdir(scratch/{dir})")))?;
    }
    match &spec.rootfs {
        RootfsSource::Overlay { lower, upper, work } => mount_overlay(lower, upper, work)?,
        RootfsSource::Dir(dir) => {
            rustix::mount::mount_bind_recursive(dir, "root")
                .map_err(failed(format!("mount({}, root, MS_BIND | MS_REC)", shown(dir))))?;
        }
    }
    open_path(Path::new("root"), OFlags::DIRECTORY)
}

/// Mounts the layers on "root". Links with short names stand for the directories: that way 500 of them fit the page
/// that mount(2) reads, and no character in a path means anything.
fn mount_overlay(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<(), RuntimeError> {
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
    let layers = format!("lowerdir={},upperdir=u,workdir=w", names.join(":"));
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

fn take(spec: &ContainerSpec, report: &mut Report) -> Result<Outside, RuntimeError> {
    let mut devices = Vec::with_capacity(DEVICES.len());
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        match clone_tree(&path, false) {
            Ok(tree) => devices.push((name, tree)),
            Err(_) if name != "null" => report.devices_missing.push(name.into()),
            Err(errno) => return Err(RuntimeError::call("open_tree(\"/dev/null\", OPEN_TREE_CLONE)", errno)),
        }
    }
    let mut binds = Vec::with_capacity(spec.binds.len());
    for Bind { source, target, read_only } in &spec.binds {
        let name = shown(source);
        let tree = clone_tree(source, true).map_err(failed(format!("open_tree({name}, OPEN_TREE_CLONE)")))?;
        if *read_only {
            make_read_only(&tree)
                .map_err(|errno| RuntimeError::call(format!("mount_setattr({name}, MOUNT_ATTR_RDONLY)"), errno))?;
        }
        binds.push((tree, target.clone()));
    }
    Ok(Outside {
        root: open_path(Path::new("/"), OFlags::DIRECTORY)?,
        empty: open_path(Path::new("empty"), OFlags::DIRECTORY)?,
        null: open_path(Path::new("/dev/null"), OFlags::empty())?,
        devices,
        sys: clone_tree(Path::new("/sys"), true).ok().filter(|tree| make_read_only(tree).is_ok()),
        // Only for the case that a new one is refused.
        proc: clone_tree(Path::new("/proc"), true).ok(),
        binds,
    })
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())
        .map_err(failed(format!("open({}, O_PATH)", shown(path))))
}

fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, E> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

fn clone_of(file: &OwnedFd) -> Result<OwnedFd, E> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(file, c"", flags)
}

fn make_read_only(tree: &OwnedFd) -> Result<(), Errno> {
    sys::mount_setattr(tree.as_fd(), MOUNT_ATTR_RDONLY, true)
}

/// Puts a detached mount on `target`, a path inside the new root.
fn attach(tree: &OwnedFd, target: &Path) -> Result<(), RuntimeError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS
        | MoveMountFlags::MOVE_MOUNT_T_AUTOMOUNTS;
    move_mount(tree, c"", CWD, target, flags).map_err(failed(format!("move_mount(…, {})", shown(target))))
}

/// Makes the working directory the root. Returns whether the old root is covered for good (true), or waits on top of
/// the new one to be unmounted (false).
fn enter() -> Result<bool, RuntimeError> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => Ok(false),
        // A seccomp profile, or a root that can not be moved (initramfs).
        Err(E::PERM | E::INVAL | E::NOSYS) => {
            mount_move(".", "/").map_err(failed("mount(\".\", \"/\", MS_MOVE)"))?;
            rustix::process::chroot(".").map_err(failed("chroot(\".\")"))?;
            Ok(true)
        }
        Err(errno) => Err(RuntimeError::call("pivot_root(\".\", \".\")", errno)),
    }
}

fn leave(outside: &Outside) -> Result<(), RuntimeError> {
    rustix::process::fchdir(&outside.root).map_err(failed("fchdir(old root)"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("umount2(old root, MNT_DETACH)"))
}

fn mount_proc(outside: &Outside, report: &mut Report) -> Result<(), RuntimeError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let errno = match mount("proc", "/proc", "proc", flags, None) {
        Ok(()) => return Ok(()),
        Err(errno) => errno,
    };
    match (&outside.proc, errno) {
        (Some(tree), E::PERM) => {
            report.proc_bound = true;
            attach(tree, Path::new("/proc"))
        }
        _ => Err(RuntimeError::call("mount(proc, \"/proc\")", errno)),
    }
}

fn mount_dev(outside: &Outside) -> Result<(), RuntimeError> {
    mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID, c"mode=755,size=65536k")
        .map_err(failed("mount(tmpfs, \"/dev\")"))?;
    for (name, tree) in &outside.devices {
        let path = Path::new("/dev").join(name);
        touch(&path)?;
        attach(tree, &path)?;
    }
    for (target, link) in DEVICE_LINKS {
        rustix::fs::symlink(target, link).map_err(failed(format!("symlink({link:?})")))?;
    }
    for dir in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)).map_err(failed(format!("mkdir({dir:?})")))?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    // Group 5 is tty, by agreement; where the map has no such group, terminals belong to their user's.
    mount("devpts", "/dev/pts", "devpts", quiet, c"newinstance,ptmxmode=0666,mode=0620,gid=5")
        .or_else(|_| mount("devpts", "/dev/pts", "devpts", quiet, c"newinstance,ptmxmode=0666,mode=0620"))
        .map_err(failed("mount(devpts, \"/dev/pts\", newinstance)"))?;
    mount("shm", "/dev/shm", "tmpfs", quiet | MountFlags::NODEV, c"mode=1777,size=65536k")
        .map_err(failed("mount(tmpfs, \"/dev/shm\")"))?;
    // Few programs use message queues, and some kernels have none.
    let _ = mount("mqueue", "/dev/mqueue", "mqueue", quiet | MountFlags::NODEV, None);
    Ok(())
}

fn touch(path: &Path) -> Result<(), RuntimeError> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))
        .map(drop)
        .map_err(failed(format!("open({}, O_CREAT)", shown(path))))
}

fn mount_sys(outside: &Outside, report: &mut Report) -> Result<(), RuntimeError> {
    let target = Path::new("/sys");
    if let Some(tree) = &outside.sys
        && attach(tree, target).is_ok()
    {
        return Ok(());
    }
    report.sys_empty = true;
    cover_directory(outside, target)
}

/// Shows an empty directory at `target`, which nothing can be put into.
fn cover_directory(outside: &Outside, target: &Path) -> Result<(), RuntimeError> {
    let tree = clone_of(&outside.empty).map_err(failed("open_tree(scratch/empty, OPEN_TREE_CLONE)"))?;
    make_read_only(&tree)
        .map_err(|errno| RuntimeError::call("mount_setattr(scratch/empty, MOUNT_ATTR_RDONLY)", errno))?;
    attach(&tree, target)
}

/// Takes away what a step must not see, and the writing of what it must not change. What the kernel does not have is
/// not there to be taken away.
fn restrict(outside: &Outside) -> Result<(), RuntimeError> {
    for path in READ_ONLY.map(Path::new) {
        let tree = match clone_tree(path, true) {
            Ok(tree) => tree,
            Err(E::NOENT) => continue,
            Err(errno) => return Err(RuntimeError::call(format!("open_tree({path:?}, OPEN_TREE_CLONE)"), errno)),
        };
        make_read_only(&tree)
            .map_err(|errno| RuntimeError::call(format!("mount_setattr({path:?}, MOUNT_ATTR_RDONLY)"), errno))?;
        attach(&tree, path)?;
    }
    for path in MASKED.map(Path::new) {
        match rustix::fs::stat(path).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode)) {
            Ok(rustix::fs::FileType::Directory) => cover_directory(outside, path)?,
            Ok(_) => {
                let null = clone_of(&outside.null).map_err(failed("open_tree(\"/dev/null\", OPEN_TREE_CLONE)"))?;
                attach(&null, path)?;
            }
            Err(_) => {}
        }
    }
    Ok(())
}
