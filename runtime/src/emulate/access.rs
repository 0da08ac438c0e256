//! Whether an emulated user may do something to a file: what the kernel checks for real users.

use rustix::fs::FileType;
use rustix::io::Errno as E;

use super::call::Call;
use super::credentials::{Cap, Credentials};
use super::resolve::{Found, Handle};
use crate::error::Errno;
use crate::owner::FileOwner;

/// Major numbers of the terminals of devpts.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// What is to be done with a file: bits of rwx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want(pub(super) u32);

impl Want {
    pub(super) const NOTHING: Want = Want(0);
    pub(super) const SEARCH: Want = Want(1);
    pub(super) const EXECUTE: Want = Want(1);
    pub(super) const WRITE: Want = Want(2);
    pub(super) const READ: Want = Want(4);
    /// To make or remove a name in a directory.
    pub(super) const CHANGE: Want = Want(3);

    pub(super) fn has(self, other: Want) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn and(self, other: Want) -> Want {
        Want(self.0 | other.0)
    }
}

/// Returns whether `user` may do `want` to a file of `owner` with `mode`: path_resolution(7).
pub(super) fn permits(user: &Credentials, owner: FileOwner, mode: u32, want: Want) -> bool {
    let class = match () {
        () if user.uid.fs == owner.uid => mode >> 6,
        () if user.in_group(owner.gid) => mode >> 3,
        () => mode,
    };
    if want.0 & !class & 7 == 0 {
        return true;
    }
    let is_dir = mode & libc::S_IFMT == libc::S_IFDIR;
    if user.may(Cap::DAC_OVERRIDE) && (is_dir || !want.has(Want::EXECUTE) || mode & 0o111 != 0) {
        return true;
    }
    let reads = want == Want::READ || (is_dir && !want.has(Want::WRITE));
    reads && user.may(Cap::DAC_READ_SEARCH)
}

impl Call<'_> {
    /// Checks that `user` may do `want` to a file.
    pub(super) fn check(&self, user: &Credentials, file: &Handle, want: Want) -> Result<(), Errno> {
        if self.is_in_proc(file) {
            return self.check_in_proc(user, file, want);
        }
        let stat = file.stat();
        // What everybody may needs no owner.
        if stat.st_mode & (want.0 * 0o111) == want.0 * 0o111 || self.is_exempt(file) {
            return Ok(());
        }
        let owner = match self.is_output(file) {
            true => self.emulator.owner_of_output(file.stat()),
            false => self.emulator.owners.seen_by(user, file),
        };
        let mode = owner.device.map_or(stat.st_mode, |device| device.mode);
        if permits(user, owner, mode, want) { Ok(()) } else { Err(E::ACCESS.into()) }
    }

    /// What has no place in the file system is not guarded between the users of one step: its owner is always the real one. But
    /// the output of the command is.
    fn is_exempt(&self, file: &Handle) -> bool {
        match file.kind() {
            FileType::Fifo | FileType::Socket => file.by_magic() && !self.is_output(file),
            FileType::CharacterDevice => TERMINALS.contains(&rustix::fs::major(file.stat().st_rdev)),
            _ => false,
        }
    }

    fn is_output(&self, file: &Handle) -> bool {
        file.kind() == FileType::Fifo && self.emulator.outputs.contains(&(file.stat().st_dev, file.stat().st_ino))
    }

    /// Checks that `user` owns a file, or may act as if.
    pub(super) fn check_owner(&self, user: &Credentials, file: &Handle) -> Result<FileOwner, Errno> {
        if self.is_machines(file) {
            return Err(E::PERM.into());
        }
        let owner = self.emulator.owners.seen_by(user, file);
        if user.uid.fs == owner.uid || user.may(Cap::FOWNER) { Ok(owner) } else { Err(E::PERM.into()) }
    }

    /// Checks that `user` may take the name out of its directory: sticky ones keep those of others.
    pub(super) fn check_removal(&self, user: &Credentials, found: &Found) -> Result<(), Errno> {
        self.check(user, &found.dir, Want::CHANGE)?;
        let Some(file) = &found.file else { return Ok(()) };
        if found.dir.stat().st_mode & libc::S_ISVTX == 0 || user.may(Cap::FOWNER) {
            return Ok(());
        }
        let owns = |handle: &Handle| self.emulator.owners.of(handle).uid == user.uid.fs;
        if owns(file) || owns(&found.dir) { Ok(()) } else { Err(E::PERM.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u32 = libc::S_IFREG;
    const DIR: u32 = libc::S_IFDIR;

    #[test]
    fn the_class_of_the_user_decides_even_if_another_one_may_more() {
        let user = Credentials::new(1000, 50, &[7], 0);
        for (uid, gid, mode, want, expected) in [
            (1000, 0, 0o400, Want::READ, true),
            (1000, 0, 0o077, Want::READ, false),
            (0, 50, 0o040, Want::READ, true),
            (0, 7, 0o020, Want::WRITE, true),
            (0, 7, 0o707, Want::READ, false),
            (0, 0, 0o004, Want::READ, true),
            (0, 0, 0o004, Want::READ.and(Want::WRITE), false),
            (0, 0, 0, Want::NOTHING, true),
        ] {
            assert_eq!(permits(&user, FileOwner::new(uid, gid), FILE | mode, want), expected, "{uid} {gid} {mode:o}");
        }
    }

    #[test]
    fn capabilities_open_all_but_what_nobody_may_execute() {
        let root = Credentials::new(0, 0, &[], Cap::DAC_OVERRIDE.bit());
        let owner = FileOwner::new(5, 5);
        assert!(permits(&root, owner, FILE, Want::READ.and(Want::WRITE)));
        assert!(!permits(&root, owner, FILE | 0o600, Want::EXECUTE));
        assert!(permits(&root, owner, FILE | 0o610, Want::EXECUTE));
        assert!(permits(&root, owner, DIR, Want::CHANGE));
        let reader = Credentials::new(0, 0, &[], Cap::DAC_READ_SEARCH.bit());
        assert!(permits(&reader, owner, FILE, Want::READ) && permits(&reader, owner, DIR, Want::SEARCH));
        assert!(!permits(&reader, owner, FILE, Want::WRITE) && !permits(&reader, owner, DIR, Want::CHANGE));
    }
}
