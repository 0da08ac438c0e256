//! The table, and how each line of it is tried. An attempt runs in a process of its own and may leave it as it likes.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as E;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree,
};
use rustix::process::{PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};

use crate::error::{Errno, RuntimeError};
use crate::sys::{self, Forked, notify};
use crate::{container::fence, seccomp, userns};

type Attempt = fn(&Path) -> Result<(), RuntimeError>;

/// Where a feature is tried.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// As the user that this is.
    Outside(Attempt),
    /// By entering the user namespace.
    Entering,
    /// As root of a user namespace, in a mount namespace of its own.
    Inside(Attempt),
}

pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) since: &'static str,
    pub(super) used_for: &'static str,
    pub(super) fallback: Option<&'static str>,
    pub(super) place: Place,
}

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "user namespace",
        since: "3.8",
        used_for: "being root without being root",
        fallback: None,
        place: Place::Outside(user_namespace),
    },
    Feature {
        name: "pidfd",
        since: "5.3",
        used_for: "ending a step, and seeing its end",
        fallback: None,
        place: Place::Outside(pidfd),
    },
    Feature {
        name: "close_range",
        since: "5.11",
        used_for: "handing no file to a step",
        fallback: None,
        place: Place::Outside(close_range),
    },
    Feature {
        name: "openat2",
        since: "5.6",
        used_for: "paths in images that cannot lead out of them",
        fallback: Some("each component is looked up by itself"),
        place: Place::Outside(openat2),
    },
    Feature {
        name: "Landlock",
        since: "5.19",
        used_for: "keeping steps that run at the same time from looking into each other",
        fallback: Some("a /proc of its own, which a container does not get"),
        place: Place::Outside(landlock),
    },
    Feature {
        name: "seccomp filter",
        since: "3.17",
        used_for: "what capabilities leave open: namespaces, mounts, keys, bpf, …",
        fallback: None,
        place: Place::Outside(seccomp_filter),
    },
    Feature {
        name: "seccomp listener",
        since: "5.14",
        used_for: "emulating owners where one id only can be mapped",
        fallback: Some("a full id map is needed"),
        place: Place::Outside(seccomp_listener),
    },
    Feature {
        name: "seccomp listener for which signals wait",
        since: "5.19",
        used_for: "emulating owners of programs that get signals all the time",
        fallback: Some("a call that a signal interrupts may be made twice"),
        place: Place::Outside(patient_listener),
    },
    Feature {
        name: "full id map",
        since: "3.8",
        used_for: "real users, groups and owners in a step",
        fallback: Some("one id is mapped, and all others are emulated"),
        place: Place::Entering,
    },
    Feature {
        name: "mount namespace",
        since: "3.8",
        used_for: "mounts that nobody else sees",
        fallback: None,
        place: Place::Inside(|_| Ok(())),
    },
    Feature {
        name: "pid, ipc and uts namespaces",
        since: "3.8",
        used_for: "no process survives its step",
        fallback: None,
        place: Place::Inside(other_namespaces),
    },
    Feature {
        name: "open_tree, fsmount, move_mount",
        since: "5.2",
        used_for: "mounts that touch no path of an image",
        fallback: None,
        place: Place::Inside(tree_clone),
    },
    Feature {
        name: "mount_setattr",
        since: "5.12",
        used_for: "read-only /sys, /proc/sys and binds",
        fallback: None,
        place: Place::Inside(mount_setattr),
    },
    Feature {
        name: "overlayfs with userxattr",
        since: "5.11",
        used_for: "layers, without copying them",
        fallback: None,
        place: Place::Inside(|dir| overlay(dir, "userxattr")),
    },
    Feature {
        name: "overlayfs with volatile",
        since: "5.10",
        used_for: "not waiting for the disk after each step",
        fallback: Some("the disk is waited for"),
        place: Place::Inside(|dir| overlay(dir, "userxattr,volatile")),
    },
    Feature {
        name: "devpts",
        since: "4.7",
        used_for: "terminals of the step",
        fallback: None,
        place: Place::Inside(devpts),
    },
    Feature {
        name: "fresh /proc",
        since: "3.8",
        used_for: "showing a step its own processes only",
        fallback: Some("the /proc of the caller is shown, read-only; it lists outer processes"),
        place: Place::Inside(fresh_proc),
    },
    Feature {
        name: "pivot_root",
        since: "2.4",
        used_for: "leaving the old root behind",
        fallback: Some("the new root is moved over the old one"),
        place: Place::Inside(pivot_root),
    },
    Feature {
        name: "file capabilities",
        since: "4.14",
        used_for: "setcap in a step",
        fallback: Some("setcap fails in a step"),
        place: Place::Inside(file_capabilities),
    },
    Feature {
        name: "overlayfs with lowerdir+",
        since: "6.8",
        used_for: "naming the layers one by one",
        fallback: Some("all of them are named at once, by short names"),
        place: Place::Inside(overlay_one_by_one),
    },
    Feature {
        name: "host name",
        since: "3.8",
        used_for: "a host name that is the same on every machine",
        fallback: Some("that of the caller is seen"),
        place: Place::Inside(host_name),
    },
    Feature {
        name: "message queues",
        since: "2.6.6",
        used_for: "/dev/mqueue",
        fallback: Some("the directory is empty"),
        place: Place::Inside(message_queues),
    },
];

