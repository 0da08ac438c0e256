//! Who a process is, and whom it may become: the rules of credentials(7) and capabilities(7), as the kernel has them, with
//! every id. Pure: knows no process.

use std::sync::Arc;

/// A capability, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cap(pub(super) u32);

impl Cap {
    pub(super) const CHOWN: Cap = Cap(0);
    pub(super) const DAC_OVERRIDE: Cap = Cap(1);
    pub(super) const DAC_READ_SEARCH: Cap = Cap(2);
    pub(super) const FOWNER: Cap = Cap(3);
    pub(super) const FSETID: Cap = Cap(4);
    pub(super) const KILL: Cap = Cap(5);
    pub(super) const SETGID: Cap = Cap(6);
    pub(super) const SETUID: Cap = Cap(7);
    pub(super) const SETPCAP: Cap = Cap(8);
    pub(super) const SYS_CHROOT: Cap = Cap(18);
    pub(super) const SYS_PTRACE: Cap = Cap(19);
    pub(super) const SYS_ADMIN: Cap = Cap(21);
    pub(super) const SYS_RESOURCE: Cap = Cap(24);
    pub(super) const MKNOD: Cap = Cap(27);
    pub(super) const SETFCAP: Cap = Cap(31);
    /// The last one, CAP_CHECKPOINT_RESTORE.
    pub(super) const LAST: u32 = 40;

    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }
}

/// Those that go and come with the user that files are opened as.
const FILE_CAPS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32;

/// Bits of [`Credentials::securebits`].
const NOROOT: u32 = 1 << 0;
const NO_SETUID_FIXUP: u32 = 1 << 2;
pub(super) const KEEP_CAPS: u32 = 1 << 4;
const KEEP_CAPS_LOCKED: u32 = 1 << 5;
const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
const ALL_BITS: u32 = 0x55;
const ALL_LOCKS: u32 = ALL_BITS << 1;

/// No id: "as it is".
pub(super) const KEEP: u32 = u32::MAX;

/// EPERM, EINVAL.
pub(super) use rustix::io::Errno;

/// The ids of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    /// The one that files are opened with.
    pub(super) fs: u32,
}

impl Ids {
    pub(super) fn all(id: u32) -> Self {
        Ids { real: id, effective: id, saved: id, fs: id }
    }

    fn has(&self, id: u32) -> bool {
        id == self.real || id == self.effective || id == self.saved
    }

    /// As setuid(2).
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == KEEP {
            return Err(Errno::INVAL);
        }
        if privileged {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        (self.effective, self.fs) = (id, id);
        Ok(())
    }

    /// As setreuid(2).
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let old = *self;
        if real != KEEP {
            if !privileged && real != old.real && real != old.effective {
                return Err(Errno::PERM);
            }
            self.real = real;
        }
        if effective != KEEP {
            if !privileged && !old.has(effective) {
                return Err(Errno::PERM);
            }
            self.effective = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old.real) {
            self.saved = self.effective;
        }
        self.fs = self.effective;
        Ok(())
    }

    /// As setresuid(2).
    fn set_three(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && ids.iter().any(|id| *id != KEEP && !self.has(*id)) {
            return Err(Errno::PERM);
        }
        for (id, place) in ids.iter().zip([&mut self.real, &mut self.effective, &mut self.saved]) {
            if *id != KEEP {
                *place = *id;
            }
        }
        self.fs = self.effective;
        Ok(())
    }

    /// As setfsuid(2). Returns the old one.
    fn set_fs(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.fs;
        if id != KEEP && (privileged || self.has(id) || id == old) {
            self.fs = id;
        }
        old
    }
}

/// Sets of capabilities, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Caps {
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) bounding: u64,
    pub(super) ambient: u64,
}

/// All that the kernel knows of who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) uid: Ids,
    pub(super) gid: Ids,
    /// Supplementary groups, in ascending order.
    pub(super) groups: Arc<[u32]>,
    pub(super) caps: Caps,
    pub(super) securebits: u32,
    pub(super) no_new_privs: bool,
}

/// How an id is changed: the arguments of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    One(u32),
    Two(u32, u32),
    Three([u32; 3]),
    Fs(u32),
}

/// What of a file decides whom a process becomes that executes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// The owner, where the file has the setuid bit.
    pub(super) setuid: Option<u32>,
    /// The group, where it has the setgid bit.
    pub(super) setgid: Option<u32>,
    pub(super) caps: Option<FileCaps>,
}

/// The capabilities of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileCaps {
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) effective: bool,
}

