//! The side of the caller: starts the step, reads what it says and prints, and sees its end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno as E;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};

use super::control::Registered;
use super::limits::Means;
use super::nursery::{self, Nursery};
use super::step::IN_NAMESPACES;
use super::{
    ContainerSpec, Control, Exit, Finished, InodeOwner, Io, Message, Place, Report, Request, Stdin, Stream, Usage,
};
use crate::cgroup::Group;
use crate::error::{Errno, RuntimeError};
use crate::role::{self, Role};
use crate::{limits, wire};

/// Bytes that a pipe of an ordinary user holds at the most (/proc/sys/fs/pipe-max-size).
const LARGEST_PIPE: usize = 1 << 20;

/// S0, S1 and C.
const PROCESSES: u32 = 3;
/// Steps that get ready at the same time, at the most.
const AHEAD: usize = 2;
/// Those of this step and of the ones that get ready, and the one from which S0 comes.
const PROCESSES_OF_ALL: u32 = (1 + AHEAD as u32) * PROCESSES + 1;

/// Runs a command in a container and returns when it and every process it left behind have ended. Several threads may
/// run steps at the same time; the process must be root of a user namespace ([`userns::enter`](crate::userns::enter)).
///
/// # Errors
/// [`RuntimeError::Interrupted`] when `control` was used, [`RuntimeError::Died`] when a process of the step was killed
/// by somebody else, and what keeps the container from being made. A command that can not be started is no error: see
/// [`Exit::NotStarted`].
pub fn run(spec: &ContainerSpec, mut io: Io<'_>, control: &Control) -> Result<Finished, RuntimeError> {
    spec.check()?;
    control.check()?;
    // Removed at the end of this function, when the step has ended.
    let (group, reason) = if spec.limits.want_group() { Group::new(&spec.limits) } else { (None, None) };
    let following = if let Io::Capture { following, .. } = io { following } else { 0 };
    let is_followed = following > 0;
    let means = match spec.limits.want_group() {
        // Those of the next steps are there, too.
        true => Means::new(group.as_ref(), reason, if is_followed { PROCESSES_OF_ALL } else { PROCESSES }),
        false => Means::default(),
    };
    let Waiting { mut child, socket: ours, command, outputs, .. } = match io {
        Io::Capture { .. } if is_followed => Waiting::take_or_ask(spec.place)?,
        Io::Capture { .. } => Waiting::take(spec.place)?,
        Io::Inherit => Waiting::start(Stdio::inherit, spec.place)?,
    };
    let step = control.register(child.handle()?);
    let sent = ask(&ours, command.as_ref(), child.parent(), spec, means);
    drop(command);

    let mut outputs = Outputs::new(outputs);
    let mut heard = Heard { next: is_followed.then_some((spec.place, following)), ..Heard::default() };
    // Where another step follows, this one need not be heard to the end.
    let is_enough = |heard: &Heard| is_followed && heard.is_whole(spec);
    let listened = heard.listen(&ours, &mut outputs, &mut io, &step, &is_enough);
    // Whatever happened: nothing of the step may be there when this returns.
    drop(ours);
    if sent.is_err() || listened.is_err() {
        child.kill();
    }
    let status = if is_followed && child.is_copy() && listened.is_ok() && heard.is_whole(spec) {
        // Of the step nothing is left, neither processes nor mounts: these two only end.
        drop(step);
        end_later(child);
        None
    } else {
        let status = child.wait();
        wait_for_init(step);
        Some(status)
    };
    if !is_followed {
        READY.with_borrow_mut(Ready::close);
        await_ending();
    }
    outputs.drain(&mut io);
    match heard.result {
        // A supervisor that ends without a word did not see the end of the step.
        Some(Ok(_)) if heard.waits_for_owners(spec) => {}
        Some(Ok((exit, usage))) => {
            let (special, mounted) = heard.special.unwrap_or_default();
            let out_of_memory = group.is_some_and(|group| group.ran_out_of_memory());
            return Ok(Finished { exit, report: heard.report, usage, out_of_memory, special, mounted });
        }
        // What a step says whose process 1 was killed by `control`.
        Some(Err(error)) => return control.check().and(Err(error)),
        None => {}
    }
    control.check()?;
    sent.and(listened)?;
    let status = status.unwrap_or_else(|| role::how_it_ended(None, None));
    Err(RuntimeError::Died { role: Role::Step.name().into(), status })
}

