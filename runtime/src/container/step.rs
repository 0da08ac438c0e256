//! S0 and S1, the two processes that stand between the caller and the command (see the module above).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as E;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, kill_process, pidfd_open,
    set_dumpable_behavior, set_parent_process_death_signal, waitpid,
};

use super::nursery::{self, NURSERY};
use super::process::{self, Word};
use super::{ContainerSpec, Devices, Exit, Message, Place, Request, Stdin, Usage, chroot, supervise};
use crate::emulate::{self, Emulator, Setup};
use crate::error::{Errno, RuntimeError};
use crate::lacking::Lacking;
use crate::sys::{self, Forked};
use crate::{role, wire};

/// The argument of a step in namespaces of its own ([`Place::Namespaces`]).
pub(super) const IN_NAMESPACES: &str = "namespaces";

/// The role `coracle-step`: S0.
pub(crate) fn step_role() -> ! {
    // A terminal's signals reach the whole process group; what to do about them is the caller's affair.
    sys::block_signals();
    let Ok(mut socket) = role::arrive() else { sys::exit(1) };
    let word = std::env::args_os().nth(1);
    let is = |role: &str| word.as_ref().is_some_and(|word| word == role);
    let (mut command, mut home) = (None, None);
    if is(NURSERY) {
        // From here on this is one of its copies.
        let Ok(copy) = nursery::serve(socket) else { sys::exit(1) };
        (socket, command, home) = (copy.socket, Some(copy.command), copy.home);
    }
    // What the next step needs in any case is made before it is known which one that is.
    let team = match is(NURSERY) || is(IN_NAMESPACES) {
        true => match Team::start(&socket, command, home) {
            Ok(team) => Some(team),
            Err(error) => sys::exit(i32::from(tell(&socket, &Message::Failed(error), &[]).is_err())),
        },
        false => None,
    };
    let Ok((mut begun, body)) = role::hear::<Request<ContainerSpec>>(socket) else { sys::exit(1) };
    sys::hurry();
    let socket = begun.socket;
    let stdin = begun.receiver.fd();
    let result = match (team, begun.request.spec.place) {
        (Some(team), Place::Namespaces) => outer(team, &begun.request, &body, &socket, stdin),
        (None, Place::Chroot { .. }) => alone(&begun.request, &socket, stdin),
        _ => Err(RuntimeError::BadSpec { field: "place".into(), reason: "not that of the process".into() }),
    };
    let code = match result {
        Ok(()) => 0,
        Err(error) => i32::from(tell(&socket, &Message::Failed(error), &[]).is_err()),
    };
    sys::exit(code)
}

pub(super) fn tell(socket: &UnixStream, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    wire::send(socket.as_fd(), message, fds)
}

fn to_root() -> Result<(), RuntimeError> {
    rustix::process::chdir("/").map_err(|errno| RuntimeError::call("chdir(\"/\")", errno))
}

/// Makes what came with the request the standard input.
pub(super) fn take_stdin(stdin: Option<OwnedFd>) -> Result<(), RuntimeError> {
    let stdin = stdin.ok_or_else(|| RuntimeError::call("recv(standard input)", E::BADF))?;
    rustix::stdio::dup2_stdin(&stdin).map_err(|errno| RuntimeError::call("dup2(standard input)", errno))
}

/// S0 without namespaces.
fn alone(request: &Request<ContainerSpec>, socket: &UnixStream, stdin: Option<OwnedFd>) -> Result<(), RuntimeError> {
    if request.spec.stdin == Stdin::Inherit {
        take_stdin(stdin)?;
    }
    to_root()?;
    chroot::outer(request, socket)
}

/// S1 and C, on their way before anybody knows the command. They end when this process does.
struct Team {
    /// S1.
    init: Pid,
    /// C is at the other end.
    command: UnixStream,
    /// Whether C hears by that what it is to do. Else the caller tells it.
    is_told: bool,
    /// Those who answer calls see processes by it.
    proc: OwnedFd,
    /// Where they go when C is over.
    home: Option<OwnedFd>,
}

