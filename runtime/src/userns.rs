//! Hop 1: this very process becomes root of a user namespace of its own. Nothing is mounted and no mount namespace is
//! made: each step has its own.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::around::Surroundings;
use crate::error::{Errno, RuntimeError};
use crate::idmap::{IdMaps, IdRange, MapKind, map_text};
use crate::role::{self, Role};
use crate::{sys, wire};

/// A thread that was joined may be seen a little longer: until it gets a processor once more, which others may have.
const THREADS_END_WITHIN: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Request {
    maps: IdMaps,
    tools: Tools,
}

/// Where the tools are that write a map of subordinate ids: searched by this process, because the roles have no PATH.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tools {
    newuidmap: Option<PathBuf>,
    newgidmap: Option<PathBuf>,
}

impl Tools {
    pub(crate) fn find() -> Self {
        Tools { newuidmap: find_tool("newuidmap"), newgidmap: find_tool("newgidmap") }
    }
}

/// Makes this process root (uid 0, gid 0, all capabilities) in a new user namespace with `maps`, without an exec.
/// Supplementary groups stay as they are, so that files readable by a group of the user stay readable; a step gets its
/// own. Call it before the first thread is started.
///
/// The process stays dumpable: a change of ids may clear that, and /proc/self would then belong to somebody else. A step
/// still can not look into this process, since its capabilities are fewer (ptrace(2)).
///
/// # Errors
/// [`RuntimeError::Threads`], [`RuntimeError::UserNamespace`], and what keeps the maps from being written. The process
/// must not go on after an error from a call behind the first one: it may be in a namespace without ids.
pub fn enter(maps: &IdMaps) -> Result<(), RuntimeError> {
    enter_with(maps, &Tools::find())
}

/// A user namespace with all its maps, in which a process like this one has tried what a step begins with.
#[derive(Debug)]
pub struct TriedNamespace(pub(crate) OwnedFd);

/// As [`enter`], into a namespace that is there already. Where that can not be entered, it makes one with `maps`.
///
/// # Errors
/// As [`enter`].
pub fn enter_tried(tried: &TriedNamespace, maps: &IdMaps) -> Result<(), RuntimeError> {
    one_thread()?;
    match move_into_link_name_space(tried.0.as_fd(), Some(LinkNameSpaceType::User)) {
        Ok(()) => become_root(),
        // Nothing has changed by that.
        Err(_) => enter(maps),
    }
}

/// As [`enter`], with tools that were found already.
pub(crate) fn enter_with(maps: &IdMaps, tools: &Tools) -> Result<(), RuntimeError> {
    one_thread()?;
    if maps.kind() == MapKind::Single {
        unshare()?;
        // Nobody outside has to help: the kernel lets a process map its own id.
        return write_maps("self", maps).and_then(|()| become_root()).map_err(RuntimeError::or_apparmor);
    }
    let missing = |name: &str, tool: &Option<PathBuf>| match (maps.kind(), tool) {
        (MapKind::SubIds, None) => Err(RuntimeError::NoMapTool { tool: name.into() }),
        _ => Ok(()),
    };
    missing("newuidmap", &tools.newuidmap)?;
    missing("newgidmap", &tools.newgidmap)?;
    let request = Request { maps: maps.clone(), tools: tools.clone() };
    // It starts before the unshare: it must stay in the user namespace that the outer ids belong to.
    let (mut child, socket) = Role::IdMap.start(&request)?;
    let result = (|| {
        unshare()?;
        let talk = |errno: Errno| RuntimeError::call("send(socket of coracle-idmap)", errno);
        wire::send(socket.as_fd(), &(), &[]).map_err(talk)?;
        let written: Option<Result<(), RuntimeError>> = wire::Receiver::new().wait(&socket).map_err(talk)?;
        written.unwrap_or_else(|| {
            let status = role::how_child_ended(child.wait());
            Err(RuntimeError::Died { role: Role::IdMap.name().into(), status })
        })
    })();
    // Without its socket it ends.
    drop(socket);
    let _ = child.wait();
    result.and_then(|()| become_root()).map_err(RuntimeError::or_apparmor)
}

/// Gives this process, which has entered a user namespace, mounts of its own: what is mounted is seen by nobody else.
///
/// # Errors
/// [`RuntimeError::Call`] where the kernel refuses.
pub fn own_mounts() -> Result<(), RuntimeError> {
    one_thread()?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|errno| RuntimeError::call("unshare(CLONE_NEWNS)", errno))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| RuntimeError::call("mount(\"/\", MS_REC | MS_PRIVATE)", errno))
}