impl FileCaps {
    /// Returns what the attribute `security.capability` says; `None` for what the kernel would not take.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*text.get(4 * at..)?.first_chunk()?));
        let magic = word(0)?;
        let pairs = match (magic >> 24, text.len()) {
            (1, 12) => 1,
            (2, 20) | (3, 24) => 2,
            _ => return None,
        };
        let mut caps = FileCaps { permitted: 0, inheritable: 0, effective: magic & 1 != 0 };
        for pair in 0..pairs {
            caps.permitted |= u64::from(word(1 + 2 * pair)?) << (32 * pair);
            caps.inheritable |= u64::from(word(2 + 2 * pair)?) << (32 * pair);
        }
        let known = (1 << (Cap::LAST + 1)) - 1;
        (caps.permitted, caps.inheritable) = (caps.permitted & known, caps.inheritable & known);
        Some(caps)
    }
}

impl Credentials {
    /// Returns those of a new process: with the capabilities `caps` if it is root, else with none but their bound.
    pub(super) fn new(uid: u32, gid: u32, groups: &[u32], caps: u64) -> Self {
        let own = if uid == 0 { caps } else { 0 };
        let caps = Caps { effective: own, permitted: own, inheritable: 0, bounding: caps, ambient: 0 };
        let (uid, gid) = (Ids::all(uid), Ids::all(gid));
        Credentials { uid, gid, groups: sorted(groups.to_vec()), caps, securebits: 0, no_new_privs: false }
    }

    pub(super) fn may(&self, cap: Cap) -> bool {
        self.caps.effective & cap.bit() != 0
    }

    /// Returns whether this user may change every file and directory.
    pub(super) fn may_change_all(&self) -> bool {
        self.may(Cap::DAC_OVERRIDE) && self.may(Cap::FOWNER)
    }

