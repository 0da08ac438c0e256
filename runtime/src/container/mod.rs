//! Hop 2: runs one command in a root file system of its own, with its own processes, mounts, host name and IPC. The
//! network is that of the caller, or none. Knows no images: what is mounted, who runs and with which environment is all in the
//! [`ContainerSpec`].
//!
//! The caller starts the nursery, this program in the role `coracle-step`, once for the steps of a thread. The nursery forks I, process 1 of a
//! pid namespace. For each step I forks C, process 1 of an inner one with its own mounts, which mounts, drops its privileges and becomes
//! the command: process 1, as in every container. Where system calls are answered, V does that, a child of the nursery. With the caller all
//! of them end: the kernel sees to that (docs/adr/0001-hops.md).
//!
//! Where steps follow, their processes are started while one before runs, and get ready without knowing what they
//! will be asked: namespaces, /proc, /dev and /sys are the same for every step. The mounts of a step go when C is over: I lets them go while
//! the caller looks at what changed. V enters them only to answer calls, and leaves them when there is nobody left to make any.
//!
//! In a chroot ([`Place::Chroot`]) S0 and S1 stand between the caller and C: see there.

mod ahead;
mod chroot;
mod control;
mod cwd;
mod detached;
mod ending;
pub(crate) mod fence;
mod init;
mod limits;
mod mounts;
mod nursery;
mod overlay;
mod process;
mod ready;
mod restrict;
mod root;
mod run;
mod step;
mod supervise;
mod template;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::error::{Errno, RuntimeError};
use crate::wire;

pub use chroot::end_marked;
pub use control::Control;
pub use limits::{DEFAULT_SHM, Kept, LEAST_CPUS, LEAST_MEMORY, Limits, Makeshift, Swap, Ulimit, UlimitKind};
pub use mounts::{Hidden, Mount, MountSource, RawPath};
pub use run::run;
pub(crate) use step::step_role;

/// Lower directories of one overlay at the most, a limit of the kernel.
pub const MAX_LOWER: usize = 500;

/// A command and all that is around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// What the command sees as its file system.
    pub rootfs: RootfsSource,
    /// What is around the command.
    pub place: Place,
    /// An existing, empty directory of the host, above none of the paths in `rootfs` and `binds`. The executor mounts a
    /// tmpfs on it, out of sight of everybody else: nothing stays in it, and steps may share it. Not used where a step begins its mounts
    /// with an empty directory, nor without namespaces.
    #[serde(with = "wire::raw")]
    pub scratch: PathBuf,
    /// Files and directories of the host that are shown in the container, in order. The target must exist there: where
    /// the image lacks it, a topmost lower directory has to provide it, so that nothing of it gets into `upper`. The
    /// same holds for /proc, /sys and /dev.
    pub binds: Vec<Bind>,
    /// What else is mounted, in order, after `binds`. A target that is missing is made where it lies in something that is
    /// mounted; where it lies in the image, the same holds as for `binds`.
    pub mounts: Vec<Mount>,
    /// Folders in a [`RootfsSource::Dir`] that would be mounted there if anything could be: absolute paths. They stay where they
    /// are, and what is in them is not of the layers below.
    pub brought: Vec<RawPath>,
    /// Which network the command has.
    pub network: Network,
    /// What root may do.
    pub capabilities: Capabilities,
    /// Program and arguments, at least one. A program without a slash is searched in the PATH of `env`, inside.
    #[serde(with = "wire::raw_list")]
    pub args: Vec<OsString>,
    /// The whole environment, "NAME=value" each.
    #[serde(with = "wire::raw_list")]
    pub env: Vec<OsString>,
    /// Absolute working directory in the container. Where it is missing, it is made, and belongs to `uid` and `gid`. It need not be
    /// open to that user.
    #[serde(with = "wire::raw")]
    pub cwd: PathBuf,
    /// User, an id inside the user namespace.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups: all of them.
    pub groups: Vec<u32>,
    /// Host name, at most 64 bytes.
    pub hostname: String,
    /// Whether the command is cut off from the caller's terminal (setsid(2)). A build always wants that.
    pub new_session: bool,
    /// The standard input.
    pub stdin: Stdin,
    /// What it may use.
    pub limits: Limits,
    /// What ids and owners are to the command.
    pub ids: Ids,
    /// What becomes of it where it makes a device, and `ids` are real.
    pub devices: Devices,
}

/// Which network a command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// That of the caller.
    #[default]
    Caller,
    /// One of its own, in which there is nothing but the loopback interface.
    None,
}

/// What users, groups and owners are in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// What the kernel says: every id that is used must be in the id map.
    #[default]
    Real,
    /// There is one id only ([`IdMaps::single`](crate::IdMaps::single)). All others, and the owners of files, are emulated:
    /// see [`owner`](crate::owner) for how files keep theirs.
    Emulated {
        /// The owners, where they are not 0:0, of files in the layers that can not carry the attribute: symbolic links,
        /// fifos, sockets.
        special: Vec<SpecialOwner>,
        /// Whether the layers may have files that stand for devices.
        devices: DeviceFiles,
    },
}

