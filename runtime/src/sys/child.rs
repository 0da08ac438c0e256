//! Programs that are started for this process, and are of no use without it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the program that `command` starts asked to end (SIGTERM) when the thread that starts it ends, however that comes about. So
/// that thread must wait for it.
pub fn ends_with_us(command: &mut Command) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // Who died before that sends nothing.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls, takes no lock and allocates nothing.
    unsafe { command.pre_exec(ask) };
}
