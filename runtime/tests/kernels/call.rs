//! A system call of a process that has stopped before it.

use std::io;
use std::path::PathBuf;

use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

/// The longest string that is looked at.
const LONGEST: usize = 4096;
const PAGE: usize = 4096;
const TMPFS: i128 = 0x0102_1994;

pub(super) struct Call {
    pid: Pid,
    pub(super) nr: libc::c_long,
    pub(super) args: [u64; 6],
    #[cfg(target_arch = "x86_64")]
    registers: libc::user_regs_struct,
}

impl Call {
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of(pid: Pid) -> nix::Result<Self> {
        let registers = ptrace::getregs(pid)?;
        let args = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        Ok(Call { pid, nr: registers.orig_rax.cast_signed(), args, registers })
    }

    /// Has the kernel leave the call out; it returns `result`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn answer(&self, result: i64) -> nix::Result<()> {
        let (orig_rax, rax) = (u64::MAX, result.cast_unsigned());
        ptrace::setregs(self.pid, libc::user_regs_struct { orig_rax, rax, ..self.registers })
    }

    /// Returns what the call has returned.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn result(&self) -> i64 {
        self.registers.rax.cast_signed()
    }

    /// Has the process wait for a signal before it goes on from this call, which is over; that returns EINTR then.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn wait_instead(&self) -> nix::Result<()> {
        // The instruction, of two bytes, is executed once more, for pause(2).
        let (rip, rax) = (self.registers.rip - 2, libc::SYS_pause.cast_unsigned());
        ptrace::setregs(self.pid, libc::user_regs_struct { rip, rax, ..self.registers })
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn result(&self) -> i64 {
        0
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn wait_instead(&self) -> nix::Result<()> {
        Err(nix::Error::ENOSYS)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn of(_: Pid) -> nix::Result<Self> {
        Err(nix::Error::ENOSYS)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn answer(&self, _: i64) -> nix::Result<()> {
        let _ = ptrace::cont(self.pid, None);
        Err(nix::Error::ENOSYS)
    }

    /// Returns the low half of an argument.
    pub(super) fn word(&self, n: usize) -> u32 {
        self.args[n] as u32
    }

    /// Returns the bytes at an argument, as many as there are of `length`.
    pub(super) fn bytes(&self, n: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let base = self.args[n] as usize;
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let read = process_vm_readv(self.pid, &mut parts, &[RemoteIoVec { base, len: length }]).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Returns the string at an argument; an empty one where there is none.
    pub(super) fn text(&self, n: usize) -> String {
        let mut text = Vec::new();
        let mut rest = Call { args: self.args, ..*self };
        while self.args[n] != 0 && text.len() < LONGEST {
            // What follows a page need not be there.
            let bytes = rest.bytes(n, PAGE - rest.args[n] as usize % PAGE);
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&bytes[..end]);
                break;
            }
            if bytes.is_empty() {
                break;
            }
            rest.args[n] += bytes.len() as u64;
            text.extend(bytes);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Returns the path by which this process finds the file of a descriptor of the other.
    pub(super) fn file(&self, n: usize) -> PathBuf {
        format!("/proc/{}/fd/{}", self.pid, self.word(n).cast_signed()).into()
    }

    /// As [`file`](Self::file), of a path there.
    pub(super) fn path(&self, n: usize) -> PathBuf {
        self.named(&format!("/proc/{}/cwd", self.pid), &self.text(n))
    }

    /// As [`file`](Self::file), of a path from a directory there.
    pub(super) fn path_at(&self, dir: usize, n: usize) -> PathBuf {
        match self.word(dir).cast_signed() {
            libc::AT_FDCWD => self.path(n),
            _ => self.named(&self.file(dir).to_string_lossy(), &self.text(n)),
        }
    }

    fn named(&self, start: &str, path: &str) -> PathBuf {
        // Its own descriptors, which are not those of who looks.
        for own in ["self/fd/", "thread-self/fd/"] {
            if let Some(rest) = path.strip_prefix("/proc/").unwrap_or(path).strip_prefix(own) {
                return format!("/proc/{}/fd/{rest}", self.pid).into();
            }
        }
        match path {
            "" => start.into(),
            path if path.starts_with('/') => format!("/proc/{}/root{path}", self.pid).into(),
            path => format!("{start}/{path}").into(),
        }
    }

    /// Returns whether the other end of what a descriptor is about has gone.
    pub(super) fn is_hung_up(&self, n: usize) -> bool {
        // Of a thread there is none before Linux 6.9; it shares its descriptors with the first one.
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let number = |line: &str| line.strip_prefix("Tgid:")?.trim().parse().ok();
        let Some(process) = status.lines().find_map(number).and_then(rustix::process::Pid::from_raw) else {
            return false;
        };
        let Ok(process) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else { return false };
        let fd = self.word(n).cast_signed();
        let Ok(copy) = rustix::process::pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()) else { return false };
        let mut fds = [PollFd::new(&copy, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Returns whether a file is in a mount that is nowhere in the namespace of the process. Where that can not be told, it is not.
    pub(super) fn is_nowhere(&self, path: PathBuf) -> bool {
        let Ok(stat) = rustix::fs::statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID) else { return false };
        let Ok(mounts) = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)) else { return false };
        let number = stat.stx_mnt_id.to_string();
        !mounts.lines().any(|line| line.split(' ').next() == Some(&number))
    }
}

/// Returns whether a file lies in memory.
pub(super) fn is_in_memory(path: PathBuf) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| i128::from(about.f_type) == TMPFS)
}
