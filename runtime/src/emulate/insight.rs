//! Which process a file of /proc is about, whom it belongs to, and who may look into whom: ptrace(2), "ptrace access mode
//! checking". What is about no process is the machine's, whose root nobody in a step is.

use rustix::fs::FileType;
use rustix::io::Errno as E;
use rustix::process::Pid;

use super::access::{Want, permits};
use super::call::Call;
use super::credentials::{Cap, Credentials};
use super::owners::carries;
use super::resolve::Handle;
use crate::error::Errno;
use crate::oci::{PROC_MASKED, PROC_READ_ONLY};
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

/// What a file of /proc is about.
#[derive(Debug, PartialEq, Eq)]
enum About<'p> {
    /// A process or thread: its number, and the name below its folder.
    Process(i32, &'p [u8]),
    /// The machine: the path below /proc.
    Machine(&'p [u8]),
}

impl Call<'_> {
    /// Returns whom a file of /proc belongs to that is about a process.
    pub(super) fn owner_of_process(&self, file: &Handle) -> Option<FileOwner> {
        let user = self.emulator.users.of(self.process_of(file)?).ok()?;
        Some(FileOwner::new(user.uid.effective, user.gid.effective))
    }

    /// Returns the process, or thread, that a file of /proc is about.
    pub(super) fn process_of(&self, file: &Handle) -> Option<Pid> {
        match about(&self.emulator.proc.path_of(file)?) {
            About::Process(number, _) => self.emulator.proc.numbered(self, file, number),
            About::Machine(_) => None,
        }
    }

    /// Returns whether a file is looked for in /proc: in the file system of that, or in one that is mounted there outside.
    pub(super) fn is_in_proc(&self, file: &Handle) -> bool {
        self.emulator.proc.has(file)
            || self.emulator.outside.is_some()
                && carries(file.stat())
                && file.stat().st_dev != self.emulator.root.stat().st_dev
                && self.emulator.proc.path_of(file).is_some()
    }

    /// Returns whether a file is one of /proc that is about no process: nobody in the step owns it.
    pub(super) fn is_machines(&self, file: &Handle) -> bool {
        self.is_in_proc(file)
            && file.kind() != FileType::Symlink
            && self.emulator.proc.path_of(file).is_none_or(|path| matches!(about(&path), About::Machine(_)))
    }

    /// Checks that `user` may do `want` to a file of /proc.
    pub(super) fn check_in_proc(&self, user: &Credentials, file: &Handle, want: Want) -> Result<(), Errno> {
        let mode = file.stat().st_mode;
        let path = self.emulator.proc.path_of(file).unwrap_or_default();
        // What everybody may is most of it.
        let is_everybodys = mode & (want.0 * 0o111) == want.0 * 0o111;
        let (number, name) = match about(&path) {
            About::Process(number, name) => (number, name),
            About::Machine(path) => {
                let is_masked = self.emulator.outside.is_some() && is_below(path, &PROC_MASKED);
                return match () {
                    // Its owner is no user of the step, whatever their number: they are others.
                    () if !is_everybodys || is_masked && want != Want::NOTHING => Err(E::ACCESS.into()),
                    () if want.has(Want::WRITE) && is_below(path, &PROC_READ_ONLY) => Err(E::ROFS.into()),
                    () => Ok(()),
                };
            }
        };
        if is_everybodys && file.is_dir() {
            return Ok(());
        }
        let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        // The network may be the one outside.
        if first == b"net" {
            let may =
                is_everybodys || self.emulator.outside.is_none() && permits(user, FileOwner::new(0, 0), mode, want);
            return if may { Ok(()) } else { Err(E::ACCESS.into()) };
        }
        let is_insight = INSIGHTS.contains(&first);
        if is_everybodys && !is_insight {
            return Ok(());
        }
        let Some(pid) = self.emulator.proc.numbered(self, file, number) else {
            // Of one that is gone there is nothing to be seen. But another one outside is not opened in its stead.
            return if self.emulator.outside.is_some() { Err(E::NOENT.into()) } else { Ok(()) };
        };
        let theirs = self.emulator.users.of(pid)?;
        let owner = FileOwner::new(theirs.uid.effective, theirs.gid.effective);
        let may = pid == self.pid() || (!is_insight || may_look(user, &theirs)) && permits(user, owner, mode, want);
        if may { Ok(()) } else { Err(E::ACCESS.into()) }
    }

    /// Checks that `user` may go where a link of /proc leads: to a file of a process.
    pub(super) fn check_link(&self, user: &Credentials, link: &Handle) -> Result<(), Errno> {
        let Some(pid) = self.process_of(link).filter(|pid| *pid != self.pid()) else { return Ok(()) };
        let theirs = self.emulator.users.of(pid)?;
        if may_look(user, &theirs) { Ok(()) } else { Err(E::ACCESS.into()) }
    }
}

/// Returns what a path below /proc is about. Names that are numbers are processes in /proc itself only.
fn about(path: &[u8]) -> About<'_> {
    let (first, name) = cut(path);
    let Some(process) = number(first) else { return About::Machine(path) };
    if let Some(of_thread) = name.strip_prefix(b"task/") {
        let (thread, name) = cut(of_thread);
        if let Some(thread) = number(thread) {
            return About::Process(thread, name);
        }
    }
    About::Process(process, name)
}

/// Returns the first component of a path, and the rest.
fn cut(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    (&path[..end], path.get(end + 1..).unwrap_or_default())
}

fn number(name: &[u8]) -> Option<i32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Returns whether a path below /proc is one of `paths` or below it.
fn is_below(path: &[u8], paths: &[&str]) -> bool {
    paths.iter().any(|above| above.as_bytes() == cut(path).0)
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
    fn a_path_of_proc_names_a_process_or_a_thread_or_the_machine() {
        for (path, expected) in [
            ("7/environ", Some((7, "environ"))),
            ("7", Some((7, ""))),
            ("7/task/9/fd/3", Some((9, "fd/3"))),
            ("7/task", Some((7, "task"))),
            ("7/fd/3", Some((7, "fd/3"))),
            ("7/net/dev", Some((7, "net/dev"))),
            ("sys/kernel/pid_max", None),
            ("irq/7/smp_affinity", None),
            ("sys/net/ipv4/conf/7/forwarding", None),
            ("", None),
        ] {
            let expected = expected.map_or(About::Machine(path.as_bytes()), |(number, name): (i32, &str)| {
                About::Process(number, name.as_bytes())
            });
            assert_eq!(about(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn what_only_begins_with_the_same_letters_is_not_below() {
        assert!(is_below(b"sys", &PROC_READ_ONLY) && is_below(b"sys/vm/swappiness", &PROC_READ_ONLY));
        assert!(!is_below(b"sysvipc/shm", &PROC_READ_ONLY) && !is_below(b"keys2", &PROC_MASKED));
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