/// Whether there may be files that stand for devices ([`FileOwner::device`](crate::owner::FileOwner::device)). Where there are
/// none, the opening of files is quicker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceFiles {
    /// There may be.
    #[default]
    Possible,
    /// There are none.
    Absent,
}

/// What a device is that a command makes where ids are real, and the kernel lets nobody make one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// An ordinary file, to the command too, that says which device it is: see [`owner`](crate::owner).
    #[default]
    StandIn,
    /// The end of the command: [`run`] returns [`RuntimeError::Lacking`], so that it can be run again with emulated ids.
    End,
}

/// Whom a file belongs to that can not say it itself, by its number: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeOwner {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
}

/// Whom a file belongs to that can not say it itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialOwner {
    /// Absolute path in the container. No directory on the way to it is a symbolic link.
    #[serde(with = "wire::raw")]
    pub path: PathBuf,
    /// User id in the image.
    pub uid: u32,
    /// Group id in the image.
    pub gid: u32,
}

/// What is around a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Namespaces of its own: mounts, processes, IPC, host name.
    Namespaces,
    /// Nothing of its own but a root directory (chroot(2)), which is a [`RootfsSource::Dir`]: for root in a container that
    /// allows no namespaces. The processes are those of the caller's namespace, and root can leave the directory: this is
    /// no boundary. Nothing can be mounted, so `scratch` and `hostname` are not used and there are no `binds`; the
    /// directory dev must be there and empty, and gets the devices that the caller may make.
    Chroot {
        /// Set on every process of the step, so that [`end_marked`] can find those that outlived everybody. Unique among
        /// the steps of a machine.
        mark: u64,
    },
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootfsSource {
    /// An overlayfs.
    Overlay {
        /// Directories that are never changed, top first; 1 to [`MAX_LOWER`].
        #[serde(with = "wire::raw_list")]
        lower: Vec<PathBuf>,
        /// Where changes go.
        #[serde(with = "wire::raw")]
        upper: PathBuf,
        /// An empty directory on the file system of `upper`, a fresh one for each run.
        #[serde(with = "wire::raw")]
        work: PathBuf,
    },
    /// A directory, changed in place.
    Dir(#[serde(with = "wire::raw")] PathBuf),
}

/// A file or directory of the host that is shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host. What is mounted below it comes along.
    #[serde(with = "wire::raw")]
    pub source: PathBuf,
    /// Absolute path in the container; links in it are followed there.
    #[serde(with = "wire::raw")]
    pub target: PathBuf,
    /// Whether it can not be changed through this path.
    pub read_only: bool,
}

/// The standard input of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// /dev/null.
    Null,
    /// That of this process.
    Inherit,
}

/// Which output a chunk of bytes is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where the output of a command goes.
pub enum Io<'a> {
    /// Called with each piece as it comes, on the thread that called [`run`].
    Capture {
        /// Gets the stream, and bytes that may end within a line or a character.
        on_output: &'a mut dyn FnMut(Stream, &[u8]),
        /// How many more commands this thread is likely to run soon: the processes for the next ones are then started meanwhile.
        following: usize,
    },
    /// To the output of this process.
    Inherit,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Io::Capture { .. } => "Capture",
            Io::Inherit => "Inherit",
        })
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned a number, 0 to 255.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// It could not be started.
    NotStarted {
        /// Why: ENOENT, EACCES, ENOEXEC, … ENOENT for a file that is there means that its interpreter is missing.
        errno: Errno,
        /// What it failed on.
        what: Obstacle,
        /// Its path.
        #[serde(with = "wire::raw")]
        path: PathBuf,
    },
}

/// What a command that could not be started failed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    /// The program, or its interpreter.
    Program,
    /// [`ContainerSpec::cwd`].
    WorkingDirectory,
}

impl Exit {
    /// Returns the status that a shell would show: 128 + the signal; 127 for what was not found, 126 for what could not
    /// be executed.
    pub fn status(&self) -> i32 {
        match self {
            Exit::Code(code) => *code,
            Exit::Signal(signal) => 128 + signal,
            Exit::NotStarted { errno, .. } if errno.is(rustix::io::Errno::NOENT) => 127,
            Exit::NotStarted { .. } => 126,
        }
    }
}

/// What could not be made as it should be. Nothing, on an ordinary machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The kernel refused a fresh /proc; the one of the caller is shown, which lists processes outside of the step. They
    /// can not be signalled or looked into. All of this /proc is read-only: a command can not write to its own files there
    /// either, such as /proc/self/oom_score_adj or /proc/self/comm.
    pub proc_bound: bool,
    /// The command sees processes of steps that run at the same time ([`proc_bound`](Self::proc_bound)), and can look into
    /// them, because the kernel has no Landlock (5.19).
    pub steps_exposed: bool,
    /// /sys could not be shown read-only, and is empty.
    pub sys_empty: bool,
    /// The host name could not be set, as under Podman's seccomp profile, and is that of the caller.
    pub hostname_kept: bool,
    /// Why no device can be made: nobody listens. `None` where one can, and in a chroot without namespaces.
    pub no_listener: Option<Errno>,
    /// Devices that are missing in /dev, because they are missing outside.
    pub devices_missing: Vec<String>,
    /// How the limits are kept.
    pub limits: Kept,
    /// The command was in a directory only ([`Place::Chroot`]): among the processes of the caller, with an empty /sys.
    pub chroot: bool,
    /// The command could look into the processes of the caller and leave the directory: the kernel has no Landlock (5.19), or
    /// did not allow it.
    pub unfenced: bool,
    /// There was no /proc either, because nobody answered for it: that takes emulated ids.
    pub proc_missing: bool,
}

