use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};

use crate::error::RuntimeError;

/// The hand on running steps: one for a whole build, shared by all of its threads. The thread that receives the
/// signals of the program calls it; it must not be called from within a signal handler.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    attended: AtomicBool,
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    last: u64,
    running: HashMap<u64, Step>,
}

/// Handles of the processes of one step, as far as they are known yet.
#[derive(Debug)]
struct Step {
    outer: OwnedFd,
    init: Option<OwnedFd>,
    command: Option<OwnedFd>,
}

impl Control {
    /// Returns a control without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills every step at once, and keeps others from starting: each [`run`](super::run) returns
    /// [`RuntimeError::Interrupted`], after the last process of its step has ended.
    pub fn kill(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        for step in self.lock().running.values() {
            step.kill();
        }
    }

    /// Returns whether [`kill`](Self::kill) has been called.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Says whether somebody sits at a step's terminal: what is typed there is for the step.
    pub fn attend(&self, attended: bool) {
        self.attended.store(attended, Ordering::SeqCst);
    }

    /// Returns whether somebody sits at a step's terminal.
    pub fn is_attended(&self) -> bool {
        self.attended.load(Ordering::SeqCst)
    }

    /// Sends `signal` (a number, as in signal(7)) to the command of every step. A command is process 1 of its namespace: a signal that
    /// it does not handle, or not yet, does nothing, except SIGKILL and SIGSTOP.
    pub fn signal(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        for step in self.lock().running.values() {
            if let Some(command) = &step.command {
                // It may have ended meanwhile.
                let _ = pidfd_send_signal(command, signal);
            }
        }
    }

    /// Returns whether a command leaves `signal` to the kernel, which then would end it, and does not only because it is process 1 of
    /// its namespace. `false` where that cannot be known.
    pub fn is_spared(&self, signal: i32) -> bool {
        let ends = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];
        if !ends.iter().any(|one| one.as_raw() == signal) {
            return false;
        }
        let spared = |command: &OwnedFd| {
            let pid = field(&read(&format!("fdinfo/{}", command.as_raw_fd()))?, "Pid")?.parse::<u32>().ok()?;
            let status = read(&format!("../{pid}/status"))?;
            let is_first = field(&status, "NSpid")?.split_whitespace().skip(1).last()? == "1";
            // A program that blocks it may wait for it.
            let mut masks = ["SigBlk", "SigIgn", "SigCgt"].into_iter().map(|name| mask(&status, name));
            Some(is_first && masks.all(|mask| mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 0)))
        };
        self.lock().running.values().filter_map(|step| step.command.as_ref()).any(|step| spared(step).unwrap_or(false))
    }

    /// Adds a step by the handle of the process with which all others of it end, and of the command, where that is known.
    pub(super) fn register(&self, outer: OwnedFd, command: Option<OwnedFd>) -> Registered<'_> {
        let mut steps = self.lock();
        steps.last += 1;
        let id = steps.last;
        let step = Step { outer, init: None, command };
        // `kill` sets the flag before it takes the lock: either it sees this step, or this sees the flag.
        if self.cancelled() {
            step.kill();
        }
        steps.running.insert(id, step);
        Registered { control: self, id }
    }

    pub(super) fn check(&self) -> Result<(), RuntimeError> {
        if self.cancelled() { Err(RuntimeError::Interrupted) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a file of this process in /proc.
fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

/// Returns the value behind `name` and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns a set of signals.
fn mask(status: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, 16).ok()
}

impl Step {
    fn kill(&self) {
        // In a chroot S1, where it is known: then S0 sees the end of all.
        let _ = pidfd_send_signal(self.init.as_ref().unwrap_or(&self.outer), Signal::KILL);
    }
}

/// A step in a [`Control`], until it is dropped.
pub(super) struct Registered<'a> {
    control: &'a Control,
    id: u64,
}

impl Registered<'_> {
    pub(super) fn set_init(&self, init: OwnedFd) {
        if let Some(step) = self.control.lock().running.get_mut(&self.id) {
            step.init = Some(init);
            if self.control.cancelled() {
                step.kill();
            }
        }
    }

    pub(super) fn set_command(&self, command: OwnedFd) {
        if let Some(step) = self.control.lock().running.get_mut(&self.id) {
            step.command = Some(command);
        }
    }

    /// Removes the step, and in a chroot returns the handle of S1 where it is known.
    pub(super) fn end(self) -> Option<OwnedFd> {
        self.control.lock().running.remove(&self.id).and_then(|step| step.init)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.control.lock().running.remove(&self.id);
    }
}
