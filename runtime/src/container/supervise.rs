//! V, the supervisor of a step: what it needs to answer system calls, and how it gets it. In a chroot S0 is it.
//!
//! Where owners are emulated or a step changes a directory in place, it answers from the start, in the mounts of the step. Else there is
//! one from the first device on that a step makes, which few do.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::{Signal, pidfd_send_signal};
use rustix::thread::CapabilitySet;

use super::step::{self, own_pidfd};
use super::{ContainerSpec, DeviceFiles, Devices, Ids, Message, MountSource, Place, Request, RootfsSource};
use crate::emulate::{self, Emulator, Families, Outside, Setup};
use crate::error::{Errno, RuntimeError};
use crate::lacking::Lacking;
use crate::oci::DEVICES;
use crate::owner::XATTR;
use crate::{role, sys, wire};

/// What is mounted in every step that can mount anything.
const MOUNT_POINTS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Returns what is emulated in a step.
pub(super) fn families(spec: &ContainerSpec) -> Families {
    let owners = spec.ids.are_emulated();
    let in_namespaces = spec.place == Place::Namespaces;
    let tree = in_namespaces && matches!(spec.rootfs, RootfsSource::Dir(_)) || owners;
    // Where there are no namespaces, the container around mostly lets nobody have the descriptors that it takes.
    let lists = in_namespaces && matches!(&spec.ids, Ids::Emulated { devices: DeviceFiles::Possible, .. });
    Families { owners, places: owners && !in_namespaces, tree, lists }
}

/// Returns whether a step needs a supervisor from its beginning.
pub(super) fn is_needed(families: Families) -> bool {
    // What a directory had before its command began has to be known before that.
    families.owners || families.tree
}

/// V: answers the calls of a step, and tells the caller of the owners.
pub(super) fn serve(
    caller: &UnixStream,
    calls: &UnixStream,
    proc: OwnedFd,
    home: Option<OwnedFd>,
) -> Result<(), Errno> {
    let mut receiver = wire::Receiver::new();
    // Without a word from there nobody wants this any more.
    let Some(role::Start { request, .. }) = receiver.wait::<role::Start<Request<ContainerSpec>>>(caller)? else {
        return Ok(());
    };
    sys::hurry();
    let told = step::to_root()
        .and_then(|()| prepare(&request, proc, home))
        .and_then(|setup| watch_to_the_end(setup, request.spec.devices, calls))
        .and_then(|emulator| match emulator {
            Some(emulator) => tell_owners(caller, emulator),
            None => step::tell(caller, &Message::Owners(vec![], vec![]), &[]).map_err(lost),
        });
    told.or_else(|error| step::tell(caller, &Message::Failed(error), &[]))
}

/// Tells the owners in the end.
pub(super) fn tell_owners(caller: &UnixStream, emulator: Arc<Emulator>) -> Result<(), RuntimeError> {
    if emulator.has_ended_it() {
        return Err(RuntimeError::Lacking(Lacking::Devices));
    }
    let (of_root, mounted) = emulator.special();
    // With it goes the last handle of a file of the step, and with that what is mounted.
    drop(emulator);
    step::tell(caller, &Message::Owners(of_root, mounted), &[])
        .map_err(|errno| RuntimeError::call("send(owners)", errno))
}

/// Takes what the emulator needs from outside. `proc` is [`emulate::open_proc`]'s; `home` is a mount namespace in which the threads
/// can end, so that they do not keep the one of the step.
pub(super) fn prepare(
    request: &Request<ContainerSpec>,
    proc: OwnedFd,
    home: Option<OwnedFd>,
) -> Result<Setup, RuntimeError> {
    let spec = &request.spec;
    let families = families(spec);
    if families.owners {
        emulate::check_limits()?;
    }
    let (special, in_layers) = match &spec.ids {
        Ids::Emulated { special, devices } => (special.clone(), *devices),
        Ids::Real => (vec![], DeviceFiles::Possible),
    };
    Ok(Setup {
        families,
        ends: None,
        uid: spec.uid,
        gid: spec.gid,
        groups: spec.groups.clone(),
        capabilities: spec.capabilities.set().bits(),
        special,
        outputs: request.outputs.clone(),
        devices: if shows_others(spec) { DeviceFiles::Possible } else { in_layers },
        proc,
        upper: None,
        home,
        in_place: matches!(spec.rootfs, RootfsSource::Dir(_)).then(|| {
            let always = MOUNT_POINTS.map(PathBuf::from);
            spec.brought.iter().map(|path| path.0.clone()).chain(always).collect()
        }),
        outside: match spec.place {
            Place::Chroot { mark } if families.places => Some(Outside { mark, devices: devices() }),
            _ => None,
        },
    })
}