/// What C talks by.
struct Lines {
    /// Where it hears what it is to do.
    requests: UnixStream,
    /// To S0.
    supervisor: UnixStream,
    /// The mounts that are seen from outside of those of the step.
    home: Option<OwnedFd>,
}

impl Team {
    /// S0: starts S1 and C. C hears on `requests` what it is to do; where there are none, from here.
    fn start(socket: &UnixStream, requests: Option<UnixStream>, home: Option<OwnedFd>) -> Result<Self, RuntimeError> {
        to_root()?;
        let this = own_pidfd()?;
        let proc = emulate::open_proc()?;
        let (ours, supervisor) = role::pair()?;
        let is_told = requests.is_none();
        let requests = match requests {
            Some(requests) => requests,
            None => supervisor.try_clone().map_err(|error| RuntimeError::call("dup(socket of the step)", error))?,
        };
        match sys::fork_into(libc::CLONE_NEWPID).map_err(|errno| RuntimeError::call("clone(CLONE_NEWPID)", errno))? {
            Forked::Child => {
                drop((ours, proc));
                sys::exit(i32::from(inner(socket, &this, Lines { requests, supervisor, home }).is_err()))
            }
            Forked::Parent(init) => {
                hide();
                Ok(Team { init, command: ours, is_told, proc, home })
            }
        }
    }
}

/// S0: passes the request on, answers what is emulated, and waits for S1.
fn outer(
    team: Team,
    request: &Request<ContainerSpec>,
    body: &[u8],
    socket: &UnixStream,
    stdin: Option<OwnedFd>,
) -> Result<(), RuntimeError> {
    let Team { init, command, is_told, proc, home } = team;
    let give_up = |error| {
        // Its calls would never be answered.
        let _ = kill_process(init, Signal::KILL);
        wait(init).and(Err(error))
    };
    if is_told {
        let fds: Vec<_> = stdin.iter().map(AsFd::as_fd).collect();
        // Where C has ended already, S1 tells why.
        let _ = wire::send_body(command.as_fd(), body, &fds);
    }
    drop(stdin);
    let ends = (request.spec.devices == Devices::End).then_some(init);
    let watched = supervise::prepare(&request.spec, proc, home)
        .and_then(|setup| supervise::watch_to_the_end(Setup { ends, ..setup }, &command, socket));
    if let Err(error) = watched.and_then(|emulator| tell_owners(socket, emulator)) {
        return give_up(error);
    }
    last_words(wait(init)?)
}

/// S0: tells the owners in the end.
pub(super) fn tell_owners(socket: &UnixStream, emulator: Option<Arc<Emulator>>) -> Result<(), RuntimeError> {
    let Some(emulator) = emulator else { return Ok(()) };
    if emulator.has_ended_it() {
        return Err(RuntimeError::Lacking(Lacking::Devices));
    }
    let (of_root, mounted) = emulator.special();
    // With it goes the last handle of a file of the step, and with that what is mounted.
    drop(emulator);
    tell(socket, &Message::Owners(of_root, mounted), &[]).map_err(|errno| RuntimeError::call("send(owners)", errno))
}

/// S0: what there is to say when S1 has ended with `status`.
pub(super) fn last_words(status: WaitStatus) -> Result<(), RuntimeError> {
    // One that ends by itself has told why.
    if status.signaled() { Err(died("process 1 of the step", status)) } else { Ok(()) }
}

/// S1: process 1 of the outer pid namespace. Starts C in the inner one, and tells the caller how it goes.
fn inner(socket: &UnixStream, parent: &OwnedFd, lines: Lines) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent is in another pid namespace, so its number says nothing. If it has ended, it was before the line above.
    let mut ended = [PollFd::new(parent, PollFlags::IN)];
    if poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0) {
        return Err(E::SRCH.into());
    }
    match own_pidfd() {
        Ok(this) => tell(socket, &Message::Init, &[this.as_fd()])?,
        Err(error) => return tell(socket, &Message::Failed(error), &[]),
    }
    match command(socket, lines) {
        Ok((exit, mounts)) => {
            tell(socket, &Message::Ended { exit, usage: usage() }, &[])?;
            // The kernel takes its time to unmount them, in which the caller looks at what changed.
            drop(mounts);
            tell(socket, &Message::Unmounted, &[])
        }
        Err(error) => tell(socket, &Message::Failed(error), &[]),
    }
}