fn named<T>(call: &str, result: Result<T, impl Into<Errno>>) -> Result<T, RuntimeError> {
    result.map_err(|errno| RuntimeError::call(call, errno))
}

fn user_namespace(_: &Path) -> Result<(), RuntimeError> {
    sys::unshare(libc::CLONE_NEWUSER).map_err(userns::refused)
}

fn pidfd(_: &Path) -> Result<(), RuntimeError> {
    named("pidfd_open", pidfd_open(getpid(), PidfdFlags::empty())).map(drop)
}

fn close_range(_: &Path) -> Result<(), RuntimeError> {
    named("close_range(CLOSE_RANGE_CLOEXEC)", sys::close_range(3, libc::CLOSE_RANGE_CLOEXEC))
}

fn landlock(_: &Path) -> Result<(), RuntimeError> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| RuntimeError::call("prctl(PR_SET_NO_NEW_PRIVS)", errno))?;
    fence::raise().map_err(|errno| RuntimeError::call("landlock_restrict_self", errno))
}

fn openat2(_: &Path) -> Result<(), RuntimeError> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    named("openat2(RESOLVE_IN_ROOT)", rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how))
        .map(drop)
}

fn install(flags: libc::c_ulong) -> Result<(), RuntimeError> {
    named("prctl(PR_SET_NO_NEW_PRIVS)", rustix::thread::set_no_new_privs(true))?;
    named("seccomp(SECCOMP_SET_MODE_FILTER)", sys::seccomp(&seccomp::filter(&[], seccomp::Foreign::Allowed), flags))
        .map(drop)
}

fn seccomp_filter(_: &Path) -> Result<(), RuntimeError> {
    install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

fn seccomp_listener(_: &Path) -> Result<(), RuntimeError> {
    named("prctl(PR_SET_NO_NEW_PRIVS)", rustix::thread::set_no_new_privs(true))?;
    listener()
}

fn patient_listener(_: &Path) -> Result<(), RuntimeError> {
    install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
}

/// Listens to the calls of this process, none of which is told, and asks whether who listens can hand over a file.
pub(super) fn listener() -> Result<(), RuntimeError> {
    let listener = sys::seccomp_listener(&seccomp::filter(&[], seccomp::Foreign::Allowed), 0)
        .map_err(|source| RuntimeError::Listener { source })?;
    // Nobody waits for an answer, which is found out after it was understood what is wanted: before Linux 5.14 it is not (EINVAL).
    match notify::respond_with_file(listener.as_fd(), 0, listener.as_fd(), true) {
        Err(errno) if errno.is(E::INVAL) => {
            Err(RuntimeError::call("ioctl(SECCOMP_IOCTL_NOTIF_ADDFD, SECCOMP_ADDFD_FLAG_SEND)", errno))
        }
        _ => Ok(()),
    }
}

/// What all attempts inside begin with.
pub(super) fn mount_namespace() -> Result<(), RuntimeError> {
    named("unshare(CLONE_NEWNS)", sys::unshare(libc::CLONE_NEWNS))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    named("mount(\"/\", MS_REC | MS_PRIVATE)", mount_change("/", private))
}

fn other_namespaces(_: &Path) -> Result<(), RuntimeError> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    named("unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)", sys::unshare(flags))
}

fn tree_clone(_: &Path) -> Result<(), RuntimeError> {
    named("open_tree(\"/dev/null\", OPEN_TREE_CLONE)", open_tree(CWD, "/dev/null", OpenTreeFlags::OPEN_TREE_CLONE))?;
    let context = named("fsopen(tmpfs)", fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC))?;
    named("fsconfig(FSCONFIG_CMD_CREATE)", fsconfig_create(&context))?;
    named("fsmount", fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())).map(drop)
}

fn mount_setattr(_: &Path) -> Result<(), RuntimeError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
    let tree = named("open_tree(\"/sys\", OPEN_TREE_CLONE | AT_RECURSIVE)", open_tree(CWD, "/sys", flags))?;
    named("mount_setattr(MOUNT_ATTR_RDONLY)", sys::mount_setattr(tree.as_fd(), 1, 0, true))
}