/// Tells the step what to do: the command, where that is not told by S0, and S0.
fn ask(
    socket: &UnixStream,
    command: Option<&UnixStream>,
    parent: u32,
    spec: &ContainerSpec,
    means: Means,
) -> Result<(), RuntimeError> {
    let request = Request { spec, open_files: limits::original_open_files(), means };
    let start = role::Start { parent, request };
    let stdin = io::stdin();
    let fds = match spec.stdin {
        Stdin::Null => vec![],
        Stdin::Inherit => vec![stdin.as_fd()],
    };
    let body = wire::body(&start);
    let sent = body.and_then(|body| match command {
        None => wire::send_body(socket.as_fd(), &body, &fds),
        Some(command) => {
            // Where it has ended already, process 1 of the step tells why.
            let _ = wire::send_body(command.as_fd(), &body, &fds);
            wire::send_body(socket.as_fd(), &body, &[])
        }
    });
    sent.map_err(|errno| RuntimeError::call("send(socket of coracle-step)", errno))
}

/// A process for a step that does not know yet which.
struct Waiting {
    child: Outermost,
    socket: UnixStream,
    /// The one on which the command is told what to do, where S0 does not.
    command: Option<UnixStream>,
    /// The reading ends of its outputs.
    outputs: Vec<(Stream, OwnedFd)>,
    in_namespaces: bool,
}

/// What a thread has got ready for its next steps. It is no other thread's: the kernel kills a process when the thread ends
/// that started it.
struct Ready {
    nursery: Option<Nursery>,
    /// Those that come next, in order.
    asked: VecDeque<nursery::Asked>,
}

impl Ready {
    /// Lets the process end from which the others come, when none is needed any more.
    fn close(&mut self) {
        while !self.asked.is_empty() {
            drop(Waiting::born(self));
        }
        if let Some(child) = self.nursery.take().and_then(Nursery::close) {
            end_later(Outermost::Child(child));
        }
    }
}

impl Drop for Ready {
    /// Sees the end of the processes that nobody needed.
    fn drop(&mut self) {
        while !self.asked.is_empty() {
            drop(Waiting::born(self));
        }
    }
}

thread_local! {
    static READY: RefCell<Ready> = const { RefCell::new(Ready { nursery: None, asked: VecDeque::new() }) };
}

impl Waiting {
    /// Executes this program anew.
    fn start(output: fn() -> Stdio, place: Place) -> Result<Self, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        // The command holds our copy of their end, and goes at the end of this function.
        let mut command = Role::Step.command(theirs);
        let in_namespaces = place == Place::Namespaces;
        if in_namespaces {
            command.arg(IN_NAMESPACES);
        }
        let child = command.stdout(output()).stderr(output()).spawn();
        let mut child = child.map_err(|error| Role::Step.spawn_failed(error))?;
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, OwnedFd::from(pipe)));
        let outputs = stdout.into_iter().chain(stderr).collect();
        Ok(Waiting { child: Outermost::Child(child), socket: ours, command: None, outputs, in_namespaces })
    }

    /// Returns the one that was asked for on this thread; where there is none, a new one.
    fn take(place: Place) -> Result<Self, RuntimeError> {
        let taken = READY.with_borrow_mut(Waiting::born);
        match taken {
            Some(waiting) if waiting.in_namespaces == (place == Place::Namespaces) => Ok(waiting),
            _ => Waiting::start(Stdio::piped, place),
        }
    }

    /// As [`take`](Self::take); asks for one first, where none was asked for.
    fn take_or_ask(place: Place) -> Result<Self, RuntimeError> {
        if READY.with_borrow(|ready| ready.asked.is_empty()) {
            Waiting::prepare(place, 1);
        }
        Waiting::take(place)
    }

    fn born(ready: &mut Ready) -> Option<Self> {
        let asked = ready.asked.pop_front()?;
        let nursery = ready.nursery.as_mut()?;
        let Ok(pidfd) = nursery.born() else {
            // It is of no use any more.
            ready.nursery = None;
            return None;
        };
        let child = Outermost::Copy { pidfd, parent: nursery.id() };
        if child.has_ended() {
            return None;
        }
        let [stdout, stderr] = asked.outputs;
        let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        Some(Waiting { child, socket: asked.socket, command: Some(asked.command), outputs, in_namespaces: true })
    }

    /// Asks ahead of time for as many as `following` steps need soon. If that fails now, they are started when they are needed.
    fn prepare(place: Place, following: usize) {
        if place != Place::Namespaces {
            return;
        }
        READY.with_borrow_mut(|ready| {
            while ready.asked.len() < following.min(AHEAD) {
                if ready.nursery.is_none() {
                    ready.nursery = Nursery::start().ok();
                }
                let Some(asked) = ready.nursery.as_mut().and_then(|nursery| nursery.ask().ok()) else {
                    ready.nursery = None;
                    return;
                };
                ready.asked.push_back(asked);
            }
        });
    }
}

