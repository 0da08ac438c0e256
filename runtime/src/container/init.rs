//! I, process 1 of the pid namespace around those of steps: starts their commands and sees them end. It ends with the nursery,
//! whose child it is, and all commands end with it: the kernel sees to both.
//!
//! It does one thing after the other, and nothing that lasts while a step has nothing to wait for but this.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as E;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

use super::process::{self, Lines};
use super::step::{Told, has_ended, hide, own_pidfd, tell};
use super::template::Template;
use super::{Message, Usage, supervise};
use crate::capability::Capabilities;
use crate::emulate::{self, Families};
use crate::error::{Errno, RuntimeError};
use crate::sys::{self, Forked, Waited};
use crate::wire;

/// What it is asked: a command that waits for its request. With it come the socket on which this tells of it, the one on which the
/// command hears its request, its two outputs, and, where a supervisor waits for its calls, the socket to that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Whether it will want a session of its own.
    pub(super) new_session: bool,
    /// What of its calls will be answered.
    pub(super) families: Families,
    /// What it may get. It is not asked for more later.
    pub(super) capabilities: Capabilities,
}

impl Wanted {
    /// Returns whether a supervisor waits for its calls from the beginning.
    pub(super) fn is_supervised(self) -> bool {
        supervise::is_needed(self.families)
    }
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// It is there; its pidfd comes along.
    There,
    /// What became of the command that was asked for before all others that this has not been said of; its pidfd comes along.
    Born(Result<(), Errno>),
    /// It could not be made.
    Failed(RuntimeError),
}

/// The process.
struct Init {
    requests: UnixStream,
    receiver: wire::Receiver,
    /// Where there is none, the mounts of a step begin with a copy of those around this process.
    template: Option<Template>,
    commands: Vec<Command>,
}

/// A process that is a command, or will be.
struct Command {
    pid: Pid,
    pidfd: OwnedFd,
    /// To the caller.
    words: UnixStream,
    /// What it says of itself, until it is the command.
    status: UnixStream,
    /// Where its listener comes, if that comes to this process.
    listeners: Option<UnixStream>,
    /// Its listener, and what goes with that.
    calls: Vec<OwnedFd>,
}

/// What there is to do, for one of the commands by its place in the list.
#[derive(Clone, Copy)]
enum Source {
    Requests,
    End(usize),
    Listener(usize),
    Call(usize),
}

/// I: returns when the caller wants nothing more of it.
pub(super) fn serve(requests: UnixStream, parent: &OwnedFd, home: Option<OwnedFd>) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent is in another pid namespace, so its number says nothing. If it has ended, it was before the line above.
    if has_ended(parent) {
        return Err(E::SRCH.into());
    }
    match own_pidfd() {
        Ok(this) => wire::send(requests.as_fd(), &Word::There, &[this.as_fd()])?,
        Err(error) => return wire::send(requests.as_fd(), &Word::Failed(error), &[]),
    }
    let template = match home.map_or(Ok(None), |home| Template::make(&home)) {
        Ok(template) => template,
        Err(error) => return wire::send(requests.as_fd(), &Word::Failed(error), &[]),
    };
    hide();
    let mut init = Init { requests, receiver: wire::Receiver::new(), template, commands: Vec::new() };
    while init.attend()? {}
    for command in init.commands {
        let _ = pidfd_send_signal(&command.pidfd, Signal::KILL);
        command.over();
    }
    Ok(())
}

impl Init {
    /// Waits for something to do, and does it. Returns false when nothing is wanted any more.
    fn attend(&mut self) -> Result<bool, Errno> {
        let mut goes_on = true;
        // The last first: what ends is taken out of the list.
        for source in self.wait()?.into_iter().rev() {
            match source {
                Source::Call(at) => self.commands[at].called(),
                Source::Listener(at) => self.commands[at].listen(),
                Source::End(at) => self.commands.remove(at).over(),
                Source::Requests => goes_on = self.hear()?,
            }
        }
        Ok(goes_on)
    }

