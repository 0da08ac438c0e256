//! Processes that wait for a step, before it is known which; and the nursery from which they come, as its caller sees it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};

use super::Stream;
use super::ending::{Keeper, bury};
use super::init::{Wanted, Word};
use super::nursery::{NURSERY as ARGUMENT, Opening, Supervise, Supervised};
use super::step::{await_end, has_ended};
use crate::error::{Errno, RuntimeError};
use crate::role::{self, Role};
use crate::wire;

/// Steps that get ready at the same time, at the most.
pub(super) const AHEAD: usize = 2;

/// A step that does not know yet which it is.
pub(super) struct Waiting {
    pub(super) keeper: Keeper,
    /// What is told of it.
    pub(super) words: UnixStream,
    /// Where the command hears what it is to do; S0 of a chroot hears that on `words`.
    pub(super) requests: Option<UnixStream>,
    /// Where V hears and tells, if there is one.
    pub(super) supervisor: Option<UnixStream>,
    /// The reading ends of its outputs.
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    /// Whether it was asked for before it was needed.
    pub(super) was_ready: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) wanted: Wanted,
    /// Whether this process reads the outputs; else they are its own.
    pub(super) captured: bool,
}

/// The side of the caller.
struct Nursery {
    /// `None` only after [`close`](Self::close).
    child: Option<Child>,
    socket: UnixStream,
    receiver: wire::Receiver,
    to_init: UnixStream,
    from_init: wire::Receiver,
    /// I, once it has said that it is there.
    init: Option<Arc<OwnedFd>>,
    /// Those that come next, in order.
    asked: VecDeque<Asked>,
    /// Whether somebody could not be asked: then what is answered next may not be for whom it seems.
    is_broken: bool,
}

/// A step that was asked for.
struct Asked {
    wish: Wish,
    words: UnixStream,
    requests: UnixStream,
    supervisor: Option<UnixStream>,
    outputs: Vec<(Stream, OwnedFd)>,
    /// What I said of it.
    born: Option<Result<OwnedFd, Errno>>,
    /// What was said of its supervisor.
    supervised: Option<Result<(), Errno>>,
}

thread_local! {
    /// Where this thread has the processes for its next steps from. It is no other thread's: the kernel kills a process when the
    /// thread ends that started it.
    static NURSERY: RefCell<Option<Nursery>> = const { RefCell::new(None) };
}

/// Lets the nursery of this thread end, and waits for that. Returns how it ended.
pub(super) fn close() -> Option<std::io::Result<ExitStatus>> {
    NURSERY.take().and_then(Nursery::close)
}

/// Starts a supervisor for calls of which all that it needs is known: `calls`, as it is handed to those that wait. Returns the socket
/// on which it hears and tells.
pub(super) fn supervise(calls: &[OwnedFd]) -> Result<UnixStream, RuntimeError> {
    let calls: Vec<_> = calls.iter().map(AsFd::as_fd).collect();
    let (ours, theirs) = role::pair()?;
    wire::send(ours.as_fd(), &(), &calls).map_err(lost)?;
    NURSERY.with_borrow_mut(|nursery| {
        let nursery =
            nursery.as_mut().ok_or_else(|| RuntimeError::call("fork(supervisor)", rustix::io::Errno::CHILD))?;
        let socket = nursery.supervisor(&theirs)?;
        while nursery.asked.iter().any(|asked| asked.wish.wanted.is_supervised() && asked.supervised.is_none()) {
            nursery.hear_of_supervisor()?;
        }
        let Supervised(born) = nursery.answer()?;
        born.map(|()| socket).map_err(|errno| RuntimeError::call("fork(supervisor)", errno))
    })
}

