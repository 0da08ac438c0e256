//! C: builds its surroundings, drops its privileges, and becomes the command.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno as E;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::ahead::Ahead;
use super::init::Wanted;
use super::limits::Keep;
use super::root;
use super::supervise::Handles;
use super::template::Template;
use super::{ContainerSpec, Network, Obstacle, Place, Report, Request, Stdin, cwd, fence, step, supervise};
use crate::capability::Capabilities;
use crate::error::{Errno, RuntimeError};
use crate::{emulate, limits, role, sys, wire};

/// Where programs are searched when the environment says nothing.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often, and after how long, a program is tried again that somebody writes.
const BUSY_ATTEMPTS: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// What C tells of itself. When its end of the socket closes without a refusal, the command runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// All is made; what follows is the execve.
    Ready(Report),
    /// The container could not be made.
    Failed(RuntimeError),
    /// The command could not be started.
    NotStarted {
        errno: Errno,
        what: Obstacle,
        #[serde(with = "wire::raw")]
        path: PathBuf,
    },
}

/// What C talks by.
pub(super) struct Lines {
    /// Where it tells how far it comes.
    pub(super) status: UnixStream,
    /// Where it hears what it is to do.
    pub(super) requests: UnixStream,
    /// Where what answers its calls gets what it needs.
    pub(super) supervisor: UnixStream,
}

/// Makes all that does not depend on the command but what is `wanted`, hears of it, and becomes it. Without a `template` it has mounts of
/// its own.
pub(super) fn begin(lines: &Lines, template: Option<Template>, wanted: Wanted) -> ! {
    let Lines { status, requests, supervisor } = lines;
    // They are all blocked till the end.
    sys::default_signals();
    if wanted.new_session {
        let _ = rustix::process::setsid();
    }
    // What is made in /dev has the modes that are asked for.
    rustix::process::umask(Mode::empty());
    let ahead = Ahead::make(template).and_then(|ahead| limit_capabilities(wanted.capabilities).map(|()| ahead));
    let ahead = match ahead {
        Ok(ahead) => ahead,
        Err(error) => {
            let _ = wire::send(status.as_fd(), &Word::Failed(error), &[]);
            sys::exit(1)
        }
    };
    let mut receiver = wire::Receiver::new();
    // Without a word from there nobody wants this any more.
    let Ok(Some(role::Start { request, .. })) = receiver.wait::<role::Start<Request<ContainerSpec>>>(requests) else {
        sys::exit(1)
    };
    sys::hurry();
    let stdin = receiver.fd();
    drop(receiver);
    become_command(&request, status, |keep| prepare(&request.spec, ahead, stdin, keep, supervisor))
}

/// What is around the command.
pub(super) struct Made {
    pub(super) report: Report,
    /// The mount namespace, for who is to unmount it.
    pub(super) mounts: Option<OwnedFd>,
    /// Whether this process is in the working directory of the command, or why not.
    pub(super) in_cwd: Result<(), E>,
}