fn unshare() -> Result<(), RuntimeError> {
    sys::unshare(libc::CLONE_NEWUSER).map_err(refused)
}

/// The error of a user namespace that can not be made.
pub(crate) fn refused(source: Errno) -> RuntimeError {
    RuntimeError::UserNamespace { source, around: Surroundings::of_this_process() }
}

/// Takes the ids that the maps just made root.
pub(crate) fn become_root() -> Result<(), RuntimeError> {
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .map_err(|errno| RuntimeError::call("setresgid(0, 0, 0)", errno))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .map_err(|errno| RuntimeError::call("setresuid(0, 0, 0)", errno))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|errno| RuntimeError::call("prctl(PR_SET_DUMPABLE, 1)", errno))
}

/// Returns how many threads this process has.
pub(crate) fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

fn one_thread() -> Result<(), RuntimeError> {
    let deadline = Instant::now() + THREADS_END_WITHIN;
    loop {
        match threads() {
            // Without /proc the kernel answers: unshare is EINVAL in a process with threads.
            None | Some(1) => return Ok(()),
            Some(threads) if Instant::now() >= deadline => return Err(RuntimeError::Threads { threads }),
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(["/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The role that writes the maps of its parent, once that says that it is in its new namespace.
pub(crate) fn idmap_role() -> ! {
    let Ok(mut begun) = role::begin::<Request>() else { sys::exit(1) };
    if !matches!(begun.receiver.wait::<()>(&begun.socket), Ok(Some(()))) {
        sys::exit(1);
    }
    let result = write_maps_of(begun.parent.as_raw_nonzero().get(), &begun.request);
    let sent = wire::send(begun.socket.as_fd(), &result, &[]);
    sys::exit(i32::from(sent.is_err()))
}

fn write_maps_of(pid: i32, request: &Request) -> Result<(), RuntimeError> {
    let maps = &request.maps;
    match (maps.kind(), &request.tools.newuidmap, &request.tools.newgidmap) {
        (MapKind::SubIds, Some(newuidmap), Some(newgidmap)) => {
            let users = MapTool::start(newuidmap, pid, maps.uids());
            let groups = MapTool::start(newgidmap, pid, maps.gids());
            let (users, groups) = (users?.end(), groups?.end());
            users.and(groups)
        }
        (MapKind::SubIds, ..) => Err(RuntimeError::NoMapTool { tool: "newuidmap".into() }),
        (MapKind::Direct | MapKind::Single, ..) => write_maps(&pid.to_string(), maps),
    }
}

/// Writes the maps of the process `pid` of /proc.
fn write_maps(pid: &str, maps: &IdMaps) -> Result<(), RuntimeError> {
    if maps.kind() == MapKind::Single {
        // Without this the kernel refuses a map of groups to those who may not map all of them: a group that one can leave
        // could be one that is refused something. Kernels before 3.19 have neither the file nor the rule.
        match write(format!("/proc/{pid}/setgroups"), "deny".into()) {
            Err(error) if error.errno().is_some_and(|errno| errno.is(rustix::io::Errno::NOENT)) => {}
            result => result?,
        }
    }
    write(format!("/proc/{pid}/uid_map"), map_text(maps.uids()))?;
    write(format!("/proc/{pid}/gid_map"), map_text(maps.gids()))
}

/// Writes to a file of the kernel, which wants all of it in one call.
fn write(path: String, map: String) -> Result<(), RuntimeError> {
    fs::write(&path, &map).map_err(|error| RuntimeError::WriteMap { path, map, source: error.into() })
}

struct MapTool {
    child: std::process::Child,
    name: String,
    arguments: String,
}

impl MapTool {
    fn start(tool: &Path, pid: i32, ranges: &[IdRange]) -> Result<Self, RuntimeError> {
        let numbers = ranges.iter().flat_map(|r| [r.inside, r.outside, r.count]).map(|n| n.to_string());
        let arguments: Vec<String> = [pid.to_string()].into_iter().chain(numbers).collect();
        let child = Command::new(tool)
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| RuntimeError::call(format!("spawn({tool:?})"), error))?;
        let name = tool.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(MapTool { child, name, arguments: arguments.join(" ") })
    }

    fn end(self) -> Result<(), RuntimeError> {
        let output =
            self.child.wait_with_output().map_err(|error| RuntimeError::call(format!("wait({})", self.name), error))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(RuntimeError::MapTool {
            tool: self.name,
            arguments: self.arguments,
            status: output.status.to_string(),
            output: text,
        })
    }
}
