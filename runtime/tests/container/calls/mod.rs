//! System calls made inside of a step, by this very program, with what must come of them. Where the kernel has all ids, it is
//! the kernel that passes; where it has one, the emulator has to do the same.
#![allow(unsafe_code)]

mod access;
mod files;
mod hostile;
mod ids;
mod machine;
mod many;
mod sockets;

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::Case;
use crate::place::Place;

/// What runs inside, and its name.
type Inside = (&'static str, fn());

pub const CASES: &[Case] = &[
    ("calls: who a process is and becomes", |place| inside(place, "ids")),
    ("calls: owners of files, and who may change them", |place| inside(place, "owners")),
    ("calls: whom new files belong to", |place| inside(place, "creation")),
    ("calls: who may do what with a file", |place| inside(place, "access")),
    ("calls: who may change a directory", |place| inside(place, "directories")),
    ("calls: programs with setuid bits and capabilities", |place| inside(place, "programs")),
    ("calls: attributes", |place| inside(place, "attributes")),
    ("calls: writing to setuid programs", |place| inside(place, "writes")),
    ("calls: links that lead into /proc", |place| inside(place, "links into /proc")),
    ("calls: programs by paths of /proc", |place| inside(place, "programs by /proc")),
    ("calls: who sees what of a process", |place| inside(place, "processes")),
    OF_THE_MACHINE,
    ESCAPE,
    ("calls: a device is the same by every path", |place| inside(place, "paths of devices")),
    ("calls: signals between users", |place| inside(place, "signals")),
    ("calls: who is at the other end of a socket", |place| inside(place, "sockets")),
    ("calls: sockets of threads", |place| inside(place, "sockets of threads")),
    ("calls: several messages at once", |place| inside(place, "messages")),
    ("calls: another root", |place| inside(place, "roots")),
    ("calls: arguments that make no sense", |place| inside(place, "nonsense")),
    ("calls: a thousand forks, each somebody else", |place| inside(place, "forks")),
    ("calls: many at once", |place| inside(place, "at once")),
    ("calls: signals while calls wait", |place| inside(place, "interrupted")),
    ("calls: what blocks one does not block others", |place| inside(place, "blocking")),
    ("calls: names that change while they are looked at", |place| inside(place, "races")),
];

/// What is tried where the caller is root of the machine, too.
pub const OF_THE_MACHINE: Case = ("calls: what of /proc is the machine's", |place| inside(place, "machine"));

const INSIDE: &[&[Inside]] =
    &[ids::INSIDE, files::INSIDE, access::INSIDE, machine::INSIDE, sockets::INSIDE, hostile::INSIDE, many::INSIDE];

/// What is tried in a chroot that root of the machine makes.
pub const OF_ROOT_IN_A_CHROOT: &[Case] = &[OF_THE_MACHINE, ESCAPE];

const ESCAPE: Case = ("calls: nothing is done for who has left a chroot", escape);

fn escape(place: &Place) {
    if !crate::place::is_chroot(&place.name) {
        return;
    }
    let outside = place.dir("outside");
    fs::write(outside.join("secret"), "secret").expect("writes");
    let mut step = step(place, "escape");
    step.spec.env.push(format!("OUTSIDE={}", outside.display()).into());
    step.prints();
    let names: Vec<_> = fs::read_dir(&outside).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"]);
}

/// Runs one of [`INSIDE`] in a step of this place.
pub fn inside(place: &Place, name: &str) {
    step(place, name).prints();
}

/// A step that runs one of [`INSIDE`].
pub fn step(place: &Place, name: &str) -> crate::place::Step {
    // A layer for all steps: the program is large.
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    let layer = LAYER.get_or_init(|| {
        let layer = place.dir("layer");
        fs::create_dir(layer.join("opt")).expect("mkdir");
        let program = layer.join("opt/calls");
        fs::copy("/proc/self/exe", &program).expect("copies this program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        layer
    });
    place.host_programs(&["/opt/calls", "--calls", name]).lower(layer.clone())
}

/// What this program does when it is run inside.
pub fn run(name: &str) {
    let (_, case) = INSIDE.iter().flat_map(|list| *list).find(|(other, _)| *other == name).expect("a name of INSIDE");
    let dir = "/tmp/calls";
    if !fs::exists(dir).expect("a /tmp") {
        fs::create_dir(dir).expect("mkdir");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    std::env::set_current_dir(dir).expect("chdir");
    case();
}

/// Returns the error of a call, or 0.
fn errno(result: impl Into<i64>) -> i32 {
    if result.into() == -1 { std::io::Error::last_os_error().raw_os_error().expect("a number") } else { 0 }
}

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Runs `act` in a process of this user, and waits for it.
fn as_user(uid: u32, gid: u32, groups: &[u32], act: impl FnOnce()) {
    assert_eq!(wait(spawn(uid, gid, groups, act)), 0, "as {uid}:{gid} {groups:?}");
}

/// Starts a process of this user, that does `act`. Returns its number.
fn spawn(uid: u32, gid: u32, groups: &[u32], act: impl FnOnce()) -> i32 {
    // SAFETY: this program has one thread wherever this is called.
    match unsafe { libc::fork() } {
        -1 => panic!("fork"),
        0 => {
            let ends = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // SAFETY: the groups outlive the call.
                unsafe {
                    assert_eq!(errno(libc::setgroups(groups.len(), groups.as_ptr())), 0);
                    assert_eq!(errno(libc::setresgid(gid, gid, gid)), 0);
                    assert_eq!(errno(libc::setresuid(uid, uid, uid)), 0);
                }
                act();
            }));
            // SAFETY: always.
            unsafe { libc::_exit(i32::from(ends.is_err())) }
        }
        pid => pid,
    }
}

/// Returns the exit code of a process, or minus the signal that ended it.
fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

/// Returns owner and group of a file, links not followed.
fn owner(path: &str) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    (stat.uid(), stat.gid())
}

fn mode(path: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path}: {error}")).mode() & 0o7777
}

/// Makes a file with these attributes.
fn file(path: &str, uid: u32, gid: u32, mode: u32) {
    fs::write(path, "text").unwrap_or_else(|error| panic!("{path}: {error}"));
    give(path, uid, gid, mode);
}

/// Makes a directory with these attributes.
fn dir(path: &str, uid: u32, gid: u32, mode: u32) {
    fs::create_dir(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    give(path, uid, gid, mode);
}

fn give(path: &str, uid: u32, gid: u32, mode: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("{path}: {error}"));
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Returns the error of opening a file, or 0.
fn opens(path: &str, flags: i32) -> i32 {
    // SAFETY: the path ends with NUL.
    let fd = unsafe { libc::open(c(path).as_ptr(), flags, 0o666) };
    let result = errno(fd);
    if fd >= 0 {
        // SAFETY: it was opened here.
        unsafe { libc::close(fd) };
    }
    result
}

/// Whether the step is in a chroot.
fn is_in_chroot() -> bool {
    std::env::var_os("IN_CHROOT").is_some()
}