/// Becomes the command of `request` after `prepare`; tells `status` how far it comes.
pub(super) fn become_command(
    request: &Request<ContainerSpec>,
    status: &UnixStream,
    prepare: impl FnOnce(&mut Keep<'_>) -> Result<Made, RuntimeError>,
) -> ! {
    let spec = &request.spec;
    // Before anything else: what this process uses counts as the step's, and the files of the group are in the old root.
    let mut keep = Keep::begin(&spec.limits, &request.means);
    let word = match prepare(&mut keep) {
        Err(error) => Word::Failed(error),
        Ok(Made { report, mounts, in_cwd }) => {
            let mounts: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
            if wire::send(status.as_fd(), &Word::Ready(report), &mounts).is_err() {
                sys::exit(1);
            }
            start(spec, in_cwd, request.open_files, &keep)
        }
    };
    let _ = wire::send(status.as_fd(), &word, &[]);
    sys::exit(1)
}

/// Everything that needs privileges.
fn prepare(
    spec: &ContainerSpec,
    ahead: Ahead,
    stdin: Option<OwnedFd>,
    keep: &mut Keep<'_>,
    supervisor: &UnixStream,
) -> Result<Made, RuntimeError> {
    let call = |call: &'static str| move |errno: E| RuntimeError::call(call, errno);
    if spec.stdin == Stdin::Inherit {
        step::take_stdin(stdin)?;
    }
    if spec.network == Network::None {
        sys::unshare(libc::CLONE_NEWNET).map_err(|errno| RuntimeError::call("unshare(CLONE_NEWNET)", errno))?;
        sys::net::loopback_up().map_err(|errno| RuntimeError::call("ioctl(SIOCSIFFLAGS, lo up)", errno))?;
    }
    let (Made { mut report, mounts, in_cwd }, handles) = root::build(spec, ahead)?;
    // With a /proc of its own a step sees no process but its own. The fence is a second wall then.
    report.steps_exposed = fence::raise().is_err() && report.proc_bound;
    if report.steps_exposed && spec.capabilities.set().contains(CapabilitySet::SYS_PTRACE) {
        return Err(RuntimeError::NoFence);
    }
    // Some profiles refuse it to root of a user namespace. No build depends on it.
    report.hostname_kept = rustix::system::sethostname(spec.hostname.as_bytes()).is_err();
    // The session may be one outside, which has no number here.
    let leads_session = nix::unistd::getsid(None) == Ok(nix::unistd::getpid());
    if spec.new_session && !leads_session {
        rustix::process::setsid().map_err(call("setsid"))?;
    }
    if spec.stdin == Stdin::Null {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(call("open(\"/dev/null\")"))?;
        rustix::stdio::dup2_stdin(&null).map_err(call("dup2(standard input)"))?;
    }
    give_pipes_away(spec);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    keep.raise()?;
    report.no_listener = drop_privileges(spec, supervisor, Some(&handles))?;
    report.limits = keep.finish();
    Ok(Made { report, mounts, in_cwd })
}

/// A command that is not root can then open /dev/stdout and /dev/stderr.
pub(super) fn give_pipes_away(spec: &ContainerSpec) {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    for fd in [stdout.as_fd(), stderr.as_fd()] {
        let is_pipe = rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe && (spec.uid, spec.gid) != (0, 0) && !spec.ids.are_emulated() {
            // A pipe of the caller's caller may belong to somebody else: then it stays so.
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(spec.uid)), Some(Gid::from_raw(spec.gid)));
        }
    }
}

/// Takes away what no program gets any more.
pub(super) fn limit_capabilities(capabilities: Capabilities) -> Result<(), RuntimeError> {
    let allowed = capabilities.set();
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if allowed.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last one that this kernel has.
            Err(E::INVAL) => break,
            // Who has none of them need not be able to take them away.
            Err(E::PERM) if rustix::thread::capability_is_in_bounding_set(one) == Ok(false) => {}
            Err(errno) => return Err(RuntimeError::call(format!("prctl(PR_CAPBSET_DROP, {bit})"), errno)),
        }
    }
    Ok(())
}

/// After [`limit_capabilities`]: takes away what else a command must not have, and becomes its user. The supervisor gets `handles`.
///
/// Returns why nobody listens to its calls, where it can do without.
pub(super) fn drop_privileges(
    spec: &ContainerSpec,
    supervisor: &UnixStream,
    handles: Option<&Handles>,
) -> Result<Option<Errno>, RuntimeError> {
    let own = rustix::thread::capabilities(None).map_err(|errno| RuntimeError::call("capget", errno))?.permitted;
    let allowed = spec.capabilities.set();
    let families = supervise::families(spec);
    if families.owners {
        // Who the command is, the supervisor knows. It is the last thing that is done here for real.
        emulate::become_first()?;
        set_capabilities(supervise::real(allowed) & own)?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| RuntimeError::call("prctl(PR_SET_NO_NEW_PRIVS)", errno))?;
        return supervise::watch(families, supervisor, handles);
    }
    // Without no_new_privs, which would break setuid programs, this needs CAP_SYS_ADMIN: before that goes. A container around
    // this one that does not give it has a filter of its own.
    let mut no_listener = None;
    if spec.place == Place::Namespaces || own.contains(CapabilitySet::SYS_ADMIN) {
        no_listener = supervise::watch(families, supervisor, handles)?;
    }
    let change = CapabilitySet::SETUID | CapabilitySet::SETGID;
    set_capabilities((allowed | change) & own)?;
    let groups: Vec<Gid> = spec.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    rustix::thread::set_thread_groups(&groups)
        .map_err(|errno| RuntimeError::call(format!("setgroups({:?})", spec.groups), errno))?;
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(|errno| RuntimeError::call(format!("setresgid({gid}, {gid}, {gid})", gid = spec.gid), errno))?;
    // Of a user that is not root, the kernel clears the capabilities here.
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(|errno| RuntimeError::call(format!("setresuid({uid}, {uid}, {uid})", uid = spec.uid), errno))?;
    if spec.uid == 0 && !allowed.contains(change) {
        set_capabilities(allowed & own)?;
    }
    Ok(no_listener)
}

