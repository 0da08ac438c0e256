//! /proc as the step sees it. Its `self` means the process that asks, not the one that answers; its links to files are no
//! paths; and what it says about users is replaced by what they are here.

use std::fmt::Write;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::Pid;

use super::call::{Answer, At, Call, status_of};
use super::credentials::Credentials;
use super::owners::stat_of;
use super::places::memory;
use super::resolve::{Handle, Last};
use crate::error::Errno;
use crate::idmap::status_field;
use crate::sys::notify;

/// The inode number of the root of every procfs.
const ROOT_INODE: u64 = 1;

/// The procfs of a step.
#[derive(Debug)]
pub(super) struct Proc {
    /// Of the one that the step sees; `None` where it sees none.
    device: Option<u64>,
    /// Of the one that this process uses.
    outer: u64,
    /// Where that one is mounted.
    outer_path: Vec<u8>,
    /// The directory in the root of the step that stands for it, where it cannot be mounted: device and inode.
    stand_in: Option<(u64, u64)>,
}

impl Proc {
    /// Looks at both. The working directory must be the outer one. With `shares` the step is shown that one, too.
    pub(super) fn new(shares: bool) -> Result<Self, Errno> {
        let outer = stat_of(".")?.st_dev;
        let dir = Handle::open(".", CWD, OFlags::DIRECTORY)?;
        let outer_path = rustix::fs::readlink(dir.name(), Vec::new())?.into_bytes();
        let inner = stat_of("/proc/.").ok().filter(|stat| stat.st_ino == ROOT_INODE).map(|stat| stat.st_dev);
        let stand_in = stat_of("/proc/.").ok().filter(|_| shares).map(|stat| (stat.st_dev, stat.st_ino));
        Ok(Proc { device: if shares { Some(outer) } else { inner }, outer, outer_path, stand_in })
    }

    /// Returns whether this is the directory that only stands for the root of a procfs.
    pub(super) fn is_stand_in(&self, stat: &rustix::fs::Stat) -> bool {
        self.stand_in == Some((stat.st_dev, stat.st_ino))
    }

    /// Returns whether a directory is the root of one of them.
    pub(super) fn is_root(&self, dir: &Handle) -> bool {
        self.has(dir) && dir.stat().st_ino == ROOT_INODE
    }

    /// Returns whether a file is in one of them.
    pub(super) fn has(&self, file: &Handle) -> bool {
        let device = file.stat().st_dev;
        Some(device) == self.device || device == self.outer
    }

    /// Returns whether what is at `name`, a path of this process, is in one of them.
    pub(super) fn has_named(&self, name: &std::ffi::CStr) -> bool {
        rustix::fs::stat(name).is_ok_and(|stat| Some(stat.st_dev) == self.device || stat.st_dev == self.outer)
    }

    /// Returns the path of a file of one of them below its root, by where it is mounted; `None` for any other file, as far as the
    /// kernel has a path for it.
    pub(super) fn path_of(&self, file: &Handle) -> Option<Vec<u8>> {
        let path = rustix::fs::readlink(file.name(), Vec::new()).ok()?.into_bytes();
        below(&path, b"/proc").or_else(|| below(&path, &self.outer_path)).map(<[u8]>::to_vec)
    }

    /// Returns whether the links in a directory lead to files rather than being paths.
    pub(super) fn is_magic(&self, dir: &Handle) -> bool {
        self.has(dir) && dir.stat().st_ino != ROOT_INODE
    }

