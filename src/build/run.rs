//! RUN: a command in a container on the layers below; and `coracle run`, which is the same with other ends.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_runtime::container::{
    self, ContainerSpec, Control, DeviceFiles, Devices, Exit, Finished, Ids, Io, Limits, Mount, Obstacle, Place,
    Report, RootfsSource, SpecialOwner, Stdin,
};

use crate::layer::{self, Contents, DiskTree, Ownership};
use crate::store::{Active, View};
use crate::tree::{self, Entry, Kind, Meta, Mtime, Owners, TreePath};

use super::BuildError;
use super::given::{Access, Around};
use super::mounts::{Mounts, Placed};
use super::stubs::Stubs;
use super::users;

/// Where the kernel's own files are shown.
pub(super) const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];
/// The `PATH` where neither the image nor the user sets one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run in a container.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// Environment, "NAME=value".
    pub env: Vec<OsString>,
    /// Absolute working directory.
    pub cwd: String,
    /// `USER`: "" is root.
    pub user: String,
    /// What it may use.
    pub limits: Limits,
    /// What is around it.
    pub around: Around,
}

/// Prepares `active` as the changes that a container makes to `view`, and returns how it is run.
pub(super) fn container(
    command: &Command,
    view: &View,
    active: &Active,
    owners: Owners,
    stubs: &Stubs,
    mounts: &Mounts,
) -> Result<ContainerSpec, BuildError> {
    let placed = mounts.placed(view)?;
    let (stubs, shown) = stubs.cover(view, owners, &command.around, &placed)?;
    // The mount points for these are part of the image from then on, as with BuildKit.
    let mut upper = DiskTree::open(&active.upper(), owners)?;
    make_mount_points(view, &mut upper)?;
    if let Some(root) = view.entry(&TreePath::root()) {
        upper.create(&Entry { kind: Kind::Dir, ..root.clone() }, Contents::None)?;
    }
    upper.finish()?;
    let mut lower: Vec<PathBuf> = vec![stubs.layer()];
    lower.extend(stacked(view));
    let rootfs = RootfsSource::Overlay { lower, upper: active.upper(), work: active.work() };
    let mut spec = spec(command, view, owners, (rootfs, shown), stubs.scratch())?;
    set(&mut spec.env, &mounts.env);
    mount(&mut spec, &placed);
    Ok(spec)
}

/// Sets the variables `more`, "NAME=value", in `env`. None is there twice: of two, some programs take the first, and others the last.
pub(super) fn set(env: &mut Vec<OsString>, more: &[OsString]) {
    for entry in more {
        let name = |entry: &OsString| entry.as_bytes().split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
        let set = name(entry);
        env.retain(|other| name(other) != set);
        env.push(entry.clone());
    }
}

