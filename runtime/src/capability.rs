//! What root of a container may do, by name.

use std::fmt;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::oci::CAPABILITIES;

/// The names, by number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability(u64);

impl Capability {
    /// Returns the capability that `name` means: with or without `CAP_`, in any case of letters; `ALL` is all. `None` where
    /// there is no such capability.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if name == "ALL" {
            return Some(Capability((1 << NAMES.len()) - 1));
        }
        NAMES.iter().position(|known| *known == name).map(|number| Capability(1 << number))
    }
}

/// What root of a container may do. Unless changed, Docker's default.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities(CAPABILITIES.bits())
    }
}

impl Capabilities {
    /// Returns these, and `capability`.
    pub fn with(self, capability: Capability) -> Self {
        Capabilities(self.0 | capability.0)
    }

    /// Returns these without `capability`.
    pub fn without(self, capability: Capability) -> Self {
        Capabilities(self.0 & !capability.0)
    }

    pub(crate) fn set(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().enumerate().filter(|(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel_with_or_without_prefix() {
        for name in ["SYS_PTRACE", "cap_sys_ptrace", "CAP_SYS_PTRACE", "sys_ptrace"] {
            assert_eq!(Capability::parse(name), Some(Capability(CapabilitySet::SYS_PTRACE.bits())), "{name}");
        }
        assert_eq!(Capability::parse("CHECKPOINT_RESTORE"), Some(Capability(1 << 40)));
        assert_eq!(Capability::parse("SYS_EVERYTHING"), None);
        let all = Capability::parse("all").expect("a word");
        let chown = Capability::parse("CHOWN").expect("a name");
        assert_eq!(Capabilities::default().with(all).without(all).with(chown), Capabilities(1));
        assert_eq!(Capabilities::default().without(chown).0, 0xa804_25fa);
    }
}