    /// Returns where the links `self` and `thread-self` lead for a process; `None` for any other link.
    pub(super) fn link_to_self(&self, call: &Call<'_>, dir: &Handle, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        if !self.has(dir) || dir.stat().st_ino != ROOT_INODE || !matches!(name, b"self" | b"thread-self") {
            return Ok(None);
        }
        let status = call.status()?;
        let number = |field| self.shown(&status, field).ok_or(E::NOENT);
        let process = number("NStgid")?;
        Ok(Some(match name {
            b"self" => process.to_string().into_bytes(),
            _ => format!("{process}/task/{}", number("NSpid")?).into_bytes(),
        }))
    }

    /// Returns the number under which the step sees a process in its /proc, from the status of the process.
    fn shown(&self, status: &str, field: &str) -> Option<i32> {
        let mut numbers = status_field(status, field)?.split_ascii_whitespace();
        if self.device == Some(self.outer) { numbers.next()?.parse().ok() } else { own_number(status, field) }
    }

    /// Returns the process, or thread, that the step sees as `number` in its /proc.
    fn shown_as(&self, call: &Call<'_>, number: i32) -> Option<Pid> {
        if self.device == Some(self.outer) {
            return Pid::from_raw(number).filter(|pid| is_of_step(call, *pid));
        }
        self.process(call, number)
    }

    /// Returns the process, or thread, that is `number` in the procfs in which `file` is.
    pub(super) fn numbered(&self, call: &Call<'_>, file: &Handle, number: i32) -> Option<Pid> {
        match file.stat().st_dev == self.outer {
            true => Pid::from_raw(number).filter(|pid| is_of_step(call, *pid)),
            false => self.process(call, number),
        }
    }

    /// Returns the process, or thread, that is `number` to the process that asks.
    pub(super) fn process(&self, call: &Call<'_>, number: i32) -> Option<Pid> {
        let own = call.status().ok()?;
        if [own_number(&own, "NStgid"), own_number(&own, "NSpid")].contains(&Some(number)) {
            return Some(call.pid());
        }
        if call.emulator.outside.is_some() {
            let pid = Some(number).filter(|number| *number > 0).and_then(Pid::from_raw);
            return pid.filter(|pid| is_of_step(call, *pid));
        }
        let number_of = |pid| status_of(pid).ok().and_then(|status| own_number(&status, "NSpid"));
        self.of_step(call).into_iter().find(|pid| number_of(*pid) == Some(number))
    }

    /// Returns all processes in the pid namespace of the one that asks.
    pub(super) fn of_step(&self, call: &Call<'_>) -> Vec<Pid> {
        let Ok(entries) = std::fs::read_dir(".") else { return vec![] };
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter_map(Pid::from_raw).filter(|pid| is_of_step(call, *pid)).collect()
    }
}

/// Returns what of a path is below that of a directory.
fn below<'p>(path: &'p [u8], dir: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(dir.strip_suffix(b"/").unwrap_or(dir))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Returns the number that a process has in its own pid namespace, from its status.
pub(super) fn own_number(status: &str, field: &str) -> Option<i32> {
    status_field(status, field)?.split_ascii_whitespace().next_back()?.parse().ok()
}

fn is_of_step(call: &Call<'_>, pid: Pid) -> bool {
    if let Some(outside) = &call.emulator.outside {
        return outside.is_of_step(pid);
    }
    let namespace = |pid: Pid| {
        rustix::fs::stat(format!("{}/ns/pid", pid.as_raw_nonzero())).ok().map(|stat| (stat.st_dev, stat.st_ino))
    };
    namespace(pid).is_some_and(|one| Some(one) == namespace(call.pid()))
}

/// Returns whether a path may lead into /proc, where it means something else to this process.
pub(super) fn is_special(path: &[u8]) -> bool {
    [&b"/proc"[..], b"/dev/fd", b"/dev/std", b"//", b"/./", b"/../"].iter().any(|start| path.starts_with(start))
}

/// Returns whether a path may be that of the status of a process.
pub(super) fn is_status(path: &[u8]) -> bool {
    path == b"status" || path.ends_with(b"/status")
}