impl Waiting {
    /// Executes this program anew, for a step in a chroot.
    pub(super) fn in_chroot(output: fn() -> Stdio) -> Result<Self, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        // The command holds our copy of their end, and goes at the end of this function.
        let child = Role::Step.command(theirs).stdout(output()).stderr(output()).spawn();
        let mut child = child.map_err(|error| Role::Step.spawn_failed(error))?;
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, OwnedFd::from(pipe)));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, OwnedFd::from(pipe)));
        Ok(Waiting {
            keeper: Keeper::Outermost(child),
            words: ours,
            requests: None,
            supervisor: None,
            outputs: stdout.into_iter().chain(stderr).collect(),
            was_ready: false,
        })
    }

    /// Returns a step in namespaces: one that was asked for on this thread, if there is one, and else a new one. There are
    /// `following` others.
    pub(super) fn take(wish: Wish, following: usize) -> Result<Self, RuntimeError> {
        NURSERY.with_borrow_mut(|place| {
            if let Some(nursery) = place.as_mut().filter(|nursery| !nursery.is_broken) {
                if let Some(ready) = nursery.ready(wish) {
                    return Ok(Waiting { was_ready: true, ..ready });
                }
                if let Ok(waiting) = nursery.ask(wish).and_then(|()| nursery.last()) {
                    return Ok(waiting);
                }
            }
            // It is of no use any more; of those that came from it none is at work now.
            *place = None;
            let nursery = place.insert(Nursery::start(following > 0)?);
            nursery.ask(wish).and_then(|()| nursery.last()).inspect_err(|_| *place = None)
        })
    }

    /// Asks ahead of time for as many as `following` steps need soon. Those for which that fails now are started when they are
    /// needed.
    pub(super) fn prepare(wish: Wish, following: usize) {
        NURSERY.with_borrow_mut(|nursery| {
            let Some(nursery) = nursery.as_mut() else { return };
            // It stays, whatever is wrong: the step that runs came from it.
            while !nursery.is_broken && nursery.count(wish) < following.min(AHEAD) {
                let _ = nursery.ask(wish);
            }
        });
    }
}

