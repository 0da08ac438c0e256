//! Re-execution of this program in a role. A role is a process with one thread that owns nothing of its parent but a
//! socket, its standard input: work that a threaded process must not do after a fork is done there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::around::Surroundings;
use crate::error::{Errno, RuntimeError};
use crate::{container, limits, probe, sys, userns, wire};

/// What a re-executed process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes the id maps of its parent, from the user namespace around it.
    IdMap,
    /// Runs a command in a container.
    Step,
    /// Tries what the kernel allows.
    Probe,
}

impl Role {
    const ALL: [Role; 3] = [Role::IdMap, Role::Step, Role::Probe];

    /// The name of the process: its `argv[0]`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::IdMap => "coracle-idmap",
            Role::Step => "coracle-step",
            Role::Probe => "coracle-probe",
        }
    }

    /// Returns the command that starts this role on `socket`, with an empty environment. The role finds `socket` as its
    /// standard input. Drop the command after spawning it: it holds our copy of the other end.
    pub(crate) fn command(self, socket: UnixStream) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.name()).env_clear().stdin(Stdio::from(OwnedFd::from(socket)));
        command
    }

    /// Starts this role with its standard output and error at /dev/null and sends it `request`.
    pub(crate) fn start<T: Serialize>(self, request: &T) -> Result<(Child, UnixStream), RuntimeError> {
        let (ours, theirs) = pair()?;
        let child = self
            .command(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.spawn_failed(error))?;
        wire::send(ours.as_fd(), &Start { parent: std::process::id(), request }, &[])
            .map_err(|errno| RuntimeError::call(format!("send(socket of {})", self.name()), errno))?;
        Ok((child, ours))
    }

    pub(crate) fn spawn_failed(self, error: std::io::Error) -> RuntimeError {
        if error.kind() == std::io::ErrorKind::NotFound && !Surroundings::of_this_process().proc {
            return RuntimeError::NoProc;
        }
        RuntimeError::call(format!("spawn(\"/proc/self/exe\" as {})", self.name()), error)
    }
}

/// Returns, in words, how a process ended that said nothing.
pub(crate) fn how_it_ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (_, Some(signal)) => format!("was killed (signal {signal})"),
        (Some(code), None) => format!("ended without a word (exit status {code})"),
        (None, None) => "ended without a word".into(),
    }
}

/// As [`how_it_ended`], of a child that was waited for.
pub(crate) fn how_child_ended(status: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    status.map_or_else(
        |error| format!("could not be waited for ({error})"),
        |status| how_it_ended(status.code(), status.signal()),
    )
}

/// Returns two sockets that are connected to each other.
pub(crate) fn pair() -> Result<(UnixStream, UnixStream), RuntimeError> {
    UnixStream::pair().map_err(|error| RuntimeError::call("socketpair(AF_UNIX)", error))
}

/// The first message to a role.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start<T> {
    /// Process number of who started it.
    pub(crate) parent: u32,
    pub(crate) request: T,
}

/// What a role stands on after [`begin`].
pub(crate) struct Begun<T> {
    pub(crate) socket: UnixStream,
    pub(crate) receiver: wire::Receiver,
    pub(crate) request: T,
    pub(crate) parent: Pid,
}

/// The first steps of every role: to die with the parent, to hold no descriptor but its own, and to read the request.
pub(crate) fn begin<T: DeserializeOwned>() -> Result<Begun<T>, Errno> {
    let (begun, _) = hear(arrive()?)?;
    Ok(begun)
}

/// The part of [`begin`] before the request. Returns the socket.
pub(crate) fn arrive() -> Result<UnixStream, Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Nothing has been opened yet: whatever is there was left open by somebody's parent.
    if sys::close_range(3, 0).is_err() {
        sys::close_range(3, libc::CLOSE_RANGE_CLOEXEC)?;
    }
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// The rest of [`begin`]. Returns the body of the first message, too.
pub(crate) fn hear<T: DeserializeOwned>(socket: UnixStream) -> Result<(Begun<T>, Vec<u8>), Errno> {
    let mut receiver = wire::Receiver::new();
    let body = receiver.wait_body(&socket)?.ok_or(rustix::io::Errno::PIPE)?;
    let start: Start<T> = wire::parse(&body)?;
    let parent = i32::try_from(start.parent).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::INVAL)?;
    // A parent that died before the death signal was set sends none.
    if rustix::process::getppid() != Some(parent) {
        sys::exit(1);
    }
    Ok((Begun { socket, receiver, request: start.request, parent }, body))
}

/// Runs the role that this process was started in and never returns. In an ordinary process it raises the soft limit
/// of open files to the hard one and returns: many layers and steps take many files. The command of a step gets the
/// limit that this process was started with.
///
/// Must be the first call of `main`: the roles rely on being alone in their process.
pub fn init() {
    let name = std::env::args_os().next();
    let Some(role) = Role::ALL.into_iter().find(|role| name.as_deref().is_some_and(|name| name == role.name())) else {
        limits::raise_open_files();
        return;
    };
    match role {
        Role::IdMap => userns::idmap_role(),
        Role::Step => container::step_role(),
        Role::Probe => probe::role(),
    }
}