/// Starts C, waits for it, and returns how it ended, and its mounts. Nobody else holds those but S0, while it answers calls.
fn command(socket: &UnixStream, lines: Lines) -> Result<(Exit, Option<OwnedFd>), RuntimeError> {
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWPID;
    let (ours, theirs) = role::pair()?;
    let child = sys::fork_into(namespaces).map_err(|errno| {
        RuntimeError::call("clone(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)", errno)
    })?;
    let child = match child {
        Forked::Child => {
            drop(ours);
            process::begin(&theirs, &lines.requests, &lines.supervisor, lines.home)
        }
        Forked::Parent(child) => child,
    };
    drop((theirs, lines));
    hide();
    let (start, mounts) = started(&ours, socket, child)?;
    let status = wait(child)?;
    match start {
        Start::Refused(exit) => Ok((exit, mounts)),
        Start::Died => Err(died("the process that makes the container", status)),
        Start::Done => Ok((how(status), mounts)),
    }
}

/// How far C came.
pub(super) enum Start {
    /// It executed the command.
    Done,
    /// The command could not be executed.
    Refused(Exit),
    /// It ended before it was so far.
    Died,
}

/// Hears from C on `ours` how it starts, and tells the caller when it has. Returns the mounts of C, too, where it gives them away.
pub(super) fn started(
    ours: &UnixStream,
    socket: &UnixStream,
    child: Pid,
) -> Result<(Start, Option<OwnedFd>), RuntimeError> {
    let mut ready = None;
    let mut refused = None;
    let mut receiver = wire::Receiver::new();
    // Its end closes when the command is executed.
    let lost = |errno| RuntimeError::call("recv(socket of the command)", errno);
    while let Some(word) = receiver.wait::<Word>(ours).map_err(lost)? {
        match word {
            Word::Ready(report) => ready = Some(report),
            Word::NotStarted { errno, what, path } => refused = Some(Exit::NotStarted { errno, what, path }),
            Word::Failed(error) => {
                wait(child)?;
                return Err(error);
            }
        }
    }
    let Some(report) = ready else { return Ok((Start::Died, None)) };
    sys::hurry();
    // The caller may be gone, in which case this process soon is too.
    let _ = match pidfd_open(child, PidfdFlags::empty()) {
        Ok(fd) => tell(socket, &Message::Started(report), &[fd.as_fd()]),
        Err(_) => tell(socket, &Message::Started(report), &[]),
    };
    Ok((refused.map_or(Start::Done, Start::Refused), receiver.fd()))
}

/// How the command ended.
pub(super) fn how(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
    }
}

pub(super) fn died(role: &str, status: WaitStatus) -> RuntimeError {
    let status = role::how_it_ended(status.exit_status(), status.terminating_signal());
    RuntimeError::Died { role: role.into(), status }
}

pub(super) fn own_pidfd() -> Result<OwnedFd, RuntimeError> {
    pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| RuntimeError::call("pidfd_open(getpid())", errno))
}

/// Keeps this process from being looked into by the step, even where the /proc of the caller is shown there.
pub(super) fn hide() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

pub(super) fn wait(child: Pid) -> Result<WaitStatus, RuntimeError> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(E::INTR) => {}
            Err(errno) => return Err(RuntimeError::call("waitpid", errno)),
        }
    }
}

pub(super) fn usage() -> Usage {
    // The call is there in every kernel; without it nothing is known.
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let time = |time: TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Usage {
        user: time(usage.user_time()),
        system: time(usage.system_time()),
        // Linux counts in KiB.
        max_rss: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    }
}
