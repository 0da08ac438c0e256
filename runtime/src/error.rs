use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The number with which a system call failed. Displays as the system's text for it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(i32);

impl Errno {
    /// Returns the number, as in errno(3).
    pub fn raw(self) -> i32 {
        self.0
    }

    /// Returns the error with this number.
    pub fn from_raw(number: i32) -> Self {
        Errno(number)
    }

    pub(crate) fn is(self, other: rustix::io::Errno) -> bool {
        self.0 == other.raw_os_error()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        // The standard library appends " (os error 1)".
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.0)
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno(errno.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Why a process could not be isolated or started. Crosses process boundaries as it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A system call failed.
    #[error("{call}")]
    Call {
        /// The call with its arguments.
        call: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// No user namespace can be made.
    #[error("unshare(CLONE_NEWUSER)")]
    UserNamespace {
        /// Why it failed.
        #[source]
        source: Errno,
        /// Whether the kernel has AppArmor's switch for user namespaces, and it is on.
        apparmor: bool,
    },
    /// The user has no subordinate ids, and may not write a map of all ids.
    #[error("user {user} has no range in {file}", user = user.escape_debug())]
    NoSubIds {
        /// The user: a name, or a number where it has no name.
        user: String,
        /// The file that was searched.
        file: String,
        /// Whether no administrator of this machine can help: in a container, or without a line in /etc/passwd.
        container: bool,
        /// The first of 65536 ids that nobody has in /etc/subuid and /etc/subgid; `None` where there are none.
        free: Option<u32>,
    },
    /// The process and its children can gain no privileges, so newuidmap can not work.
    #[error("no_new_privs is set: newuidmap can not gain the privilege to map subordinate ids")]
    NoNewPrivs,
    /// A tool that writes the map is not installed.
    #[error("{tool} is not installed")]
    NoMapTool {
        /// newuidmap or newgidmap.
        tool: String,
    },
    /// A tool refused to write the map.
    #[error("{tool} {arguments} failed ({status}): {output}", output = output.escape_debug())]
    MapTool {
        /// newuidmap or newgidmap.
        tool: String,
        /// Its arguments.
        arguments: String,
        /// How it ended.
        status: String,
        /// What it printed on its standard error.
        output: String,
    },
    /// The map could not be written by this process.
    #[error("write({path}, {map:?})")]
    WriteMap {
        /// The file of the kernel.
        path: String,
        /// What was written to it.
        map: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The layers could not be mounted on each other.
    #[error("mount(overlay, lowerdir={lower} dirs, upperdir={upper:?}, {options})")]
    Overlay {
        /// How many lower directories there were.
        lower: usize,
        /// Where changes should go.
        upper: PathBuf,
        /// The other options.
        options: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The image has no directory where /proc, /sys or /dev belongs. Nothing is mounted through a link of an image.
    #[error("{path} of the image {what}")]
    BadMountPoint {
        /// "/proc", "/sys" or "/dev".
        path: String,
        /// What is wrong with it: "is a symbolic link, not a directory".
        what: String,
    },
    /// A look back from the new root leads to another mount: nothing is run there.
    #[error("{path} of the container is not its root: the root of the host may be reachable")]
    RootNotLeft {
        /// The path that leads elsewhere.
        path: String,
    },
    /// A process with more than one thread can not enter a user namespace.
    #[error("unshare(CLONE_NEWUSER) needs a process with one thread: this one has {threads}")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// What was asked for makes no sense.
    #[error("{field} of the container: {reason}")]
    BadSpec {
        /// Which field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A resource limit is over the one that this process has, and it may not raise that.
    #[error("setrlimit({name}, hard limit {asked}): the hard limit here is {hard}", asked = amount(*asked), hard = amount(*hard))]
    Ulimit {
        /// Its name: "nofile".
        name: String,
        /// The hard limit that was asked for; `None` for no limit.
        asked: Option<u64>,
        /// The hard limit that there is.
        hard: Option<u64>,
        /// Why it could not be raised.
        #[source]
        source: Errno,
    },
    /// The step was killed, or not started, because its control said so.
    #[error("interrupted")]
    Interrupted,
    /// A helper process ended without a word: somebody killed it.
    #[error("{role} {status}")]
    Died {
        /// Its role: "coracle-step", "process 1 of the step".
        role: String,
        /// What happened to it: "was killed (signal 9)".
        status: String,
    },
}

impl RuntimeError {
    pub(crate) fn call(call: impl Into<String>, source: impl Into<Errno>) -> Self {
        RuntimeError::Call { call: call.into(), source: source.into() }
    }

    /// Returns the number with which the kernel refused; `None` where no system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            RuntimeError::Call { source, .. }
            | RuntimeError::UserNamespace { source, .. }
            | RuntimeError::WriteMap { source, .. }
            | RuntimeError::Overlay { source, .. }
            | RuntimeError::Ulimit { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Returns the smallest change to the environment that would help; `None` where none is known.
    pub fn hint(&self) -> Option<String> {
        use rustix::io::Errno as E;
        Some(match self {
            RuntimeError::UserNamespace { source, .. } if source.is(E::NOSPC) => {
                "the limit of user namespaces is used up or 0: sudo sysctl -w user.max_user_namespaces=15000".into()
            }
            RuntimeError::UserNamespace { apparmor: true, .. } => {
                "AppArmor restricts user namespaces: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".into()
            }
            RuntimeError::UserNamespace { .. } => {
                "a seccomp profile or a setting of the kernel denies user namespaces: in Docker, run with \
                 --security-opt seccomp=unconfined; in Kubernetes, set securityContext.seccompProfile.type to \
                 Unconfined; on a machine, sudo sysctl -w kernel.unprivileged_userns_clone=1"
                    .into()
            }
            RuntimeError::NoSubIds { user, container: true, .. } => format!(
                "in a container, ids come from its settings: run it as root with CAP_SETUID and CAP_SETGID; in \
                 Kubernetes, set hostUsers: false and securityContext.seccompProfile.type: Unconfined; or use a builder \
                 image with ranges for {} in /etc/subuid and /etc/subgid, and newuidmap with file capabilities",
                user.escape_debug()
            ),
            RuntimeError::NoSubIds { user, file, free: Some(first), .. } => {
                let range = format!("{first}-{}", u64::from(*first) + 65535);
                let users = format!("--add-subuids {range} ");
                let users = if file.ends_with("subgid") { "" } else { &users };
                format!("sudo usermod {users}--add-subgids {range} {}", user.escape_debug())
            }
            RuntimeError::NoSubIds { user, .. } => {
                format!("give {} a range of 65536 ids in /etc/subuid and /etc/subgid", user.escape_debug())
            }
            RuntimeError::Call { source, .. } if source.is(E::MFILE) => {
                "raise the number of files that this process may open: ulimit -n 4096, or the hard limit (ulimit -Hn)".into()
            }
            RuntimeError::Ulimit { name, hard, .. } => {
                format!("ask for at most --ulimit {name}={}, or have the hard limit raised", amount(*hard).replace("unlimited", "-1"))
            }
            RuntimeError::NoNewPrivs => {
                "run without no_new_privs (systemd: NoNewPrivileges=no; Kubernetes: allowPrivilegeEscalation: true)".into()
            }
            RuntimeError::NoMapTool { .. } => {
                "install newuidmap and newgidmap: sudo apt-get install uidmap (Debian, Ubuntu) or sudo dnf install \
                 shadow-utils (Fedora, RHEL)"
                    .into()
            }
            RuntimeError::MapTool { output, .. } if output.contains("not permitted") => {
                "the tool has no privileges: sudo setcap cap_setuid+ep $(command -v newuidmap); \
                 sudo setcap cap_setgid+ep $(command -v newgidmap)"
                    .into()
            }
            RuntimeError::MapTool { .. } => {
                "check that the ranges in /etc/subuid and /etc/subgid belong to this user and do not overlap".into()
            }
            RuntimeError::WriteMap { .. } => {
                "the process needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP to map all of its ids".into()
            }
            RuntimeError::Overlay { source, .. } if source.is(E::INVAL) => {
                "the folder of the changes lies on overlayfs, as in a container without a volume, or the kernel is older \
                 than 5.11: put the store on a volume or another disk"
                    .into()
            }
            RuntimeError::Overlay { source, .. } if source.is(E::NODEV) => {
                "the kernel has no overlayfs: sudo modprobe overlay".into()
            }
            RuntimeError::Overlay { source, .. } if source.is(E::PERM) => {
                "overlayfs in a user namespace needs Linux 5.11".into()
            }
            _ => return None,
        })
    }
}

fn amount(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_reads_as_a_person_would_say_it() {
        assert_eq!(Errno::from_raw(libc::EPERM).to_string(), "Operation not permitted");
    }

    #[test]
    fn an_error_names_the_call_and_leaves_the_errno_to_its_source() {
        let error = RuntimeError::Overlay {
            lower: 3,
            upper: "/a\nb".into(),
            options: "userxattr".into(),
            source: Errno::from_raw(libc::EINVAL),
        };
        assert_eq!(error.to_string(), r#"mount(overlay, lowerdir=3 dirs, upperdir="/a\nb", userxattr)"#);
        assert_eq!(std::error::Error::source(&error).map(ToString::to_string).as_deref(), Some("Invalid argument"));
        assert!(error.hint().is_some_and(|hint| hint.contains("overlayfs")));
    }

    #[test]
    fn hints_are_commands() {
        let error = |file: &str, container, free| {
            let error = RuntimeError::NoSubIds { user: "ada".into(), file: file.into(), container, free };
            error.hint().expect("has a hint")
        };
        assert_eq!(
            error("/etc/subuid", false, Some(165_536)),
            "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ada"
        );
        assert_eq!(error("/etc/subgid", false, Some(100_000)), "sudo usermod --add-subgids 100000-165535 ada");
        assert!(!error("/etc/subuid", false, None).contains("sudo"));
        let pod = error("/etc/subuid", true, Some(100_000));
        assert!(pod.contains("hostUsers: false") && !pod.contains("sudo"), "{pod}");
        let files = RuntimeError::call("open", Errno::from_raw(libc::EMFILE));
        assert!(files.hint().is_some_and(|hint| hint.contains("ulimit -n")));
        let full = RuntimeError::UserNamespace { source: Errno::from_raw(libc::ENOSPC), apparmor: false };
        assert!(full.hint().is_some_and(|hint| hint.contains("user.max_user_namespaces")));
    }

    #[test]
    fn an_error_crosses_a_process_boundary_unchanged() {
        let error = RuntimeError::call("mount(proc, \"/proc\")", Errno::from_raw(libc::EPERM));
        let json = serde_json::to_string(&error).expect("serializes");
        assert_eq!(serde_json::from_str::<RuntimeError>(&json).expect("parses"), error);
    }
}