    pub(super) fn in_group(&self, gid: u32) -> bool {
        self.gid.fs == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// Changes the user. Returns what the call returns.
    pub(super) fn set_uid(&mut self, change: Change) -> Result<u32, Errno> {
        let old = self.uid;
        let privileged = self.may(Cap::SETUID);
        let fixes = self.securebits & NO_SETUID_FIXUP == 0;
        match change {
            Change::One(id) => self.uid.set(id, privileged)?,
            Change::Two(real, effective) => self.uid.set_two(real, effective, privileged)?,
            Change::Three(ids) => self.uid.set_three(ids, privileged)?,
            Change::Fs(id) => {
                let result = self.uid.set_fs(id, privileged);
                let caps = &mut self.caps;
                match (old.fs, self.uid.fs) {
                    (0, 1..) if fixes => caps.effective &= !FILE_CAPS,
                    (1.., 0) if fixes => caps.effective |= caps.permitted & FILE_CAPS,
                    _ => {}
                }
                return Ok(result);
            }
        }
        if fixes {
            self.follow_uid(old);
        }
        Ok(0)
    }

    /// Takes and gives capabilities with a change of the user.
    fn follow_uid(&mut self, old: Ids) {
        let caps = &mut self.caps;
        if old.has(0) && !self.uid.has(0) {
            if self.securebits & KEEP_CAPS == 0 {
                (caps.permitted, caps.effective) = (0, 0);
            }
            caps.ambient = 0;
        }
        match (old.effective, self.uid.effective) {
            (0, 1..) => caps.effective = 0,
            (1.., 0) => caps.effective = caps.permitted,
            _ => {}
        }
    }

    /// Changes the group. Returns what the call returns.
    pub(super) fn set_gid(&mut self, change: Change) -> Result<u32, Errno> {
        let privileged = self.may(Cap::SETGID);
        match change {
            Change::One(id) => self.gid.set(id, privileged)?,
            Change::Two(real, effective) => self.gid.set_two(real, effective, privileged)?,
            Change::Three(ids) => self.gid.set_three(ids, privileged)?,
            Change::Fs(id) => return Ok(self.gid.set_fs(id, privileged)),
        }
        Ok(0)
    }

    pub(super) fn set_groups(&mut self, groups: Vec<u32>) -> Result<(), Errno> {
        if !self.may(Cap::SETGID) {
            return Err(Errno::PERM);
        }
        if groups.contains(&KEEP) {
            return Err(Errno::INVAL);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    /// As capset(2).
    pub(super) fn set_caps(&mut self, effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
        let old = self.caps;
        let within = |set: u64, bound: u64| set & !bound == 0;
        let may_inherit = self.may(Cap::SETPCAP) || within(inheritable, old.inheritable | old.permitted);
        if !may_inherit
            || !within(inheritable, old.inheritable | old.bounding)
            || !within(permitted, old.permitted)
            || !within(effective, permitted)
        {
            return Err(Errno::PERM);
        }
        let ambient = old.ambient & permitted & inheritable;
        self.caps = Caps { effective, permitted, inheritable, bounding: old.bounding, ambient };
        Ok(())
    }

    /// As prctl(PR_CAPBSET_DROP).
    pub(super) fn drop_bound(&mut self, cap: Cap) -> Result<(), Errno> {
        if !self.may(Cap::SETPCAP) {
            return Err(Errno::PERM);
        }
        if cap.0 > Cap::LAST {
            return Err(Errno::INVAL);
        }
        self.caps.bounding &= !cap.bit();
        Ok(())
    }

    /// As prctl(PR_SET_KEEPCAPS).
    pub(super) fn set_keep_caps(&mut self, keep: u64) -> Result<(), Errno> {
        if keep > 1 {
            return Err(Errno::INVAL);
        }
        if self.securebits & KEEP_CAPS_LOCKED != 0 {
            return Err(Errno::PERM);
        }
        self.securebits = if keep == 1 { self.securebits | KEEP_CAPS } else { self.securebits & !KEEP_CAPS };
        Ok(())
    }

    /// As prctl(PR_SET_SECUREBITS).
    pub(super) fn set_securebits(&mut self, new: u64) -> Result<(), Errno> {
        let old = self.securebits;
        let new = u32::try_from(new).map_err(|_| Errno::PERM)?;
        let locked = (old & ALL_LOCKS) >> 1;
        let refused = locked & (old ^ new) != 0 || old & ALL_LOCKS & !new != 0 || new & !(ALL_LOCKS | ALL_BITS) != 0;
        if refused || !self.may(Cap::SETPCAP) {
            return Err(Errno::PERM);
        }
        self.securebits = new;
        Ok(())
    }

    /// As prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE).
    pub(super) fn raise_ambient(&mut self, cap: Cap) -> Result<(), Errno> {
        let caps = &mut self.caps;
        if caps.permitted & caps.inheritable & cap.bit() == 0 || self.securebits & NO_CAP_AMBIENT_RAISE != 0 {
            return Err(Errno::PERM);
        }
        caps.ambient |= cap.bit();
        Ok(())
    }

    /// Becomes whom execve(2) of `program` makes of this process.
    pub(super) fn execute(&mut self, program: Program) -> Result<(), Errno> {
        let program = if self.no_new_privs { Program::default() } else { program };
        let old = self.caps;
        let was = (self.uid.effective, self.gid.effective);
        self.uid.effective = program.setuid.unwrap_or(self.uid.effective);
        self.gid.effective = program.setgid.unwrap_or(self.gid.effective);
        let caps = &mut self.caps;
        let mut effective = false;
        caps.permitted = 0;
        if let Some(file) = program.caps {
            caps.permitted = old.bounding & file.permitted | old.inheritable & file.inheritable;
            effective = file.effective;
            // A program that does not know capabilities would do half of its work.
            if effective && file.permitted & !caps.permitted != 0 {
                return Err(Errno::PERM);
            }
        }
        let has_caps = program.caps.is_some_and(|file| file.permitted | file.inheritable != 0);
        let (real, now) = (self.uid.real, self.uid.effective);
        // A setuid program of root with capabilities of its own gets those and no more.
        if self.securebits & NOROOT == 0 && !(has_caps && real != 0 && now == 0) {
            if real == 0 || now == 0 {
                caps.permitted = old.bounding | old.inheritable;
            }
            effective |= now == 0;
        }
        (self.uid.saved, self.uid.fs) = (now, now);
        (self.gid.saved, self.gid.fs) = (self.gid.effective, self.gid.effective);
        let changed = was != (self.uid.effective, self.gid.effective);
        if has_caps || changed {
            caps.ambient = 0;
        }
        caps.permitted |= caps.ambient;
        caps.effective = if effective { caps.permitted } else { caps.ambient };
        if self.no_new_privs {
            caps.permitted &= old.permitted;
            caps.effective &= caps.permitted;
        }
        self.securebits &= !KEEP_CAPS;
        Ok(())
    }

    /// Returns those that access(2) asks for: the real user's.
    pub(super) fn real(&self) -> Self {
        let mut real = self.clone();
        (real.uid.fs, real.gid.fs) = (self.uid.real, self.gid.real);
        if self.securebits & NO_SETUID_FIXUP == 0 {
            real.caps.effective = if self.uid.real == 0 { self.caps.permitted } else { 0 };
        }
        real
    }
}

fn sorted(mut groups: Vec<u32>) -> Arc<[u32]> {
    groups.sort_unstable();
    groups.into()
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