impl Nursery {
    fn start(for_many: bool) -> Result<Self, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        let (to_init, its) = role::pair()?;
        let mut command = Role::Step.command(theirs);
        command.arg(ARGUMENT).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| Role::Step.spawn_failed(error))?;
        let nursery = Nursery {
            child: Some(child),
            socket: ours,
            receiver: wire::Receiver::new(),
            to_init,
            from_init: wire::Receiver::new(),
            init: None,
            asked: VecDeque::new(),
            is_broken: false,
        };
        let opening = role::Start { parent: std::process::id(), request: Opening { for_many } };
        wire::send(nursery.socket.as_fd(), &opening, &[its.as_fd()]).map_err(lost)?;
        Ok(nursery)
    }

    /// Asks for a step, without waiting for it.
    fn ask(&mut self, wish: Wish) -> Result<(), RuntimeError> {
        let (words, its_words) = role::pair()?;
        let (requests, its_requests) = role::pair()?;
        let (mut outputs, mut its_outputs) = (vec![], vec![]);
        if wish.captured {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let (ours, its) =
                    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| RuntimeError::call("pipe2(O_CLOEXEC)", errno))?;
                outputs.push((stream, ours));
                its_outputs.push(its);
            }
        }
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let its_outputs: Vec<BorrowedFd<'_>> = match wish.captured {
            true => its_outputs.iter().map(AsFd::as_fd).collect(),
            false => vec![stdout.as_fd(), stderr.as_fd()],
        };
        let mut fds = vec![its_words.as_fd(), its_requests.as_fd()];
        fds.extend(its_outputs);
        let (calls, its_calls) = match wish.wanted.is_supervised() {
            true => role::pair().map(|(calls, its)| (Some(calls), Some(its)))?,
            false => (None, None),
        };
        let supervisor = calls.map(|calls| self.supervisor(&calls)).transpose()?;
        fds.extend(its_calls.as_ref().map(AsFd::as_fd));
        wire::send(self.to_init.as_fd(), &wish.wanted, &fds).inspect_err(|_| self.is_broken = true).map_err(lost)?;
        self.asked.push_back(Asked { wish, words, requests, supervisor, outputs, born: None, supervised: None });
        Ok(())
    }

    /// Asks for a supervisor that is handed a listener on `calls`. Returns the socket on which it hears and tells.
    fn supervisor(&mut self, calls: &UnixStream) -> Result<UnixStream, RuntimeError> {
        let (ours, theirs) = role::pair()?;
        wire::send(self.socket.as_fd(), &Supervise, &[theirs.as_fd(), calls.as_fd()])
            .inspect_err(|_| self.is_broken = true)
            .map_err(lost)?;
        Ok(ours)
    }

    /// How many such steps were asked for and have not been taken.
    fn count(&self, wish: Wish) -> usize {
        self.asked.iter().filter(|asked| asked.wish == wish).count()
    }

    /// Returns the first of those that were asked for and live.
    fn ready(&mut self, wish: Wish) -> Option<Waiting> {
        while let Some(at) = self.asked.iter().position(|asked| asked.wish == wish) {
            // For this one there may have been no process; for the next there may be one.
            match self.born(at) {
                Ok(waiting) if matches!(&waiting.keeper, Keeper::Command { pidfd, .. } if !has_ended(pidfd)) => {
                    return Some(waiting);
                }
                Err(_) if self.is_broken => return None,
                _ => {}
            }
        }
        None
    }

    /// Returns the one that was asked for last.
    fn last(&mut self) -> Result<Waiting, RuntimeError> {
        self.born(self.asked.len() - 1)
    }

    /// Takes the one at a place in the queue, when it is there.
    fn born(&mut self, at: usize) -> Result<Waiting, RuntimeError> {
        while self.asked[at].born.is_none() {
            self.hear_of_command().inspect_err(|_| self.is_broken = true)?;
        }
        while self.asked[at].wish.wanted.is_supervised() && self.asked[at].supervised.is_none() {
            self.hear_of_supervisor().inspect_err(|_| self.is_broken = true)?;
        }
        let asked = self.asked.remove(at).expect("it was there just now");
        let Asked { words, requests, supervisor, outputs, born, supervised, .. } = asked;
        let call = |call: &'static str| move |errno| RuntimeError::call(call, errno);
        let born = born.unwrap_or(Err(rustix::io::Errno::CHILD.into()));
        let pidfd = born.map_err(call("clone(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)"))?;
        let init = self.init.clone().ok_or_else(|| lost(rustix::io::Errno::PROTO.into()))?;
        let keeper = Keeper::Command { pidfd, init };
        supervised.unwrap_or(Ok(())).map_err(call("fork(supervisor)"))?;
        Ok(Waiting { keeper, words, requests: Some(requests), supervisor, outputs, was_ready: false })
    }

    /// Waits for the next word of I.
    fn hear_of_command(&mut self) -> Result<(), RuntimeError> {
        let word = self.from_init.wait::<Word>(&self.to_init).map_err(lost)?;
        let next = self.asked.iter_mut().find(|asked| asked.born.is_none());
        match (word, next) {
            (Some(Word::There), _) => self.init = self.from_init.fd().map(Arc::new),
            (Some(Word::Born(result)), Some(next)) => {
                let pidfd = result.and_then(|()| self.from_init.fd().ok_or(rustix::io::Errno::BADF.into()));
                next.born = Some(pidfd);
            }
            (Some(Word::Failed(error)), _) => return Err(error),
            (Some(Word::Born(_)), None) | (None, _) => return Err(lost(rustix::io::Errno::PIPE.into())),
        }
        Ok(())
    }

    /// Waits for the next word about a supervisor that waits.
    fn hear_of_supervisor(&mut self) -> Result<(), RuntimeError> {
        let Supervised(result) = self.answer()?;
        let is_next = |asked: &&mut Asked| asked.wish.wanted.is_supervised() && asked.supervised.is_none();
        if let Some(next) = self.asked.iter_mut().find(is_next) {
            next.supervised = Some(result);
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Supervised, RuntimeError> {
        self.receiver.wait(&self.socket).map_err(lost)?.ok_or_else(|| lost(rustix::io::Errno::PIPE.into()))
    }

    /// Lets it end by itself, and those that nobody needed. Returns how it ended.
    fn close(mut self) -> Option<std::io::Result<ExitStatus>> {
        let mut child = self.child.take()?;
        // No process holds another copy of these ends.
        let _ = self.to_init.shutdown(std::net::Shutdown::Both);
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.asked.clear();
        let ended = child.wait();
        self.bury_init();
        Some(ended)
    }

    /// Waits for the end of I, and with it of all commands.
    fn bury_init(&self) {
        if let Some(init) = &self.init {
            await_end(init);
            bury(init);
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both do nothing where it has ended; all that came from it end with it.
            let _ = child.kill();
            let _ = child.wait();
            while self.init.is_none() && self.hear_of_command().is_ok() {}
            self.bury_init();
        }
    }
}

fn lost(errno: Errno) -> RuntimeError {
    RuntimeError::call("socket of coracle-step, nursery", errno)
}