/// Returns whether files are shown that are not of the layers and of which somebody else may have made devices.
fn shows_others(spec: &ContainerSpec) -> bool {
    // A file becomes no device as long as it is shown; a new one in a directory may be one.
    let may_have = |path: &Path| {
        let says_nothing =
            matches!(rustix::fs::getxattr(path, XATTR, &mut [0u8; 0][..]), Err(E::NODATA | E::OPNOTSUPP | E::PERM));
        path.is_dir() || !says_nothing
    };
    // In a directory such files lie among those of the layers.
    matches!(spec.rootfs, RootfsSource::Dir(_))
        || spec.binds.iter().any(|bind| may_have(&bind.source))
        || spec.mounts.iter().any(|mount| match &mount.source {
            MountSource::Host(path) => may_have(path),
            MountSource::Layers { .. } => true,
            MountSource::Text { .. } | MountSource::Memory { .. } => false,
        })
}

/// Takes hold of the devices, but for the terminal, which is none of a step's business.
fn devices() -> Vec<((u32, u32), OwnedFd)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |(name, major, minor): (&str, u32, u32)| {
        let file = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(major, minor);
        is_it.then_some(((major, minor), file))
    };
    DEVICES.into_iter().filter(|(name, ..)| *name != "tty").filter_map(open).collect()
}

/// What C takes hold of for the emulator, in the old root.
pub(super) struct Handles {
    command: OwnedFd,
    /// The directory that takes the changes, where that is not the root itself.
    upper: Option<OwnedFd>,
}

impl Handles {
    pub(super) fn of(spec: &ContainerSpec) -> Result<Self, RuntimeError> {
        let upper = match &spec.rootfs {
            RootfsSource::Overlay { upper, .. } => Some(
                rustix::fs::open(upper, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| RuntimeError::call(format!("open({upper:?}, O_PATH)"), errno))?,
            ),
            RootfsSource::Dir(_) => None,
        };
        Ok(Handles { command: own_pidfd()?, upper })
    }

    /// Returns a handle of this process.
    pub(super) fn command(&self) -> BorrowedFd<'_> {
        self.command.as_fd()
    }
}

/// Answers the calls of a step with a mount namespace of its own until there is nobody left to make any, and leaves its mounts.
/// `None`: there were none to answer.
fn watch_to_the_end(setup: Setup, devices: Devices, calls: &UnixStream) -> Result<Option<Arc<Emulator>>, RuntimeError> {
    let mut receiver = wire::Receiver::new();
    receiver.fill(calls).map_err(lost)?;
    let (Some(listener), Some(command)) = (receiver.fd(), receiver.fd()) else { return Ok(None) };
    let answer = || -> Result<Option<Arc<Emulator>>, RuntimeError> {
        match sys::enter_mounts(command.as_fd()) {
            Ok(()) => {}
            // The command is over.
            Err(errno) if errno.is(E::SRCH) => return Ok(None),
            Err(errno) => return Err(RuntimeError::call("setns(mounts of the step)", errno)),
        }
        let ends = match devices {
            Devices::End => Some(command.try_clone()),
            Devices::StandIn => None,
        };
        let ends = ends.transpose().map_err(|error| RuntimeError::call("dup(pidfd of the command)", error))?;
        // Not earlier, and by nobody else: whoever holds it keeps it mounted.
        let root = step_root()?;
        let is_awaited = setup.in_place.is_some();
        let emulator = Emulator::start(Setup { upper: receiver.fd(), ends, ..setup }, listener, &root)?;
        drop(root);
        if is_awaited {
            // Whether it waits or is gone.
            let _ = wire::send(calls.as_fd(), &(), &[]);
        }
        emulator.wait();
        Ok(Some(emulator))
    };
    // Its calls would never be answered.
    answer().inspect_err(|_| {
        let _ = pidfd_send_signal(&command, Signal::KILL);
    })
}

