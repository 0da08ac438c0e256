use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::around::{Host, Surroundings};
use crate::lacking::Lacking;

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
        /// What that may come from.
        around: Surroundings,
    },
    /// A user namespace can be made, but AppArmor keeps it without capabilities.
    #[error("{call}, in a user namespace that AppArmor keeps without capabilities")]
    AppArmor {
        /// The call with its arguments.
        call: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// There is no /proc, without which this program can neither start itself again nor write an id map.
    #[error("there is no /proc")]
    NoProc,
    /// The user wants no step to be run.
    #[error("no step is to be run")]
    NotWanted,
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
    #[error("no_new_privs is set: newuidmap cannot gain the privilege to map subordinate ids")]
    NoNewPrivs,
    /// A step may look into every process, sees those outside, and nothing keeps it from them.
    #[error(
        "with SYS_PTRACE the step could read the memory of the builder: it sees the /proc of outside, and this kernel has no Landlock"
    )]
    NoFence,
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
        #[serde(with = "crate::wire::raw")]
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
    /// The system calls of a step can not be answered here, so that users and owners can not be emulated.
    #[error("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)")]
    Listener {
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// Something takes emulated owners, and is not to be had with a full map of ids.
    #[error("{}", .0.sentence())]
    Lacking(Lacking),
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

    /// Returns this error of a call that root of a user namespace made, or that AppArmor is behind it.
    pub(crate) fn or_apparmor(self) -> Self {
        use rustix::io::Errno as E;
        let denied = self.errno().filter(|errno| errno.is(E::PERM) || errno.is(E::ACCESS));
        match (&self, denied) {
            (RuntimeError::Call { .. } | RuntimeError::WriteMap { .. }, Some(source))
                if Surroundings::of_this_process().apparmor =>
            {
                RuntimeError::AppArmor { call: self.to_string(), source }
            }
            _ => self,
        }
    }

    /// Returns the number with which the kernel refused; `None` where no system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            RuntimeError::Call { source, .. }
            | RuntimeError::UserNamespace { source, .. }
            | RuntimeError::AppArmor { source, .. }
            | RuntimeError::WriteMap { source, .. }
            | RuntimeError::Listener { source }
            | RuntimeError::Overlay { source, .. }
            | RuntimeError::Ulimit { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Returns the smallest change to the environment that would help; `None` where none is known.
    pub fn hint(&self) -> Option<String> {
        use rustix::io::Errno as E;
        Some(match self {
            RuntimeError::UserNamespace { source, around } => no_user_namespace(*source, around),
            RuntimeError::AppArmor { .. } => APPARMOR.into(),
            RuntimeError::NoProc => "mount it: mount -t proc proc /proc".into(),
            RuntimeError::Call { call, source } if call.starts_with("chroot(") && source.is(E::PERM) => {
                "only root may change the root of a process: run as root with CAP_SYS_CHROOT, as Docker does by default".into()
            }
            RuntimeError::Call { call, source } if call.starts_with("setxattr(user.") && source.is(E::OPNOTSUPP) => {
                "the file system of the store keeps no attributes of users: put the store on another one, with --root or \
                 CORACLE_ROOT"
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
            RuntimeError::Died { status, .. } if status.contains("(signal 9)") => {
                "somebody killed it with SIGKILL, most often the kernel for lack of memory (see `dmesg`), also where a container or \
                 a job has its limit"
                    .into()
            }
            RuntimeError::Lacking(_) => {
                "where ids and devices are emulated, there are all of them: see what --isolation=single-id says here".into()
            }
            RuntimeError::Listener { source } if source.is(E::BUSY) => {
                "somebody else listens to the system calls of this process already, and the kernel allows one listener only: \
                 a builder in a RUN step of another one, or a pod under a seccomp agent. Give this user subordinate ids, so \
                 that nothing has to be emulated, or run it outside"
                    .into()
            }
            RuntimeError::Listener { .. } => EMULATION.into(),
            RuntimeError::Call { call, .. } if call.starts_with("ioctl(SECCOMP_IOCTL_NOTIF_ADDFD") => EMULATION.into(),
            RuntimeError::NoFence => {
                "leave --cap-add=SYS_PTRACE (or ALL) out, or build where a fresh /proc can be mounted, or on Linux 5.19 with Landlock".into()
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
            RuntimeError::Overlay { source, .. } if source.is(E::OPNOTSUPP) => {
                "the file system of the store keeps no attributes of users, as memory before Linux 6.6: put the store on another one, \
                 with --root or CORACLE_ROOT"
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

/// What users and owners that are emulated need.
const EMULATION: &str =
    "emulation of users needs Linux 5.14 with CONFIG_SECCOMP_FILTER; or give this user subordinate ids";

/// What to do about AppArmor.
const APPARMOR: &str = "AppArmor restricts user namespaces (Ubuntu 23.10 and later): sudo sysctl -w \
                        kernel.apparmor_restrict_unprivileged_userns=0, or give coracle a profile that allows `userns`";

/// What to do where no user namespace can be made.
fn no_user_namespace(source: Errno, around: &Surroundings) -> String {
    use rustix::io::Errno as E;
    let place = if around.host.is_container() { "on the node: " } else { "" };
    if source.is(E::NOSPC) {
        return format!(
            "the limit of user namespaces is used up or 0: {place}sudo sysctl -w user.max_user_namespaces=15000"
        );
    }
    if around.apparmor {
        return APPARMOR.into();
    }
    if around.switched_off {
        return format!("the kernel's switch is off: {place}sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if source.is(E::INVAL) || source.is(E::NOSYS) {
        return "the kernel has no user namespaces: it needs CONFIG_USER_NS".into();
    }
    match around.host {
        Host::Docker => "the seccomp profile denies it: docker run --security-opt seccomp=unconfined".into(),
        Host::Podman => "the seccomp profile denies it: podman run --security-opt seccomp=unconfined".into(),
        Host::GitLab => {
            "the seccomp profile of the job denies it: security_opt = [\"seccomp=unconfined\"] in [runners.docker] of \
             the runner's config.toml"
                .into()
        }
        Host::Kubernetes => {
            "the seccomp profile of the pod denies it: securityContext.seccompProfile.type: Unconfined for the container"
                .into()
        }
        Host::OpenShift => {
            "the seccomp profile of the pod denies it: securityContext.seccompProfile.type: Unconfined for the \
             container, and a service account whose SCC allows it (seccompProfiles: unconfined)"
                .into()
        }
        Host::Machine if around.seccomp => {
            "a seccomp profile denies it: in Docker, --security-opt seccomp=unconfined; in Kubernetes, \
             securityContext.seccompProfile.type: Unconfined"
                .into()
        }
        Host::Machine => {
            "a security module, a chroot or a setting of the kernel denies it: see user_namespaces(7), and `sysctl \
             kernel.unprivileged_userns_clone user.max_user_namespaces`"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    /// Returns what arrives of it.
    fn crossed(error: &RuntimeError) -> RuntimeError {
        wire::parse(&wire::body(error).expect("serializes")).expect("parses")
    }

    #[test]
    fn an_error_crosses_the_socket_whatever_is_in_its_path() {
        use std::os::unix::ffi::OsStringExt;
        let upper = std::ffi::OsString::from_vec(b"/a\xff".to_vec()).into();
        let error = RuntimeError::Overlay { lower: 1, upper, options: "userxattr".into(), source: Errno::from_raw(22) };
        assert_eq!(crossed(&error), error);
    }

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
    }

    #[test]
    fn the_fix_of_a_user_namespace_is_that_of_the_place() {
        let hint = |errno, around| {
            let error = RuntimeError::UserNamespace { source: Errno::from_raw(errno), around };
            error.hint().expect("has a hint")
        };
        let at = |host| Surroundings { host, seccomp: true, proc: true, ..Surroundings::default() };
        for (errno, around, fix) in [
            (libc::ENOSPC, at(Host::Machine), "user.max_user_namespaces"),
            (libc::ENOSPC, at(Host::Kubernetes), "on the node: sudo sysctl"),
            (libc::EPERM, at(Host::Docker), "docker run --security-opt seccomp=unconfined"),
            (libc::EPERM, at(Host::Podman), "podman run --security-opt seccomp=unconfined"),
            (libc::EPERM, at(Host::Kubernetes), "securityContext.seccompProfile.type: Unconfined"),
            (libc::EPERM, at(Host::OpenShift), "SCC"),
            (libc::EPERM, at(Host::GitLab), "config.toml"),
            (libc::EPERM, at(Host::Machine), "seccomp"),
            (
                libc::EPERM,
                Surroundings { apparmor: true, ..at(Host::Machine) },
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (libc::EPERM, Surroundings { switched_off: true, ..at(Host::Machine) }, "unprivileged_userns_clone=1"),
        ] {
            assert!(hint(errno, around).contains(fix), "{errno} {around:?}: {}", hint(errno, around));
        }
    }

    #[test]
    fn an_error_crosses_a_process_boundary_unchanged() {
        let error = RuntimeError::call("mount(proc, \"/proc\")", Errno::from_raw(libc::EPERM));
        assert_eq!(crossed(&error), error);
    }
}