fn set_capabilities(set: CapabilitySet) -> Result<(), RuntimeError> {
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(|errno| RuntimeError::call("capset", errno))
}

/// Executes the command in its working directory, where this process mostly is. Returns what it failed on, and why.
fn start(spec: &ContainerSpec, in_cwd: Result<(), E>, open_files: Option<u64>, keep: &Keep<'_>) -> Word {
    if let Err(errno) = cwd::enter_as_user(in_cwd, spec) {
        return Word::NotStarted { errno: errno.into(), what: Obstacle::WorkingDirectory, path: spec.cwd.clone() };
    }
    let refused = |path: PathBuf, errno| Word::NotStarted { errno, what: Obstacle::Program, path };
    let invalid = |path: &OsStr| refused(path.into(), E::INVAL.into());
    let strings = |list: &[OsString]| -> Option<Vec<CString>> {
        list.iter().map(|text| CString::new(text.as_bytes()).ok()).collect()
    };
    let Some(program) = spec.args.first() else { return invalid(OsStr::new("")) };
    let (Some(args), Some(env)) = (strings(&spec.args), strings(&spec.env)) else { return invalid(program) };
    sys::unblock_signals();
    // Nothing that a library opened gets to the command.
    let _ = sys::close_range(3, libc::CLOSE_RANGE_CLOEXEC);
    let candidates = candidates(program, &spec.env);
    let mut worst = (PathBuf::from(program), Errno::from(E::NOENT));
    let open_files_are_limited = keep.last();
    if let Some(soft) = open_files.filter(|_| !open_files_are_limited) {
        limits::set_open_files(soft);
    }
    for candidate in candidates {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        let mut errno = sys::execve(&path, &args, &env);
        // A process that is about to become another program may have it open yet, as the copy of who wrote it.
        for _ in 0..BUSY_ATTEMPTS {
            if !errno.is(E::TXTBSY) {
                break;
            }
            std::thread::sleep(BUSY_PAUSE);
            errno = sys::execve(&path, &args, &env);
        }
        let next_may_work = [E::NOENT, E::NOTDIR, E::ACCESS].into_iter().any(|passable| errno.is(passable));
        if !next_may_work {
            return refused(candidate, errno);
        }
        // As in execvp(3): one that was there counts for more than those that were not.
        if errno.is(E::ACCESS) || Path::new(&candidate).exists() {
            worst = (candidate, errno);
        }
    }
    refused(worst.0, worst.1)
}

/// The paths to try for `program`, in order.
fn candidates(program: &OsStr, env: &[OsString]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    let path = env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(|&b| b == b':')
        .map(|dir| {
            let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
            PathBuf::from(OsString::from_vec([dir, b"/", program.as_bytes()].concat()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_slash_is_searched_in_the_path_of_its_environment() {
        let env = |path: &str| vec![OsString::from("A=b"), OsString::from(format!("PATH={path}"))];
        let found = |program: &str, env: &[OsString]| candidates(OsStr::new(program), env);
        assert_eq!(found("sh", &env("/bin::/x")), [Path::new("/bin/sh"), Path::new("./sh"), Path::new("/x/sh")]);
        assert_eq!(found("./sh", &env("/bin")), [Path::new("./sh")]);
        assert_eq!(found("sh", &[]).len(), 6);
    }
}
