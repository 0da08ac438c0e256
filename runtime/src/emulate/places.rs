//! /proc and the devices of a step that works in a chroot, where nothing can be mounted. Their paths lead to files outside, of
//! which the process is given descriptors. What it then does with those needs nobody's help: a directory of /proc that is
//! open is the real one, for reading it. Paths that start there are looked up as all others are.
//!
//! Only processes of the step are found in this /proc, by the mark that they carry.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, MemfdFlags, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::Pid;

use super::access::Want;
use super::call::{Answer, At, Call, Reply};
use super::credentials::Credentials;
use super::proc;
use super::resolve::{Handle, Last};
use crate::error::Errno;
use crate::oci::PROC_MASKED;
use crate::sys::peer;

/// The numbers of /dev/null.
const NULL: (u32, u32) = (1, 3);

/// What is outside of the root of the step.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The hard limit of file locks of all processes of the step.
    pub(crate) mark: u64,
    /// Devices that there are, with major and minor number, held by O_PATH.
    pub(crate) devices: Vec<((u32, u32), OwnedFd)>,
}

impl Outside {
    /// Returns whether a process belongs to the step.
    pub(super) fn is_of_step(&self, pid: Pid) -> bool {
        peer::locks_limit(pid).is_ok_and(|(_, hard)| hard == self.mark)
    }

    /// Returns the device with this number.
    pub(super) fn device(&self, number: (u32, u32)) -> Result<Handle, Errno> {
        let found = self.devices.iter().find(|(known, _)| *known == number);
        let (_, file) = found.ok_or(E::NXIO)?;
        Handle::adopt(file.try_clone()?)
    }
}

impl Call<'_> {
    /// Returns what `name` in `dir` is instead of what lies there, if there is such a thing.
    pub(super) fn instead(&self, root: &Handle, dir: &Handle, name: &[u8]) -> Result<Option<Handle>, Errno> {
        let Some(outside) = &self.emulator.outside else { return Ok(None) };
        if dir.is(root) && name == b"proc" && !self.has_other_root() {
            return self.outer_proc().map(Some);
        }
        let is_proc = self.emulator.proc.is_root(dir);
        // What is covered elsewhere. A folder is closed: see `check_in_proc`.
        if is_proc
            && PROC_MASKED.iter().any(|masked| masked.as_bytes() == name)
            && dir.child(name).is_ok_and(|file| !file.is_dir())
        {
            return outside.device(NULL).map(Some);
        }
        if is_proc
            && let Some(pid) = std::str::from_utf8(name).ok().and_then(|text| text.parse().ok()).and_then(Pid::from_raw)
            && !outside.is_of_step(pid)
        {
            return Err(E::NOENT.into());
        }
        Ok(None)
    }

    /// Returns the root of the procfs for the directory that stands for it, and for any other one nothing.
    pub(super) fn instead_of(&self, dir: &Handle) -> Result<Option<Handle>, Errno> {
        if self.emulator.proc.is_stand_in(dir.stat()) { self.outer_proc().map(Some) } else { Ok(None) }
    }

    fn outer_proc(&self) -> Result<Handle, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Handle::adopt(rustix::fs::openat(&self.emulator.outer_proc, ".", flags, Mode::empty())?)
    }

    /// Returns whether the process can not reach a file by the path by which it was found.
    pub(super) fn is_elsewhere(&self, file: &Handle) -> bool {
        // Nothing is mounted in the root; but parts of the /proc outside may be covered.
        let is_mounted = file.stat().st_dev != self.emulator.root.stat().st_dev;
        self.emulator.outside.is_some()
            && (is_mounted || self.emulator.proc.has(file) || file.by_magic() || file.by_outside())
    }

    /// Returns whether a path that the kernel knows nothing of may lead out of the root of the step.
    pub(super) fn may_lead_outside(&self, name: &std::ffi::CStr) -> bool {
        self.emulator.outside.is_some()
            && match rustix::fs::stat(name) {
                // Nothing is mounted in the root: a way to another file system started from a directory of /proc, or of outside.
                Ok(stat) => stat.st_dev != self.emulator.root.stat().st_dev || self.emulator.proc.is_stand_in(&stat),
                Err(errno) => errno == E::NOENT,
            }
    }

    /// Opens a file for the process that it can not reach itself.
    pub(super) fn open_elsewhere(&self, file: &Handle, flags: i32) -> Reply {
        let asked = OFlags::from_bits_retain(flags.cast_unsigned());
        if asked.contains(OFlags::PATH) {
            return self.give(&file.fd().try_clone_to_owned()?, flags);
        }
        if asked.contains(OFlags::DIRECTORY) && !file.is_dir() {
            return Err(E::NOTDIR.into());
        }
        self.still_waits()?;
        if let Some(text) = self.mounts(file) {
            return self.give(&memory(&text)?, flags);
        }
        // A pipe or a terminal must not keep this thread; who reads it later waits as he asked.
        let quick = (asked & !(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)) | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = rustix::fs::openat(CWD, file.name(), quick | OFlags::NONBLOCK, Mode::empty())?;
        if !asked.contains(OFlags::NONBLOCK) {
            let now = rustix::fs::fcntl_getfl(&opened)?;
            rustix::fs::fcntl_setfl(&opened, now & !OFlags::NONBLOCK)?;
        }
        self.give(&opened, flags)
    }

    /// Returns what is to be read in `file`, if it is a list of mounts: the kernel shows there what is mounted below the root
    /// of a process, and nothing is. Programs that ask for free space look for their root in it.
    fn mounts(&self, file: &Handle) -> Option<String> {
        if !self.emulator.proc.has(file) || file.kind() != FileType::RegularFile {
            return None;
        }
        let path = rustix::fs::readlink(file.name(), Vec::new()).ok()?.into_bytes();
        let device = self.emulator.root.stat().st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        match &path[path.iter().rposition(|byte| *byte == b'/')?..] {
            b"/mounts" => Some("overlay / overlay rw,relatime 0 0\nproc /proc proc rw,relatime 0 0\n".into()),
            b"/mountinfo" => Some(format!(
                "1 0 {major}:{minor} / / rw,relatime - overlay overlay rw\n2 1 0:1 / /proc rw,relatime - proc proc rw\n"
            )),
            _ => None,
        }
    }

    /// Answers access(2) for a file that the process can not reach itself; `None` where it can.
    pub(super) fn access_elsewhere(&self, user: &Credentials, at: &At, last: Last, want: Want) -> Option<Reply> {
        self.emulator.outside.as_ref()?;
        let is_here = !proc::is_special(&at.path) && self.name_here(user, at).is_some();
        let file = if is_here { return None } else { self.find(user, at, last).ok()? };
        if !self.is_elsewhere(&file) {
            return None;
        }
        if want != Want::NOTHING
            && let Err(errno) = self.check(user, &file, want)
        {
            return Some(Err(errno));
        }
        let refused = want.has(Want::EXECUTE) && !file.is_dir() && file.stat().st_mode & 0o111 == 0;
        Some(if refused { Err(E::ACCESS.into()) } else { Ok(Answer::Value(0)) })
    }
}