/// Outermost processes that have told all, and have nothing left to do but to end.
static ENDING: Mutex<Vec<Outermost>> = Mutex::new(Vec::new());

fn end_later(child: Outermost) {
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    ending.retain(|child| !child.has_ended());
    ending.push(child);
}

/// Waits for the end of those.
fn await_ending() {
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    for mut child in ending.drain(..) {
        child.wait();
    }
}

/// The outermost process of a step. It does not outlive this, not even when `on_output` panics.
enum Outermost {
    Child(Child),
    /// A child of the [`Nursery`] `parent`.
    Copy {
        pidfd: OwnedFd,
        parent: u32,
    },
}

impl Outermost {
    /// Returns a handle of it.
    fn handle(&self) -> Result<OwnedFd, RuntimeError> {
        match self {
            Outermost::Child(child) => pidfd_open(Pid::from_child(child), PidfdFlags::empty())
                .map_err(|errno| RuntimeError::call("pidfd_open(coracle-step)", errno)),
            Outermost::Copy { pidfd, .. } => {
                pidfd.try_clone().map_err(|error| RuntimeError::call("dup(pidfd of coracle-step)", error))
            }
        }
    }

    /// Returns the number of the process that started it.
    fn parent(&self) -> u32 {
        match self {
            Outermost::Child(_) => std::process::id(),
            Outermost::Copy { parent, .. } => *parent,
        }
    }

    fn is_copy(&self) -> bool {
        matches!(self, Outermost::Copy { .. })
    }

