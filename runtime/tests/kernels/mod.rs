//! Older kernels, and sandboxes that hide calls, on the kernel that there is: a command runs with a filter in front of its calls, and
//! what the older kernel has not is refused as that one refuses it. Where a filter alone can not see it (a string behind a pointer, the
//! file system of a descriptor, a mount that is nowhere), the process stops and is looked into (ptrace(2)), as in strace(1).
//!
//! The program knows nothing of it: no name of it is used here, and it has no switch for it. What an older kernel does by itself to a call that it
//! knows as well is not here: only what it lacks.
#![allow(unsafe_code)]

mod call;
mod lack;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use call::Call;
use lack::Answer;

/// What a kernel, or a sandbox around the program, has not.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// What stands for it in the name of a place.
    pub name: &'static str,
    /// What came with a later version is not there.
    version: (u32, u32),
    /// Calls that fail whatever they are for, and their error.
    refused: &'static [(libc::c_long, i32)],
    /// A word that mount(2) does not know.
    unknown: Option<&'static str>,
    /// What must have been refused to somebody: else nothing of it was tried.
    met: &'static [&'static str],
    /// The same where users are emulated.
    met_by_emulator: &'static [&'static str],
}

/// Whether the kernel knows the users of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    Real,
    Emulated,
}

const NEWEST: (u32, u32) = (u32::MAX, 0);

/// The last one on which users cannot be emulated.
pub const LINUX_5_13: Kernel = Kernel {
    name: "Linux 5.13",
    version: (5, 13),
    refused: &[],
    unknown: None,
    met: &[lack::HAND_OVER],
    met_by_emulator: &[],
};

/// The first one on which users can be emulated; that of RHEL 9.
pub const LINUX_5_14: Kernel = Kernel {
    name: "Linux 5.14",
    version: (5, 14),
    refused: &[],
    unknown: None,
    met: &[lack::ON_NOWHERE, lack::LOWERDIR_PLUS, lack::LANDLOCK, lack::WAIT_KILLABLE],
    met_by_emulator: &[lack::IN_MEMORY, lack::SET_FLAGS, lack::END_OF_CALLS],
};

/// That of Debian 13: nothing is mounted on what is mounted nowhere, and else all is there.
pub const LINUX_6_12: Kernel = Kernel {
    name: "Linux 6.12",
    version: (6, 12),
    refused: &[],
    unknown: None,
    met: &[lack::ON_NOWHERE],
    met_by_emulator: &[],
};

/// A sandbox that says of calls which it does not know that there are none, and allows no other root; Landlock is not built in.
pub const SANDBOX: Kernel = Kernel {
    name: "a sandbox",
    version: NEWEST,
    refused: &[
        (libc::SYS_pivot_root, libc::EPERM),
        (libc::SYS_openat2, libc::ENOSYS),
        (libc::SYS_clone3, libc::ENOSYS),
        (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
    ],
    unknown: None,
    met: &["pivot_root", "openat2", "landlock_create_ruleset"],
    met_by_emulator: &[],
};

/// A root file system that can not be moved (initramfs), a sandbox as they were before ENOSYS (EPERM for all that they did not know),
/// Landlock turned off; overlayfs before its new interface and `volatile`.
pub const INITRAMFS: Kernel = Kernel {
    name: "an initramfs",
    version: (6, 5),
    refused: &[
        (libc::SYS_pivot_root, libc::EINVAL),
        (libc::SYS_openat2, libc::EPERM),
        (libc::SYS_copy_file_range, libc::EPERM),
        (libc::SYS_landlock_create_ruleset, libc::EOPNOTSUPP),
    ],
    unknown: Some("volatile"),
    met: &[lack::ON_NOWHERE, lack::LOWERDIR_PLUS, lack::UNKNOWN_OPTION, "pivot_root", "openat2"],
    met_by_emulator: &[lack::IN_MEMORY, lack::END_OF_CALLS],
};

/// Whether processes can be looked into here.
pub fn is_possible() -> bool {
    cfg!(target_arch = "x86_64")
}

impl Kernel {
    /// Whether nobody has openat2(2), steps neither.
    pub fn hides_openat2(&self) -> bool {
        self.refused.iter().any(|(number, _)| *number == libc::SYS_openat2)
    }

    /// Runs `command` and all that it starts as on this kernel, and returns its exit code, or minus the signal that ended it; and how
    /// often what was refused.
    ///
    /// What it leaves running is killed. Standard input and output are those of the command.
    pub fn run(&self, command: &mut Command) -> io::Result<(i32, BTreeMap<&'static str, u32>)> {
        let filter = lack::filter(self);
        // SAFETY: what follows the fork makes system calls, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                ptrace::traceme()?;
                install(&filter)
            })
        };
        // The process stops behind its execve, for which this returns.
        let child = command.spawn()?;
        let main = Pid::from_raw(child.id().cast_signed());
        waitpid(main, Some(WaitPidFlag::__WALL))?;
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(main, options)?;
        ptrace::cont(main, None)?;
        let mut refused = BTreeMap::new();
        let mut known = HashSet::from([main]);
        loop {
            // Those of this thread only.
            let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))?;
            // That a process is killed while it is looked at is no error.
            match status {
                WaitStatus::Exited(pid, code) if pid == main => return Ok((code, refused)),
                WaitStatus::Signaled(pid, signal, _) if pid == main => return Ok((-(signal as i32), refused)),
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => drop(known.remove(&pid)),
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => {
                    let call = Call::of(pid).ok();
                    match call.as_ref().and_then(|call| lack::answer(self, call)) {
                        Some((what, Answer::Returns(result))) => {
                            let _ = call.map(|call| call.answer(result));
                            *refused.entry(what).or_default() += 1;
                            let _ = ptrace::cont(pid, None);
                        }
                        // It stops again when the call is over.
                        Some((_, Answer::MayNotEnd)) => drop(ptrace::syscall(pid, None)),
                        None => drop(ptrace::cont(pid, None)),
                    }
                }
                WaitStatus::PtraceSyscall(pid) => {
                    if let Ok(call) = Call::of(pid)
                        && let Some(what) = lack::never_ends(&call)
                    {
                        let _ = call.wait_instead();
                        *refused.entry(what).or_default() += 1;
                    }
                    let _ = ptrace::cont(pid, None);
                }
                WaitStatus::PtraceEvent(pid, ..) => drop(ptrace::cont(pid, None)),
                // What a new one begins with.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if known.insert(pid) => drop(ptrace::cont(pid, None)),
                WaitStatus::Stopped(pid, signal) => drop(ptrace::cont(pid, signal)),
                _ => {}
            }
        }
    }

    /// Returns what should have been refused and was not tried; with `users` that are emulated, more is.
    pub fn unmet(&self, refused: &BTreeMap<&'static str, u32>, users: Users) -> Vec<&'static str> {
        let of_emulator: &[&str] = if users == Users::Emulated { self.met_by_emulator } else { &[] };
        self.met.iter().chain(of_emulator).copied().filter(|what| !refused.contains_key(what)).collect()
    }
}

/// Puts `filter` in front of this process, for good.
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program outlives the call, which does not write to it.
    let put = || unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if put() == 0 {
        return Ok(());
    }
    // Who is root nowhere may do it when no program gives it more rights; none of what is started by such users needs to.
    rustix::thread::set_no_new_privs(true)?;
    if put() == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