    fn wait(&self) -> Result<Vec<Source>, Errno> {
        let mut sources = vec![(Source::Requests, self.requests.as_fd())];
        for (at, command) in self.commands.iter().enumerate() {
            sources.push((Source::End(at), command.pidfd.as_fd()));
            sources.extend(command.listeners.as_ref().map(|socket| (Source::Listener(at), socket.as_fd())));
            sources.extend(command.calls.first().map(|listener| (Source::Call(at), listener.as_fd())));
        }
        let mut fds: Vec<_> = sources.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(E::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ok(sources.iter().zip(&fds).filter(|(_, fd)| is_ready(fd)).map(|((source, _), _)| *source).collect())
    }

    fn hear(&mut self) -> Result<bool, Errno> {
        if !self.receiver.fill(&self.requests)? {
            return Ok(false);
        }
        while let Some(wanted) = self.receiver.next::<Wanted>()? {
            let began = self.begin(wanted);
            let pidfd = began.as_ref().ok().map(AsFd::as_fd);
            let fds: Vec<_> = pidfd.into_iter().collect();
            wire::send(self.requests.as_fd(), &Word::Born(began.as_ref().map(drop).map_err(Clone::clone)), &fds)?;
        }
        Ok(true)
    }

    /// Starts a process that waits for its request.
    fn begin(&mut self, wanted: Wanted) -> Result<OwnedFd, Errno> {
        let mut fd = || self.receiver.fd().ok_or(Errno::from(E::BADF));
        let (words, requests, stdout, stderr) = (fd()?.into(), fd()?.into(), fd()?, fd()?);
        let supervisor = if wanted.is_supervised() { Some(fd()?.into()) } else { None };
        let pair = || UnixStream::pair().map_err(Errno::from);
        let (status, its_status) = pair()?;
        let (listeners, supervisor) = match supervisor {
            Some(supervisor) => (None, supervisor),
            None => {
                let (listeners, supervisor) = pair()?;
                (Some(listeners), supervisor)
            }
        };
        // All that come from here have it then.
        let _ = emulate::filter(wanted.families);
        let mounts = if self.template.is_some() { 0 } else { libc::CLONE_NEWNS };
        match sys::fork_into(mounts | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWPID)? {
            Forked::Child => {
                // Nothing of other steps.
                self.commands.clear();
                drop((words, status, listeners));
                let outputs = rustix::stdio::dup2_stdout(&stdout).and_then(|()| rustix::stdio::dup2_stderr(&stderr));
                // As a new program.
                if outputs.and_then(|()| set_dumpable_behavior(DumpableBehavior::Dumpable)).is_err() {
                    sys::exit(1);
                }
                drop((stdout, stderr));
                let lines = Lines { status: its_status, requests, supervisor };
                process::begin(&lines, self.template.take(), wanted)
            }
            Forked::Parent(pid) => {
                // Its number is its own until it is waited for.
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                let handle = rustix::io::fcntl_dupfd_cloexec(&pidfd, 3)?;
                self.commands.push(Command { pid, pidfd, words, status, listeners, calls: Vec::new() });
                Ok(handle)
            }
        }
    }
}

impl Command {
    /// Takes its listener.
    fn listen(&mut self) {
        let mut receiver = wire::Receiver::new();
        if let Some(socket) = self.listeners.take()
            && receiver.fill(&socket).is_ok()
        {
            self.calls.extend(std::iter::from_fn(|| receiver.fd()));
        }
    }

    /// Tells the caller that a call waits for an answer.
    fn called(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        let fds: Vec<_> = calls.iter().map(AsFd::as_fd).collect();
        let has_call = calls.first().is_some_and(|listener| {
            let mut fds = [PollFd::new(listener, PollFlags::IN)];
            poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
                && fds[0].revents().contains(PollFlags::IN)
        });
        if has_call {
            // A caller that is gone takes this process with it.
            let _ = tell(&self.words, &Message::Called, &fds);
        }
    }

    /// Tells the caller how it ended, and lets its mounts go.
    fn over(self) {
        let Command { pid, words, status, .. } = self;
        let ended = sys::wait_child(pid);
        let mut told = Told::default();
        let mut receiver = wire::Receiver::new();
        // All who had the other end have ended.
        while let Ok(Some(word)) = receiver.wait::<process::Word>(&status) {
            told.hear(word);
        }
        let mounts = receiver.fd();
        let ended = ended.map_err(|errno| RuntimeError::call("wait4", errno));
        let message = match ended.and_then(|ended| Ok((told.verdict(ended.code, ended.signal)?, usage(&ended)))) {
            Ok(((exit, report), usage)) => Message::Ended { exit, usage, report },
            Err(error) => Message::Failed(error),
        };
        // The caller may be gone, in which case this process soon is too.
        let _ = tell(&words, &message, &[]);
        // The kernel takes its time to unmount them, in which the caller looks at what changed.
        drop(mounts);
        let _ = tell(&words, &Message::Unmounted, &[]);
    }
}

fn usage(waited: &Waited) -> Usage {
    let [user, system] = waited.time.map(|(seconds, micros)| {
        let part = |number: i64| u64::try_from(number).unwrap_or(0);
        Duration::from_secs(part(seconds)) + Duration::from_micros(part(micros))
    });
    // Linux counts in KiB.
    Usage { user, system, max_rss: u64::try_from(waited.max_rss).unwrap_or(0) * 1024 }
}