/// Takes hold of the root of this process, which is that of the step.
fn step_root() -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RuntimeError::call("open(\"/\", O_PATH)", errno))
}

fn lost(errno: Errno) -> RuntimeError {
    RuntimeError::call("recv(listener of the step)", errno)
}

/// Waits for the listener of a command in a directory, and answers its calls. `None`: there is none, because the container could not
/// be made, or can do without.
pub(super) fn start(setup: Setup, socket: &UnixStream) -> Result<Option<Arc<Emulator>>, RuntimeError> {
    let mut receiver = wire::Receiver::new();
    receiver.fill(socket).map_err(lost)?;
    let (Some(listener), Some(root)) = (receiver.fd(), receiver.fd()) else { return Ok(None) };
    let_go_of_output();
    Emulator::start(setup, listener, &root).map(Some)
}

/// The output of the command is none of the supervisor's business.
fn let_go_of_output() {
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Returns what the command really may do while its users are emulated, of what it is `allowed`. All files are its own, and who
/// it is never changes. In a namespace of users nobody keeps setuid bits of a file that is written to (CAP_FSETID counts in the
/// first one only), so nobody may outside of one either.
pub(super) fn real(allowed: CapabilitySet) -> CapabilitySet {
    let ids = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    allowed.difference(ids | CapabilitySet::FSETID)
}

/// By what the supervisor gets to the files of the step.
enum Hold<'a> {
    Mounts(&'a Handles),
    /// There are no mounts to enter.
    Root(OwnedFd),
}

/// Puts the filter in front of this process, and hands its listener to the supervisor at the other end of `socket`, with what that
/// needs besides. Returns why there is none, where the step can do without.
pub(super) fn watch(
    families: Families,
    socket: &UnixStream,
    handles: Option<&Handles>,
) -> Result<Option<Errno>, RuntimeError> {
    // Before there is a filter: to open something is a call that waits for the supervisor.
    let hold = match handles {
        Some(handles) => Hold::Mounts(handles),
        None => Hold::Root(step_root()?),
    };
    let filter = emulate::filter(families);
    let speed = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // A signal to a process whose call is being answered would make it ask again. Linux before 5.19 has no remedy.
    let patient = sys::seccomp_listener(filter, speed | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    let listener = match patient {
        Err(errno) if errno.is(E::INVAL) => sys::seccomp_listener(filter, speed),
        other => other,
    };
    match listener {
        // From here on calls wait for the supervisor.
        Ok(listener) => {
            let (socket, listener) = (socket.as_fd(), listener.as_fd());
            match hold {
                Hold::Root(root) => sys::peer::send_unseen(socket, [listener, root.as_fd()]),
                Hold::Mounts(Handles { command, upper: None }) => {
                    sys::peer::send_unseen(socket, [listener, command.as_fd()]).inspect(|()| {
                        if !families.owners {
                            // What is changed in place is watched from the beginning; a call that waits for that need not come.
                            let _ = wire::Receiver::new().fill(socket);
                        }
                    })
                }
                Hold::Mounts(Handles { command, upper: Some(upper) }) => {
                    sys::peer::send_unseen(socket, [listener, command.as_fd(), upper.as_fd()])
                }
            }
            .map(|()| None)
            .map_err(|errno| RuntimeError::call("sendmmsg(listener of the step)", errno))
        }
        Err(source) if families.owners => Err(RuntimeError::Listener { source }),
        // Only devices can not be made then; the kernel says so to who tries.
        Err(errno) => {
            let plain = crate::seccomp::filter(&[], crate::seccomp::Foreign::Allowed);
            sys::seccomp(&plain, speed)
                .map(|_| Some(errno))
                .map_err(|errno| RuntimeError::call("seccomp(SECCOMP_SET_MODE_FILTER)", errno))
        }
    }
}