/// What a command and the processes that it waited for used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Memory of the largest process, bytes.
    pub max_rss: u64,
}

/// A command that has ended, with every process it left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// What was not as it should be.
    pub report: Report,
    /// What it used.
    pub usage: Usage,
    /// With [`Ids::Emulated`], the owners in the end of files that can not carry the attribute: inode number, user, group.
    /// The number is the one that the container saw, which overlayfs keeps when it copies a file up. An inode that is not
    /// here, or was removed and made again, belongs to 0:0.
    pub special: Vec<(u64, u32, u32)>,
    /// The same for files that are mounted in the container. With [`RootfsSource::Dir`] all of the root may be among them.
    pub mounted: Vec<InodeOwner>,
    /// Whether one of its processes was killed because the memory limit was reached. Known only where a control group
    /// keeps that limit.
    pub out_of_memory: bool,
}

/// What a step is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Request<S> {
    spec: S,
    /// The soft limit of open files that the command gets; `None` to leave it.
    open_files: Option<u64>,
    /// What its limits are kept with.
    means: limits::Means,
    /// The pipes that are its output, by device and inode.
    outputs: Vec<(u64, u64)>,
}

/// What the caller is told of a step.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// In a chroot: S1 is there; its pidfd comes along.
    Init,
    /// In a chroot: the command runs; its pidfd comes along.
    Started,
    /// The container could not be made, or not be kept.
    Failed(RuntimeError),
    /// A call waits for an answer, and there is no supervisor yet. What that needs comes along, as it would be handed to it.
    Called,
    /// All processes are over.
    Ended { exit: Exit, usage: Usage, report: Report },
    /// The mounts are, too, but for V while it answers calls.
    Unmounted,
    /// By V, the end of answered calls: what [`Finished::special`] and [`Finished::mounted`] are.
    Owners(Vec<(u64, u32, u32)>, Vec<InodeOwner>),
}

impl Ids {
    fn are_emulated(&self) -> bool {
        matches!(self, Ids::Emulated { .. })
    }
}

impl ContainerSpec {
    /// Checks what the kernel would answer with an obscure error.
    fn check(&self) -> Result<(), RuntimeError> {
        use std::os::unix::ffi::OsStrExt;
        let bad = |field: &str, reason: &str| Err(RuntimeError::BadSpec { field: field.into(), reason: reason.into() });
        let has_nul = |text: &OsString| text.as_bytes().contains(&0);
        match &self.rootfs {
            RootfsSource::Overlay { lower, .. } if lower.is_empty() => return bad("rootfs", "no lower directory"),
            RootfsSource::Overlay { lower, .. } if lower.len() > MAX_LOWER => {
                return bad("rootfs", "more than 500 lower directories");
            }
            RootfsSource::Overlay { lower, upper, work }
                if lower.iter().chain([upper, work]).any(|dir| !dir.is_absolute()) =>
            {
                return bad("rootfs", "a path that is not absolute");
            }
            RootfsSource::Dir(dir) if !dir.is_absolute() => return bad("rootfs", "a path that is not absolute"),
            _ => {}
        }
        if let Place::Chroot { .. } = self.place {
            if !matches!(self.rootfs, RootfsSource::Dir(_)) {
                return bad("rootfs", "layers cannot be mounted without namespaces");
            }
            if !self.binds.is_empty() {
                return bad("binds", "nothing can be mounted without namespaces");
            }
            if !self.mounts.is_empty() {
                return bad("mounts", "nothing can be mounted without namespaces");
            }
            if self.network == Network::None {
                return bad("network", "there is none of its own without namespaces");
            }
        }
        if self.binds.iter().any(|bind| !bind.source.is_absolute() || !bind.target.is_absolute()) {
            return bad("binds", "a path that is not absolute");
        }
        if let Some(reason) = self.mounts.iter().find_map(Mount::problem) {
            return bad("mounts", reason);
        }
        if !self.scratch.is_absolute() {
            return bad("scratch", "a path that is not absolute");
        }
        if !self.cwd.is_absolute() {
            return bad("cwd", "a path that is not absolute");
        }
        if self.args.first().is_none_or(|program| program.is_empty()) {
            return bad("args", "no program");
        }
        if self.args.iter().any(has_nul) {
            return bad("args", "a NUL byte");
        }
        if self.env.iter().any(has_nul) {
            return bad("env", "a NUL byte");
        }
        if self.hostname.is_empty() || self.hostname.len() > 64 || self.hostname.contains('\0') {
            return bad("hostname", "not of 1 to 64 bytes");
        }
        if let Some(problem) = self.limits.problem() {
            return bad("limits", problem);
        }
        Ok(())
    }
}
