//! Where this process is: a machine of one's own, or which kind of container. Only words for people depend on it.

use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::idmap::status_field;

/// The first user id that OpenShift gives to a project.
const OPENSHIFT_IDS: u32 = 1_000_000_000;

/// Who started this process, as far as that shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Host {
    /// Nothing speaks for a container.
    #[default]
    Machine,
    /// Docker, or something like it.
    Docker,
    /// Podman, or something like it.
    Podman,
    /// A pod of Kubernetes.
    Kubernetes,
    /// A pod of Kubernetes with a user that OpenShift chose.
    OpenShift,
    /// A job of GitLab's docker executor.
    GitLab,
}

/// What a refusal may come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Who started this process.
    pub host: Host,
    /// Whether a seccomp filter is in place.
    pub seccomp: bool,
    /// Whether AppArmor keeps user namespaces of ordinary programs without capabilities (Ubuntu 23.10 and later).
    pub apparmor: bool,
    /// Whether the kernel has Debian's switch for user namespaces, and it is off.
    pub switched_off: bool,
    /// Whether there is a /proc.
    pub proc: bool,
}

impl Surroundings {
    /// Returns those of this process.
    pub fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let says = |path: &str, value: &[u8]| fs::read(path).is_ok_and(|text| text.trim_ascii() == value);
        Surroundings {
            host: Host::of_this_process(),
            seccomp: status_field(&status, "Seccomp") == Some("2"),
            apparmor: says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", b"1"),
            switched_off: says("/proc/sys/kernel/unprivileged_userns_clone", b"0"),
            proc: !status.is_empty(),
        }
    }
}

/// What a role was told: it has no variables to judge by.
static TOLD: OnceLock<Host> = OnceLock::new();

impl Host {
    /// Returns who started this process, or the one that started it.
    pub(crate) fn of_this_process() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some();
        TOLD.get().copied().unwrap_or_else(|| host(&is_set, &|path| fs::exists(path).unwrap_or(false)))
    }

    /// Takes the word of the process that started this one.
    pub(crate) fn is_told(self) {
        let _ = TOLD.set(self);
    }

    /// Returns whether this is a container of some kind.
    pub fn is_container(self) -> bool {
        self != Host::Machine
    }
}

/// Judges by the common signs.
fn host(is_set: &dyn Fn(&str) -> bool, exists: &dyn Fn(&str) -> bool) -> Host {
    if is_set("KUBERNETES_SERVICE_HOST") || exists("/var/run/secrets/kubernetes.io") {
        // Its users have neither a line in /etc/passwd nor a choice.
        let chosen = rustix::process::getuid().as_raw() >= OPENSHIFT_IDS;
        return if chosen { Host::OpenShift } else { Host::Kubernetes };
    }
    if exists("/run/.containerenv") {
        return Host::Podman;
    }
    let docker = exists("/.dockerenv");
    if is_set("GITLAB_CI") && (docker || is_set("CI_BUILDS_DIR") || exists("/builds")) {
        return Host::GitLab;
    }
    if docker { Host::Docker } else { Host::Machine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_judged_by_common_signs() {
        let judged = |vars: &[&str], files: &[&str]| host(&|name| vars.contains(&name), &|path| files.contains(&path));
        assert_eq!(judged(&[], &[]), Host::Machine);
        assert_eq!(judged(&[], &["/.dockerenv"]), Host::Docker);
        assert_eq!(judged(&[], &["/run/.containerenv"]), Host::Podman);
        assert_eq!(judged(&["GITLAB_CI"], &["/.dockerenv"]), Host::GitLab);
        assert_eq!(judged(&["GITLAB_CI"], &[]), Host::Machine, "the shell executor");
        assert_eq!(judged(&["GITLAB_CI", "KUBERNETES_SERVICE_HOST"], &["/builds"]), Host::Kubernetes);
        assert!(Host::Kubernetes.is_container() && !Host::Machine.is_container());
    }
}
