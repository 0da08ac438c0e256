//! execve(2) of a path that leads into /proc, where that can not be mounted: of /proc/self/exe, say. The kernel looks for it
//! in the directory that stands for /proc; so there is made a link to the program that is meant. Nobody else sees it, since the
//! paths of all other calls are looked up outside.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::Pid;

use super::call::{At, Call};
use super::resolve::Handle;
use crate::error::Errno;

/// How long a process may take to execute what it was led to, while another one waits to be led elsewhere by the same path.
const LONGEST: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(1);

/// A name for what is to take the place of another link: no process has it.
const NEW: &str = ".new";

/// The links that there are, by their paths below /proc.
#[derive(Debug, Default)]
pub(super) struct Ways(Mutex<HashMap<Vec<u8>, Way>>);

#[derive(Debug)]
struct Way {
    target: Vec<u8>,
    /// Who was led by it, and what they were then.
    led: Vec<(Pid, Option<Vec<u8>>)>,
}

impl Call<'_> {
    /// Makes the kernel find `file` at `at`, as far as a link can.
    pub(super) fn make_way(&self, at: &At, file: &Handle) -> Result<(), Errno> {
        let Some(path) = self.below_proc(at) else { return Ok(()) };
        let target = rustix::fs::readlink(file.name(), Vec::new())?.into_bytes();
        // One that has no name any more, or never had: the kernel will find none.
        let is_it = rustix::fs::stat(&*target)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (file.stat().st_dev, file.stat().st_ino));
        if !is_it {
            return Err(E::NOENT.into());
        }
        let mut ways = self.emulator.ways.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        if let Some(way) = ways.get_mut(&path) {
            while way.target != target && begin.elapsed() < LONGEST && way.led.iter().any(is_under_way) {
                std::thread::sleep(PAUSE);
            }
            if way.target == target {
                way.led.retain(is_under_way);
            }
        }
        if ways.get(&path).is_none_or(|way| way.target != target) {
            self.link(&path, &target)?;
            ways.insert(path.clone(), Way { target, led: vec![] });
        }
        if let Some(way) = ways.get_mut(&path) {
            way.led.push((self.pid(), image(self.pid())));
        }
        Ok(())
    }

    /// Returns where below the directory that stands for /proc the kernel looks for `at`; `None` where it does not.
    fn below_proc(&self, at: &At) -> Option<Vec<u8>> {
        if self.has_other_root() || at.in_dir {
            return None;
        }
        let path = match &at.path {
            path if path.starts_with(b"/proc/") => path[6..].to_vec(),
            path if path.starts_with(b"/dev/fd/") => [b"self/fd/", &path[8..]].concat(),
            path if path.first() != Some(&b'/') && at.dir == libc::AT_FDCWD => {
                let cwd = self.opened(at.dir).ok()?;
                self.emulator.proc.is_stand_in(cwd.stat()).then(|| path.clone())?
            }
            _ => return None,
        };
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        (!names.is_empty() && !names.contains(&&b".."[..])).then(|| names.join(&b'/'))
    }

    /// Makes a link to `target` at `path` below the directory that stands for /proc.
    fn link(&self, path: &[u8], target: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir: OwnedFd = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
        if !self.emulator.proc.is_stand_in(&rustix::fs::fstat(&dir)?) {
            return Err(E::NOENT.into());
        }
        let mut names = path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_some() {
                match rustix::fs::mkdirat(&dir, name, Mode::from(0o755)) {
                    Ok(()) | Err(E::EXIST) => dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?,
                    Err(errno) => return Err(errno.into()),
                }
                continue;
            }
            let _ = rustix::fs::unlinkat(&dir, NEW, AtFlags::empty());
            rustix::fs::symlinkat(target, &dir, NEW)?;
            rustix::fs::renameat(&dir, NEW, &dir, name)?;
        }
        Ok(())
    }
}

/// Whether a process that was led somewhere may not have got there yet.
fn is_under_way((pid, before): &(Pid, Option<Vec<u8>>)) -> bool {
    let now = image(*pid);
    now.is_some() && now == *before
}

/// Returns what is another with every program that a process executes: where its stack starts, which the kernel chooses anew.
/// `None` where the process is gone.
fn image(pid: Pid) -> Option<Vec<u8>> {
    stack_in(&std::fs::read(format!("{}/stat", pid.as_raw_nonzero())).ok()?).map(<[u8]>::to_vec)
}

fn stack_in(stat: &[u8]) -> Option<&[u8]> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    // The state of the process is field 3, that address field 28.
    stat[end + 1..].split(|byte| *byte == b' ').skip(1).nth(28 - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_where_its_stack_starts() {
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let own = std::str::from_utf8(stack_in(&stat).unwrap()).unwrap();
        let here = std::ptr::from_ref(&stat).addr() as u64;
        assert!(own.parse::<u64>().unwrap() > here >> 16, "{own}");
        assert_eq!(stack_in(b"1 (a) b) R 2 3"), None);
    }
}
