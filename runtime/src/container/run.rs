//! The side of the caller: starts the step, reads what it says and prints, and sees its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno as E;

use super::control::Registered;
use super::ending::{Unmounting, await_ending, await_unmounting, end_later, unmount_later, wait_for_init};
use super::limits::Means;
use super::ready::{self, AHEAD, Waiting};
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
    // As those are that get ready without knowing what they will be asked.
    let is_usual = spec.place == Place::Namespaces && spec.new_session;
    let following = match io {
        Io::Capture { following, .. } if is_usual => following,
        _ => 0,
    };
    let means = match spec.limits.want_group() {
        // Those of the next steps are there, too.
        true => Means::new(group.as_ref(), reason, if following > 0 { PROCESSES_OF_ALL } else { PROCESSES }),
        false => Means::default(),
    };
    let waiting = match io {
        Io::Capture { .. } if following > 0 => Waiting::take_or_ask()?,
        Io::Capture { .. } if is_usual => Waiting::take()?,
        Io::Capture { .. } => Waiting::start(Stdio::piped, spec.place)?,
        Io::Inherit => Waiting::start(Stdio::inherit, spec.place)?,
    };
    let was_ready = waiting.is_copy();
    let mut ended = Attempt { spec, io: &mut io, control, following }.run(waiting, means.clone());
    if was_ready && ended.as_ref().is_err_and(Unfinished::is_worth_another_attempt) {
        // What was scarce when it got ready need not be now.
        ended = Attempt { spec, io: &mut io, control, following }.run(Waiting::start(Stdio::piped, spec.place)?, means);
    }
    if following == 0 {
        ready::close();
        await_ending();
    }
    let Ended { exit, usage, heard } = ended.map_err(|unfinished| unfinished.error)?;
    let (special, mounted) = heard.special.unwrap_or_default();
    let out_of_memory = group.is_some_and(|group| group.ran_out_of_memory());
    Ok(Finished { exit, report: heard.report, usage, out_of_memory, special, mounted })
}

/// What it takes to run a command.
struct Attempt<'a, 'io> {
    spec: &'a ContainerSpec,
    io: &'a mut Io<'io>,
    control: &'a Control,
    following: usize,
}

/// A command that was run.
struct Ended {
    exit: Exit,
    usage: Usage,
    heard: Heard,
}

/// One that was not.
struct Unfinished {
    error: RuntimeError,
    /// Whether it may have been begun.
    begun: bool,
}

impl Unfinished {
    fn is_worth_another_attempt(&self) -> bool {
        let is_scarce = |errno: Errno| [E::AGAIN, E::NOMEM, E::MFILE, E::NFILE].into_iter().any(|one| errno.is(one));
        !self.begun && self.error.errno().is_some_and(is_scarce)
    }
}

impl Attempt<'_, '_> {
    fn run(self, waiting: Waiting, means: Means) -> Result<Ended, Unfinished> {
        let Attempt { spec, io, control, following } = self;
        let Waiting { mut child, socket: ours, command, outputs } = waiting;
        let unbegun = |error| Unfinished { error, begun: false };
        let step = control.register(child.handle().map_err(unbegun)?);
        await_unmounting();
        let sent = ask(&ours, command.as_ref(), child.parent(), spec, means);
        drop(command);
        // Now, because it takes the kernel longest to end a step while processes are made beside that.
        Waiting::prepare(following);
        let mut outputs = Outputs::new(outputs);
        let mut heard = Heard::default();
        // Where another step follows, this one need not be heard to the end.
        let is_enough = |heard: &Heard| following > 0 && heard.is_whole(spec);
        let listened = heard.listen(&ours, &mut outputs, io, &step, &is_enough);
        // Whatever happened: no process of the step may be there when this returns.
        if sent.is_err() || listened.is_err() {
            child.kill();
        }
        let status = if following > 0 && child.is_copy() && listened.is_ok() && heard.is_whole(spec) {
            // Of the step nothing is left but mounts, perhaps: these two only end.
            let init = step.end();
            if !heard.unmounted {
                unmount_later(Unmounting { socket: ours, receiver: std::mem::take(&mut heard.receiver), init });
            }
            end_later(child);
            None
        } else {
            drop(ours);
            let status = child.wait();
            wait_for_init(step.end());
            Some(status)
        };
        outputs.drain(io);
        let begun = heard.begun;
        let unfinished = |error| Err(Unfinished { error, begun });
        match heard.result.take() {
            // A supervisor that ends without a word did not see the end of the step.
            Some(Ok(_)) if heard.waits_for_owners(spec) => {}
            Some(Ok((exit, usage))) => return Ok(Ended { exit, usage, heard }),
            // What a step says whose process 1 was killed by `control`.
            Some(Err(error)) => return unfinished(control.check().err().unwrap_or(error)),
            None => {}
        }
        if let Err(error) = control.check().and(sent).and(listened) {
            return unfinished(error);
        }
        let status = status.unwrap_or_else(|| role::how_it_ended(None, None));
        unfinished(RuntimeError::Died { role: Role::Step.name().into(), status })
    }
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

/// What [`Finished::special`] is.
type Special = Vec<(u64, u32, u32)>;

/// What the step said.
#[derive(Default)]
struct Heard {
    receiver: wire::Receiver,
    /// Whether the command began.
    begun: bool,
    report: Report,
    result: Option<Result<(Exit, Usage), RuntimeError>>,
    special: Option<(Special, Vec<InodeOwner>)>,
    /// Whether S0 answers calls although owners are not emulated.
    watched: bool,
    /// Whether the mounts of the step have ended.
    unmounted: bool,
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
        loop {
            let ready = outputs.wait(socket.as_fd()).map_err(|errno| RuntimeError::call("poll", errno))?;
            for stream in ready.streams {
                outputs.read(stream, io);
            }
            if !ready.socket {
                continue;
            }
            if !self.receiver.fill(socket).map_err(lost)? {
                return Ok(());
            }
            while let Some(message) = self.receiver.next::<Message>().map_err(lost)? {
                match message {
                    Message::Init => {
                        if let Some(init) = self.receiver.fd() {
                            step.set_init(init);
                        }
                    }
                    Message::Started(report) => {
                        (self.begun, self.report) = (true, report);
                        if let Some(command) = self.receiver.fd() {
                            step.set_command(command);
                        }
                    }
                    Message::Failed(error) => self.result = Some(Err(error)),
                    Message::Watched => self.watched = true,
                    Message::Unmounted => self.unmounted = true,
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
