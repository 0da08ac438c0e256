//! What every container has, by the OCI runtime specification (config-linux.md: default devices, masked and read-only paths) and by
//! Docker, whose defaults images count on. Steps use it today.

use rustix::thread::CapabilitySet;

/// What a container may do: the default set of Docker (oci/caps/defaults.go).
pub(crate) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The devices that every command expects in /dev: name, major and minor number.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links in /dev: what they say, and their names.
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Files in /proc that would let uid 0 change or restart the machine where it is the real one (a direct map).
pub(crate) const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// What tells of the machine more than a step should know, or belongs to the machine alone: in /proc.
pub(crate) const PROC_MASKED: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// The same in /sys.
pub(crate) const SYS_MASKED: [&str; 8] = [
    "devices/virtual/powercap",
    "firmware",
    "fs/bpf",
    "fs/pstore",
    "fs/selinux",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capabilities_are_those_of_docker() {
        assert_eq!(CAPABILITIES.bits(), 0xa804_25fb);
    }
}
