//! Which process a file of /proc is about, whom it belongs to, and who may look into whom: ptrace(2), "ptrace access mode
//! checking".

use rustix::process::Pid;

use super::access::{Want, permits};
use super::call::Call;
use super::credentials::{Cap, Credentials};
use super::resolve::Handle;
use crate::error::Errno;
use crate::owner::FileOwner;

/// What is shown of a process to those only who may look into it, whatever the mode says.
const INSIGHTS: [&[u8]; 20] = [
    b"auxv",
    b"clear_refs",
    b"cwd",
    b"environ",
    b"exe",
    b"fd",
    b"io",
    b"map_files",
    b"maps",
    b"mem",
    b"ns",
    b"numa_maps",
    b"pagemap",
    b"personality",
    b"root",
    b"smaps",
    b"smaps_rollup",
    b"stack",
    b"syscall",
    b"timers",
];

impl Call<'_> {
    /// Returns whom a file of /proc belongs to that is about a process.
    pub(super) fn owner_of_process(&self, file: &Handle) -> Option<FileOwner> {
        let (pid, _) = self.process_of(file)?;
        let user = self.emulator.users.of(pid).ok()?;
        Some(FileOwner::new(user.uid.effective, user.gid.effective))
    }

    /// Returns the process, or thread, that a file of /proc is about, and the name below its folder.
    fn process_of(&self, file: &Handle) -> Option<(Pid, Vec<u8>)> {
        let path = rustix::fs::readlink(file.name(), Vec::new()).ok()?.into_bytes();
        let (number, name) = parts(&path)?;
        Some((self.emulator.proc.numbered(self, file, number)?, name.to_vec()))
    }

    /// Checks that `user` may do `want` to a file of /proc.
    pub(super) fn check_in_proc(&self, user: &Credentials, file: &Handle, want: Want) -> Result<(), Errno> {
        let mode = file.stat().st_mode;
        // What everybody may is most of it, and all directories of processes: their names are not looked at.
        let is_everybodys = mode & (want.0 * 0o111) == want.0 * 0o111;
        if is_everybodys && file.is_dir() {
            return Ok(());
        }
        let path = rustix::fs::readlink(file.name(), Vec::new()).map(std::ffi::CString::into_bytes).unwrap_or_default();
        let Some((number, name)) = parts(&path) else { return Ok(()) };
        let is_insight = INSIGHTS.contains(&name.split(|byte| *byte == b'/').next().unwrap_or_default());
        if is_everybodys && !is_insight {
            return Ok(());
        }
        // Of one that is gone there is nothing to be seen.
        let Some(pid) = self.emulator.proc.numbered(self, file, number) else { return Ok(()) };
        let theirs = self.emulator.users.of(pid)?;
        let owner = FileOwner::new(theirs.uid.effective, theirs.gid.effective);
        let may = pid == self.pid() || (!is_insight || may_look(user, &theirs)) && permits(user, owner, mode, want);
        if may { Ok(()) } else { Err(rustix::io::Errno::ACCESS.into()) }
    }

    /// Checks that `user` may go where a link of /proc leads: to a file of a process.
    pub(super) fn check_link(&self, user: &Credentials, link: &Handle) -> Result<(), Errno> {
        let Some((pid, _)) = self.process_of(link).filter(|(pid, _)| *pid != self.pid()) else { return Ok(()) };
        let theirs = self.emulator.users.of(pid)?;
        if may_look(user, &theirs) { Ok(()) } else { Err(rustix::io::Errno::ACCESS.into()) }
    }
}

/// Returns the number of the process or thread in a path of /proc, and what follows it.
fn parts(path: &[u8]) -> Option<(i32, &[u8])> {
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<i32>().ok();
    let mut rest = path;
    loop {
        let part = rest.split(|byte| *byte == b'/').next()?;
        let behind = rest.get(part.len() + 1..);
        if let Some(process) = number(part) {
            let name = behind.unwrap_or_default();
            let thread = name.strip_prefix(b"task/").and_then(|name| {
                let part = name.split(|byte| *byte == b'/').next()?;
                Some((number(part)?, name.get(part.len() + 1..).unwrap_or_default()))
            });
            return Some(thread.unwrap_or((process, name)));
        }
        rest = behind?;
    }
}

/// Returns whether `user` may look into a process of `theirs`.
fn may_look(user: &Credentials, theirs: &Credentials) -> bool {
    let is_all =
        |id: u32, ids: super::credentials::Ids| [ids.real, ids.effective, ids.saved].iter().all(|own| *own == id);
    let is_same = is_all(user.uid.fs, theirs.uid) && is_all(user.gid.fs, theirs.gid);
    user.may(Cap::SYS_PTRACE) || is_same && theirs.caps.permitted & !user.caps.effective == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_proc_names_a_process_or_a_thread() {
        for (path, expected) in [
            ("/proc/7/environ", Some((7, "environ"))),
            ("/7", Some((7, ""))),
            ("/proc/7/task/9/fd/3", Some((9, "fd/3"))),
            ("/proc/7/task", Some((7, "task"))),
            ("/proc/7/fd/3", Some((7, "fd/3"))),
            ("/proc/sys/kernel/pid_max", None),
            ("/proc", None),
            ("", None),
        ] {
            let expected = expected.map(|(number, name): (i32, &str)| (number, name.as_bytes()));
            assert_eq!(parts(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn the_same_user_with_no_more_rights_may_be_looked_into() {
        let user = Credentials::new(1000, 50, &[], 0);
        let root = Credentials::new(0, 0, &[], 0xff);
        assert!(may_look(&user, &user) && may_look(&root, &root));
        assert!(!may_look(&user, &root) && !may_look(&root, &user));
        assert!(!may_look(&user, &Credentials::new(1000, 51, &[], 0)));
        assert!(!may_look(&Credentials::new(0, 0, &[], 0x0f), &root));
        assert!(may_look(&Credentials::new(0, 0, &[], Cap::SYS_PTRACE.bit()), &user));
    }
}