/// A directory below the one to try in, removed at the end.
struct Trial {
    dir: PathBuf,
}

impl Trial {
    fn new(dir: &Path) -> Result<Self, RuntimeError> {
        // In another pid namespace there may be a process with this number, which tries in the same folder.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let name = format!(".coracle-probe-{}-{:x}{:08x}", std::process::id(), time.tv_sec, time.tv_nsec);
        // What there is of it goes with the value, also where the disk is full.
        let trial = Trial { dir: dir.join(name) };
        for name in ["lower", "upper", "work", "root"] {
            let path = trial.dir.join(name);
            fs::create_dir_all(&path).map_err(|error| RuntimeError::call(format!("mkdir({path:?})"), error))?;
        }
        named("chdir", rustix::process::chdir(&trial.dir))?;
        Ok(trial)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount("root", rustix::mount::UnmountFlags::DETACH);
        let _ = rustix::process::chdir("/");
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn overlay(dir: &Path, options: &str) -> Result<(), RuntimeError> {
    let _place = Trial::new(dir)?;
    let data = named(
        "mount",
        std::ffi::CString::new(format!("lowerdir=lower,upperdir=upper,workdir=work,{options}")).map_err(|_| E::INVAL),
    )?;
    mount("overlay", "root", "overlay", MountFlags::empty(), data.as_c_str()).map_err(|errno| RuntimeError::Overlay {
        lower: 1,
        upper: dir.to_path_buf(),
        options: options.into(),
        source: errno.into(),
    })
}

fn overlay_one_by_one(dir: &Path) -> Result<(), RuntimeError> {
    let _place = Trial::new(dir)?;
    let context = named("fsopen(overlay)", fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC))?;
    for (key, value) in [("lowerdir+", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(&context, key, value)
            .map_err(|errno| RuntimeError::call(format!("fsconfig({key})"), errno))?;
    }
    named("fsconfig(userxattr)", fsconfig_set_flag(&context, "userxattr"))?;
    named("fsconfig(FSCONFIG_CMD_CREATE)", fsconfig_create(&context))?;
    named("fsmount", fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())).map(drop)
}

fn devpts(dir: &Path) -> Result<(), RuntimeError> {
    named(
        "mount(devpts, newinstance)",
        mount("devpts", dir, "devpts", MountFlags::NOSUID, c"newinstance,ptmxmode=0666"),
    )
}

fn host_name(_: &Path) -> Result<(), RuntimeError> {
    named("unshare(CLONE_NEWUTS)", sys::unshare(libc::CLONE_NEWUTS))?;
    named("sethostname", rustix::system::sethostname(b"build"))
}

fn message_queues(dir: &Path) -> Result<(), RuntimeError> {
    named("unshare(CLONE_NEWIPC)", sys::unshare(libc::CLONE_NEWIPC))?;
    named("mount(mqueue)", mount("mqueue", dir, "mqueue", MountFlags::NOSUID, None))
}

fn fresh_proc(dir: &Path) -> Result<(), RuntimeError> {
    named("unshare(CLONE_NEWPID)", sys::unshare(libc::CLONE_NEWPID))?;
    match named("fork", sys::fork())? {
        Forked::Child => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            // The number of the error, in the exit status.
            sys::exit(mount("proc", dir, "proc", flags, None).err().map_or(0, E::raw_os_error))
        }
        Forked::Parent(child) => {
            let status = named("waitpid", waitpid(Some(child), WaitOptions::empty()))?;
            match status.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                number => named("mount(proc)", Err(Errno::from_raw(number.unwrap_or(libc::EIO)))),
            }
        }
    }
}

fn pivot_root(dir: &Path) -> Result<(), RuntimeError> {
    named("mount(tmpfs)", mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID, None))?;
    named("chdir", rustix::process::chdir(dir))?;
    named("pivot_root", rustix::process::pivot_root(".", "."))
}

fn file_capabilities(dir: &Path) -> Result<(), RuntimeError> {
    named("mount(tmpfs)", mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID, None))?;
    let file = dir.join("file");
    named("creat", fs::write(&file, ""))?;
    // Version 2: cap_net_raw, permitted. In a user namespace the kernel adds its root, and makes it version 3.
    let mut value = [0u8; 20];
    value[..4].copy_from_slice(&0x0200_0000u32.to_le_bytes());
    value[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
    named(
        "setxattr(security.capability)",
        rustix::fs::setxattr(&file, "security.capability", &value, rustix::fs::XattrFlags::empty()),
    )
}