/// Answers the opening of /proc/PID/status with a copy that has the emulated users; `None` where it is something else.
pub(super) fn open_status(call: &Call<'_>, at: &At, flags: i32) -> Result<Option<Answer>, Errno> {
    let others = libc::O_CREAT | libc::O_PATH | libc::O_DIRECTORY | libc::O_ACCMODE;
    if flags & others != libc::O_RDONLY {
        return Ok(None);
    }
    let user = call.user()?;
    let Ok(file) = call.find(&user, at, Last::Follow) else { return Ok(None) };
    if !call.emulator.proc.has(&file) {
        return Ok(None);
    }
    let file = rustix::fs::openat(CWD, file.name(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text)?;
    let shown = status_field(&text, "Pid").and_then(|number| number.parse().ok());
    let Some(pid) = shown.and_then(|number| call.emulator.proc.shown_as(call, number)) else { return Ok(None) };
    let text = with_user(&text, &*call.emulator.users.of(pid)?);
    call.give(&memory(&text)?, flags).map(Some)
}

/// Returns the status of a process as it were if `user` were its real one.
fn with_user(status: &str, user: &Credentials) -> String {
    let mut text = String::with_capacity(status.len() + 64);
    for line in status.lines() {
        let ids = |ids: super::credentials::Ids| format!("{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.fs);
        let caps = |set: u64| format!("{set:016x}");
        let name = line.split(':').next().unwrap_or_default();
        let value = match name {
            "Uid" => ids(user.uid),
            "Gid" => ids(user.gid),
            "Groups" => user.groups.iter().map(|group| format!("{group} ")).collect(),
            "CapInh" => caps(user.caps.inheritable),
            "CapPrm" => caps(user.caps.permitted),
            "CapEff" => caps(user.caps.effective),
            "CapBnd" => caps(user.caps.bounding),
            "CapAmb" => caps(user.caps.ambient),
            "NoNewPrivs" => u8::from(user.no_new_privs).to_string(),
            _ => {
                text.push_str(line);
                text.push('\n');
                continue;
            }
        };
        let _ = writeln!(text, "{name}:\t{value}");
    }
    text
}

impl Call<'_> {
    /// Gives an open file to the process as the result of its call.
    pub(super) fn give(&self, file: &std::os::fd::OwnedFd, flags: i32) -> Result<Answer, Errno> {
        use std::os::fd::AsFd;
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        notify::respond_with_file(self.emulator.listener(), self.id(), file.as_fd(), close_on_exec)?;
        Ok(Answer::Told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_emulated_user() {
        let real = "Name:\tsh\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \nCapPrm:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let user = Credentials::new(1000, 1001, &[4, 27], 0xff);
        assert_eq!(
            with_user(real, &user),
            "Name:\tsh\nUid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nGroups:\t4 27 \n\
             CapPrm:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
        );
    }

    #[test]
    fn what_is_below_a_directory_is_known_by_its_path() {
        for (path, dir, expected) in [
            ("/proc/7/fd", "/proc", Some("7/fd")),
            ("/proc", "/proc", Some("")),
            ("/process", "/proc", None),
            ("/srv/7/proc/sys", "/srv/7/proc", Some("sys")),
            ("/sys/vm", "/", Some("sys/vm")),
            ("pipe:[7]", "/proc", None),
        ] {
            assert_eq!(below(path.as_bytes(), dir.as_bytes()), expected.map(str::as_bytes), "{path} {dir}");
        }
    }

    #[test]
    fn paths_that_mean_something_else_here_are_known() {
        for path in ["/proc", "/proc/self/fd/1", "/dev/fd/3", "/dev/stdout", "//proc/1", "/./proc", "/../proc"] {
            assert!(is_special(path.as_bytes()), "{path}");
        }
        for path in ["/dev/null", "proc", "/etc/passwd", "", "/"] {
            assert!(!is_special(path.as_bytes()), "{path}");
        }
        assert!(is_status(b"/proc/1/status") && is_status(b"status") && !is_status(b"/var/lib/dpkg/mystatus"));
    }
}