    fn has_ended(&self) -> bool {
        match self {
            Outermost::Child(_) => false,
            Outermost::Copy { pidfd, .. } => nursery::has_ended(pidfd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })),
        }
    }

    fn kill(&mut self) {
        match self {
            // Nothing, once it has been waited for.
            Outermost::Child(child) => drop(child.kill()),
            Outermost::Copy { pidfd, .. } => nursery::end(pidfd),
        }
    }

    /// Waits for its end, and returns in words how that was.
    fn wait(&mut self) -> String {
        match self {
            // It is no child any more only where somebody else has waited for it.
            Outermost::Child(child) => role::how_child_ended(child.wait()),
            Outermost::Copy { pidfd, .. } => {
                nursery::has_ended(pidfd, None);
                role::how_it_ended(None, None)
            }
        }
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Waits for process 1 of the outer pid namespace, which ends after all others in it.
fn wait_for_init(step: Registered<'_>) {
    if let Some(init) = step.end() {
        // Readable once it has ended. When the outermost process was killed, the kernel has killed this one too.
        let mut fds = [PollFd::new(&init, PollFlags::IN)];
        while let Err(E::INTR) = poll(&mut fds, None) {}
        // It became our child if this program is process 1 or a reaper. Otherwise there is nothing to wait for.
        let _ = rustix::process::waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// What [`Finished::special`] is.
type Special = Vec<(u64, u32, u32)>;

/// What the step said.
#[derive(Default)]
struct Heard {
    report: Report,
    result: Option<Result<(Exit, Usage), RuntimeError>>,
    special: Option<(Special, Vec<InodeOwner>)>,
    /// Whether S0 answers calls although owners are not emulated.
    watched: bool,
    /// Where the next steps will be, and how many there are, if one follows.
    next: Option<(Place, usize)>,
}

impl Heard {
    /// Returns whether the step told all there is: how it ended, and whom files belong to.
    fn is_whole(&self, spec: &ContainerSpec) -> bool {
        matches!(self.result, Some(Ok(_))) && !self.waits_for_owners(spec)
    }

    /// Returns whether S0 has something to tell yet.
    fn waits_for_owners(&self, spec: &ContainerSpec) -> bool {
        self.special.is_none() && (self.watched || spec.ids.are_emulated())
    }

    /// Reads socket and outputs until the socket ends, or it `is_enough`: then the step has ended, or is ending.
    fn listen(
        &mut self,
        socket: &UnixStream,
        outputs: &mut Outputs,
        io: &mut Io<'_>,
        step: &Registered<'_>,
        is_enough: &dyn Fn(&Heard) -> bool,
    ) -> Result<(), RuntimeError> {
        let lost = |errno: Errno| RuntimeError::call("recv(socket of coracle-step)", errno);
        let mut receiver = wire::Receiver::new();
        loop {
            let ready = outputs.wait(socket.as_fd()).map_err(|errno| RuntimeError::call("poll", errno))?;
            for stream in ready.streams {
                outputs.read(stream, io);
            }
            if !ready.socket {
                continue;
            }
            if !receiver.fill(socket).map_err(lost)? {
                return Ok(());
            }
            while let Some(message) = receiver.next::<Message>().map_err(lost)? {
                match message {
                    Message::Init => {
                        if let Some(init) = receiver.fd() {
                            step.set_init(init);
                        }
                    }
                    Message::Started(report) => {
                        self.report = report;
                        if let Some(command) = receiver.fd() {
                            step.set_command(command);
                        }
                        // Not earlier: both would mount things, and the kernel lets one at a time.
                        if let Some((place, following)) = self.next {
                            Waiting::prepare(place, following);
                        }
                    }
                    Message::Failed(error) => self.result = Some(Err(error)),
                    Message::Watched => self.watched = true,
                    Message::Owners(special, mounted) => self.special = Some((special, mounted)),
                    Message::Ended { exit, usage } => self.result = Some(Ok((exit, usage))),
                }
            }
            if is_enough(self) {
                return Ok(());
            }
        }
    }
}

/// The reading ends of the pipes of the command. Without a captured output there are none.
struct Outputs {
    pipes: Vec<(Stream, OwnedFd)>,
    buffer: Vec<u8>,
}

struct Readable {
    socket: bool,
    streams: Vec<Stream>,
}

impl Outputs {
    fn new(pipes: Vec<(Stream, OwnedFd)>) -> Self {
        for (_, pipe) in &pipes {
            // Our end only: the command's blocks as usual.
            let _ = rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK);
        }
        let buffer = if pipes.is_empty() { vec![] } else { vec![0; 64 << 10] };
        Outputs { pipes, buffer }
    }

    fn wait(&self, socket: BorrowedFd<'_>) -> Result<Readable, E> {
        let mut fds = vec![PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        fds.extend(self.pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(E::INTR) => return Ok(Readable { socket: false, streams: vec![] }),
            Err(errno) => return Err(errno),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let streams = self.pipes.iter().zip(&fds[1..]).filter(|(_, fd)| is_ready(fd)).map(|((stream, _), _)| *stream);
        Ok(Readable { socket: is_ready(&fds[0]), streams: streams.collect() })
    }

    /// Hands on one piece of what is there. Returns whether there was some; forgets a pipe at its end.
    fn read(&mut self, stream: Stream, io: &mut Io<'_>) -> bool {
        let Some(at) = self.pipes.iter().position(|(s, _)| *s == stream) else { return false };
        match rustix::io::read(&self.pipes[at].1, &mut self.buffer[..]) {
            Ok(0) => {
                self.pipes.remove(at);
                false
            }
            Ok(length) => {
                if let Io::Capture { on_output, .. } = io {
                    on_output(stream, &self.buffer[..length]);
                }
                true
            }
            Err(E::INTR) => true,
            Err(E::AGAIN) => false,
            Err(_) => {
                self.pipes.remove(at);
                false
            }
        }
    }

    /// Hands on what is left in the pipes. Their end need not come: a process outside may have been given one, and may
    /// even write to it, so no more is read than a pipe can hold.
    fn drain(&mut self, io: &mut Io<'_>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let most = LARGEST_PIPE / self.buffer.len().max(1);
            let _ = (0..=most).take_while(|_| self.read(stream, io)).count();
        }
    }
}