/// Has what is `placed` mounted.
pub(super) fn mount(spec: &mut ContainerSpec, placed: &[Placed<'_>]) {
    spec.mounts.extend(placed.iter().map(Placed::mount));
    own(spec, placed);
}

/// Tells whom the files of what is `placed` belong to.
pub(super) fn own(spec: &mut ContainerSpec, placed: &[Placed<'_>]) {
    if let Ids::Emulated { special, .. } = &mut spec.ids {
        special.extend(placed.iter().flat_map(Placed::special));
    }
}

/// Returns the folders of the layers of `view` as overlayfs stacks them, top first.
pub(super) fn stacked(view: &View) -> Vec<PathBuf> {
    // Equal layers are one folder, which overlayfs takes only once. Of a layer that comes again further down nothing can show:
    // the upper one decides on each of its paths.
    let mut seen = HashSet::new();
    let stacked = view.layers().iter().rev().filter(|layer| !layer.index.entries().is_empty() && seen.insert(layer.id));
    stacked.map(|layer| layer.dir.to_path_buf()).collect()
}

/// Makes the folders dev, proc and sys where they are missing, and returns their paths.
pub(super) fn make_mount_points(view: &View, tree: &mut DiskTree) -> Result<Vec<TreePath>, BuildError> {
    let mut made = Vec::new();
    for name in MOUNT_POINTS {
        let path = TreePath::new(name).expect("a constant name");
        match view.entry(&path) {
            Some(there) if there.kind.is_dir() => {}
            // A link could lead anywhere.
            Some(there) => return Err(BuildError::BadMountPoint { path: format!("/{name}"), what: there.kind.word() }),
            None => {
                let meta = Meta { mode: 0o755, mtime: Mtime::from_secs(super::now()), ..Meta::default() };
                let entry = Entry { path: path.clone(), kind: Kind::Dir, meta, implied: false };
                tree.create(&entry, Contents::None)?;
                made.push(path);
            }
        }
    }
    Ok(made)
}

/// Returns how `command` is run on the files of `view`, where they are shown as `rootfs`, with `mounts` in it.
pub(super) fn spec(
    command: &Command,
    view: &View,
    owners: Owners,
    (rootfs, mounts): (RootfsSource, Vec<Mount>),
    scratch: PathBuf,
) -> Result<ContainerSpec, BuildError> {
    let user = users::lookup_user(view, &command.user)?;
    let mut env = command.env.clone();
    let is_set = |name: &str, env: &[OsString]| {
        env.iter()
            .any(|entry| entry.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
    };
    if !is_set("PATH", &env) {
        env.push(DEFAULT_PATH.into());
    }
    if !is_set("HOME", &env) {
        env.push(format!("HOME={}", user.home).into());
    }
    Ok(ContainerSpec {
        rootfs,
        place: Place::Namespaces,
        scratch,
        binds: Vec::new(),
        mounts,
        brought: Vec::new(),
        network: match command.around.network {
            Access::Host => container::Network::Caller,
            Access::None => container::Network::None,
        },
        capabilities: command.around.capabilities,
        args: command.args.clone(),
        env,
        cwd: command.cwd.clone().into(),
        uid: user.uid,
        gid: user.gid,
        groups: user.supplementary,
        hostname: command.around.hostname().into(),
        new_session: true,
        stdin: Stdin::Null,
        limits: command.limits.clone(),
        ids: match owners {
            Owners::Emulated => {
                let (special, devices) = special_files(view);
                Ids::Emulated { special, devices }
            }
            _ => Ids::Real,
        },
        devices: Devices::StandIn,
    })
}

/// Returns the owners of the files in `view` that can not carry an attribute, where they are not root's.
pub(super) fn special_owners(view: &View) -> Vec<SpecialOwner> {
    special_files(view).0
}

/// Returns the same, and whether there are devices. All entries are looked at once: there are many.
fn special_files(view: &View) -> (Vec<SpecialOwner>, DeviceFiles) {
    let (mut found, mut devices) = (Vec::new(), DeviceFiles::Absent);
    for layer in view.layers() {
        for entry in layer.index.entries() {
            let kind = match &entry.kind {
                Kind::Hardlink { target } => layer.index.get(target).map(|first| &first.kind),
                kind => Some(kind),
            };
            if matches!(kind, Some(Kind::Char { .. } | Kind::Block { .. })) {
                devices = DeviceFiles::Possible;
            }
            let is_special = matches!(kind, Some(Kind::Symlink { .. } | Kind::Fifo));
            let Meta { uid, gid, .. } = entry.meta;
            // Few are left here, so the look-up in the view costs nothing.
            if is_special && (uid, gid) != (0, 0) && view.entry(&entry.path) == Some(entry) {
                found.push(SpecialOwner { path: PathBuf::from("/").join(entry.path.as_os_path()), uid, gid });
            }
        }
    }
    (found, devices)
}

/// Returns the entries of the layer that a step left in `upper` on the files in `below`; `special` is what it says of owners
/// ([`Finished::special`]).
pub(super) fn changes(
    upper: &Path,
    below: &View,
    owners: Owners,
    special: &[(u64, u32, u32)],
) -> Result<Vec<Entry>, tree::Error> {
    let special = special.iter().map(|&(inode, uid, gid)| (inode, (uid, gid))).collect();
    let lower_inode = |path: &TreePath| {
        let stat = rustix::fs::lstat(below.on_disk(path)?).ok()?;
        (stat.st_nlink == 1).then_some(stat.st_ino)
    };
    let ownership = match owners {
        Owners::Emulated => Ownership::Emulated { special: &special, lower_inode: &lower_inode },
        _ => Ownership::Native,
    };
    layer::changes(upper, below, ownership)
}

/// Runs `spec` and says of every end but success what was wrong. Whatever the end, `on_report` hears first how the container was
/// made.
pub(super) fn run(
    spec: &ContainerSpec,
    io: Io<'_>,
    control: &Control,
    on_report: &dyn Fn(&Report),
) -> Result<Ended, BuildError> {
    let finished = match container::run(spec, io, control) {
        Ok(finished) => finished,
        Err(_) if control.cancelled() => return Err(BuildError::Interrupted),
        Err(error) => return Err(error.into()),
    };
    on_report(&finished.report);
    let problem = match &finished.exit {
        Exit::Code(0) => None,
        _ if control.cancelled() => return Err(BuildError::Interrupted),
        exit @ (Exit::Code(_) | Exit::Signal(_)) if finished.out_of_memory => {
            let limit = spec.limits.memory.unwrap_or(0);
            Some(BuildError::OutOfMemory { code: exit.status(), limit })
        }
        Exit::Code(code) => Some(BuildError::ExitStatus { code: *code }),
        Exit::Signal(signal) => Some(BuildError::Killed { signal: *signal }),
        Exit::NotStarted { errno, what, path } => Some(not_started(errno.raw(), *what, path)),
    };
    Ok(Ended { finished, problem })
}

/// A command that has ended.
pub(super) struct Ended {
    pub finished: Finished,
    /// Why it did not do what it should; `None` where it did.
    pub problem: Option<BuildError>,
}

/// Returns why a command did not start: `errno` is what the kernel said of `path`.
pub fn not_started(errno: i32, what: Obstacle, path: &Path) -> BuildError {
    let (path, source) = (path.display().to_string(), std::io::Error::from_raw_os_error(errno));
    match what {
        Obstacle::WorkingDirectory => BuildError::NoWorkingDirectory { path, source },
        Obstacle::Program => BuildError::NotStarted { program: path, source },
    }
}