/// Returns a file with `text`, open for reading.
pub(super) fn memory(text: &str) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create("text", MemfdFlags::CLOEXEC)?;
    std::io::Write::write_all(&mut std::fs::File::from(file.try_clone()?), text.as_bytes())?;
    let name = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::openat(CWD, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(target_arch = "x86_64")]
pub(super) fn readlink(call: &Call<'_>) -> Reply {
    read_link(call, &call.at_cwd(0)?, call.long(1), call.long(2))
}

pub(super) fn readlinkat(call: &Call<'_>) -> Reply {
    let at = At { dir: call.int(0), path: call.path(1)?, in_dir: false };
    if at.path.is_empty() {
        return Ok(Answer::Continue);
    }
    read_link(call, &at, call.long(2), call.long(3))
}

fn read_link(call: &Call<'_>, at: &At, buffer: u64, size: u64) -> Reply {
    let user = call.user()?;
    if !proc::is_special(&at.path) && call.name_here(&user, at).is_some() {
        return Ok(Answer::Continue);
    }
    let Ok(found) = call.find_place(&user, at, Last::Keep) else { return Ok(Answer::Continue) };
    let (Some(name), Some(file)) = (found.name, found.file) else { return Ok(Answer::Continue) };
    if !call.emulator.proc.has(&file) {
        return Ok(Answer::Continue);
    }
    if file.kind() != FileType::Symlink || size == 0 || i32::try_from(size).is_err() {
        return Err(E::INVAL.into());
    }
    let target = match call.emulator.proc.link_to_self(call, &found.dir, &name)? {
        Some(target) => target,
        None => rustix::fs::readlinkat(file.fd(), "", Vec::new())?.into_bytes(),
    };
    let length = target.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    call.write(buffer, &target[..length])?;
    Ok(Answer::Value(i64::try_from(length).unwrap_or(0)))
}
