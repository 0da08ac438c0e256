//! What /proc has of the machine: read by those who may, and changed by nobody. Nothing is written here; to be let open it
//! for writing is too much. And the files of /dev and /proc are the same by every path.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Inside, as_user, c, errno, opens};

pub const INSIDE: &[Inside] =
    &[("machine", machine), ("paths of devices", paths_of_devices), ("escape", escape), ("listed", listed)];

const SETTING: &str = "/proc/sys/vm/swappiness";
const REFUSED: [i32; 3] = [libc::EACCES, libc::EPERM, libc::EROFS];

fn machine() {
    let before = (fs::read_to_string(SETTING).expect("reads"), mode("/proc/uptime"));
    std::os::unix::fs::symlink(SETTING, "to-setting").expect("symlink");
    for (uid, gid) in [(0, 0), (1000, 50), (1000, 0)] {
        as_user(uid, gid, &[0], all);
    }
    assert_eq!((fs::read_to_string(SETTING).expect("reads"), mode("/proc/uptime")), before);
}

fn mode(path: &str) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).expect("is there"))
}

fn all() {
    not_written();
    from_directories();
    not_changed();
    masked();
    others_are_there();
    addresses();
}

fn refused(error: i32, what: &str) {
    // SAFETY: always.
    let uid = unsafe { libc::geteuid() };
    assert!(REFUSED.contains(&error), "{what} by {uid}: {error}");
}

/// A file of a directory whose name is a number, which no process has.
fn of_an_interrupt() -> Option<String> {
    let irqs = fs::read_dir("/proc/irq").ok()?.flatten();
    let files = irqs.map(|irq| irq.path().join("smp_affinity")).find(|path| path.exists())?;
    Some(files.to_str()?.to_owned())
}

fn not_written() {
    let more = of_an_interrupt();
    for path in [SETTING, "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register"]
        .into_iter()
        .chain(more.as_deref())
        .chain(["to-setting", "/proc/self/../sys/vm/swappiness", "/proc/net/../../sys/vm/swappiness"])
    {
        if !fs::exists(path).unwrap_or(true) {
            continue;
        }
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_CREAT, libc::O_RDONLY | libc::O_TRUNC] {
            // Of the links, some are of no kernel.
            let error = opens(path, flags);
            if error != libc::ENOENT || path == SETTING {
                refused(error, path);
            }
        }
        // SAFETY: paths that end with NUL.
        unsafe {
            assert_ne!(errno(libc::truncate(c(path).as_ptr(), 0)), 0, "{path}");
            let writable = errno(libc::access(c(path).as_ptr(), libc::W_OK));
            assert_ne!(writable, 0, "{path}");
            assert_eq!(errno(libc::access(c(SETTING).as_ptr(), libc::F_OK | libc::R_OK)), 0);
        }
    }
    if is_root_itself() {
        return;
    }
    // Its mode says that root may read it.
    for path in ["/proc/slabinfo", "/proc/vmallocinfo", "/proc/kpagecount"] {
        if fs::exists(path).expect("a /proc") && mode(path) & 0o077 == 0 {
            assert_eq!(opens(path, libc::O_RDONLY), libc::EACCES, "{path}");
        }
    }
}

/// Whether this process is root of the machine, and nobody answers its calls.
fn is_root_itself() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("reads");
    // SAFETY: always.
    let is_root = unsafe { libc::geteuid() } == 0;
    is_root && std::env::var_os("EMULATED").is_none() && map.split_ascii_whitespace().take(2).all(|word| word == "0")
}

fn opened(path: &str) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens")
}

/// Where things are in memory is for root of the machine.
fn addresses() {
    let Ok(text) = fs::read_to_string("/proc/iomem") else { return };
    let addresses = text.lines().filter_map(|line| line.trim_start().split('-').next());
    let tells = addresses.filter(|address| address.bytes().any(|digit| digit != b'0')).count();
    assert_eq!(tells, 0);
}

/// Paths that start in a directory of /proc.
fn from_directories() {
    for (dir, path) in [("/proc", "sys/vm/swappiness"), ("/proc/sys", "vm/swappiness"), ("/proc/sys/vm", "swappiness")]
    {
        let dir = opened(dir);
        let open = |dir: &OwnedFd, flags| rustix::fs::openat(dir, path, flags, Mode::empty());
        let error = open(&dir, OFlags::WRONLY).expect_err("is the machine's");
        refused(error.raw_os_error(), path);
        assert!(open(&dir, OFlags::RDONLY).is_ok(), "{path}");
        // What is open without being read can be opened again by its number.
        let held = open(&dir, OFlags::PATH).expect("opens");
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        refused(opens(&again, libc::O_WRONLY), &again);
        let home = opened(".");
        rustix::process::fchdir(&dir).expect("fchdir");
        refused(opens(path, libc::O_WRONLY), path);
        rustix::process::fchdir(&home).expect("fchdir");
    }
}

/// Modes, owners and times.
fn not_changed() {
    if is_root_itself() {
        return;
    }
    let dir = opened("/proc");
    for (dir, path) in [(CWD, "/proc/uptime"), (dir.as_fd(), "uptime"), (CWD, SETTING)] {
        let kept = Mode::from_raw_mode(mode(if path == SETTING { SETTING } else { "/proc/uptime" }) & 0o7777);
        let result = rustix::fs::chmodat(dir, path, kept, rustix::fs::AtFlags::empty());
        refused(result.err().map_or(0, Errno::raw_os_error), "chmod");
        let root = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
        let result = rustix::fs::chownat(dir, path, Some(root.0), Some(root.1), rustix::fs::AtFlags::empty());
        refused(result.err().map_or(0, Errno::raw_os_error), "chown");
        // SAFETY: paths that end with NUL.
        let now = unsafe {
            use std::os::fd::AsRawFd;
            errno(libc::utimensat(dir.as_raw_fd(), c(path).as_ptr(), std::ptr::null(), 0))
        };
        refused(now, "touch");
    }
}

/// What tells of the machine more than a step should know shows nothing.
fn masked() {
    for path in ["/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/kcore", "/proc/latency_stats"] {
        match fs::read(path) {
            Ok(text) => assert_eq!(text.len(), 0, "{path}"),
            Err(error) => assert!(matches!(error.raw_os_error(), Some(libc::EACCES | libc::ENOENT)), "{path}: {error}"),
        }
    }
    for path in ["/proc/acpi", "/proc/scsi", "/proc/asound"] {
        assert_eq!(fs::read_dir(path).map_or(0, Iterator::count), 0, "{path}");
        assert!(!Path::new(path).join("scsi").exists(), "{path}");
    }
}

/// What is read, and what a process says of itself.
fn others_are_there() {
    for path in
        ["/proc/uptime", "/proc/meminfo", "/proc/cpuinfo", "/proc/self/net/dev", "/proc/net/unix", "/proc/mounts"]
    {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(!text.is_empty(), "{path}");
    }
    assert!(fs::read_dir("/proc/sys/kernel").expect("a directory").count() > 0);
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).expect("prctl");
    for (path, text) in [("/proc/self/comm", "named"), ("/proc/self/oom_score_adj", "1000")] {
        let written = fs::write(path, text).err().and_then(|error| error.raw_os_error());
        // One of outside is shown read-only.
        assert!(matches!(written, None | Some(libc::EROFS)), "{path}: {written:?}");
        let found = fs::read_to_string(path).expect("reads");
        assert!(written.is_some() || found.trim() == text, "{path}: {found}");
    }
}

/// A device, and a file of /proc, belong to the same user from wherever a path to them starts.
fn paths_of_devices() {
    // Who lists a directory is told the type of each file, too: find -type f.
    let types = fs::read_dir("/dev").expect("a directory").flatten().map(|entry| (entry.path(), entry.file_type()));
    for (path, file_type) in types {
        assert!(!file_type.as_ref().expect("a type").is_file(), "{path:?}: {file_type:?}");
    }
    for (uid, gid) in [(0, 0), (1000, 50)] {
        as_user(uid, gid, &[], || {
            let home = opened(".");
            for (path, dirs, others) in [
                (
                    "/dev/null",
                    [("/dev", "null"), ("/", "dev/null"), ("/tmp", "../dev/./null")],
                    ["/dev/../dev/null", "//dev/null"],
                ),
                (
                    "/proc/uptime",
                    [("/proc", "uptime"), ("/", "proc/uptime"), ("/tmp", "../proc/uptime")],
                    ["//proc/uptime"; 2],
                ),
            ] {
                let known = seen(rustix::fs::stat(path));
                let is_roots = path == "/dev/null" && std::env::var_os("EMULATED").is_some();
                assert!(!is_roots || (known.0, known.1) == (0, 0), "{path}: {known:?}");
                for other in others {
                    assert_eq!(seen(rustix::fs::stat(other)), known, "{other}");
                }
                for (dir, name) in dirs {
                    let dir = opened(dir);
                    assert_eq!(seen(rustix::fs::statat(&dir, name, rustix::fs::AtFlags::empty())), known, "{name}");
                    rustix::process::fchdir(&dir).expect("fchdir");
                    assert_eq!(seen(rustix::fs::stat(name)), known, "{name}, from the working directory");
                    rustix::process::fchdir(&home).expect("fchdir");
                }
            }
        });
    }
}

fn listed() {
    use std::os::unix::fs::FileTypeExt;
    let kinds = |dir: &str| {
        let mut list: Vec<_> = fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let kind = entry.file_type().expect("a type");
                let kind = (kind.is_char_device(), kind.is_block_device(), kind.is_file());
                (entry.file_name().into_string().expect("text"), kind)
            })
            .collect();
        list.sort();
        list
    };
    let [plain, sda, zero] = [(false, false, true), (false, true, false), (true, false, false)];
    assert_eq!(kinds("/nodes"), [("plain".into(), plain), ("sda".into(), sda), ("zero".into(), zero)]);
    // More than goes into one call, and each once.
    fs::create_dir("many").expect("mkdir");
    for number in 0..3000 {
        fs::write(format!("many/a-file-of-some-length-{number:04}"), "").expect("writes");
    }
    let many = kinds("many");
    assert!(many.len() == 3000 && many.iter().all(|(_, kind)| *kind == plain), "{}", many.len());
    assert!(many.iter().enumerate().all(|(number, (name, _))| name.ends_with(&format!("-{number:04}"))));
    let file = fs::File::open("/nodes/plain").expect("opens");
    let mut room = [0u8; 1000];
    let list = |fd: i32, room: &mut [u8]| {
        // SAFETY: there is so much room.
        errno(unsafe { libc::syscall(libc::SYS_getdents64, fd, room.as_mut_ptr(), room.len()) })
    };
    assert_eq!(list(std::os::fd::AsRawFd::as_raw_fd(&file), &mut room), libc::ENOTDIR);
    assert_eq!(list(999, &mut room), libc::EBADF);
    assert_eq!(list(std::os::fd::AsRawFd::as_raw_fd(&opened("/nodes")), &mut room[..7]), libc::EINVAL);
}

/// Owner, group and number of a device.
fn seen(stat: Result<rustix::fs::Stat, Errno>) -> (u32, u32, u64) {
    let stat = stat.expect("is there");
    (stat.st_uid, stat.st_gid, stat.st_rdev)
}

/// Who has left a chroot gets nothing done outside by who answers the calls. What the kernel lets them do is not looked at here.
fn escape() {
    let outside = std::env::var("OUTSIDE").expect("a directory");
    let outside = outside.trim_start_matches('/');
    fs::create_dir("/below").expect("mkdir");
    let (wait_here, done) = rustix::pipe::pipe().expect("pipe");
    let (left, tell_left) = rustix::pipe::pipe().expect("pipe");
    let child = super::spawn(0, 5, &[], || {
        std::env::set_current_dir("/").expect("chdir");
        std::os::unix::fs::chroot("/below").expect("chroot");
        for _ in 0..60 {
            std::env::set_current_dir("..").expect("chdir");
        }
        // All of these belong to group 5, which the kernel does not know.
        let path = |name: &str| format!("{outside}/{name}");
        let refused = |result: std::io::Result<()>| {
            let error = result.expect_err("is outside");
            assert!(matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)), "{error}");
        };
        refused(fs::write(path("file"), "x"));
        refused(fs::create_dir(path("dir")));
        refused(std::os::unix::fs::symlink("x", path("link")));
        refused(std::os::unix::net::UnixListener::bind(path("socket")).map(drop));
        refused(std::os::unix::fs::chown(path("secret"), Some(7), Some(7)));
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::from(0o666));
        refused(rustix::fs::mknodat(CWD, path("null"), kind, mode, 0x103).map_err(Into::into));
        assert_eq!(opens("/secret", libc::O_RDONLY), libc::ENOENT);
        rustix::io::write(&tell_left, b"x").expect("write");
        rustix::io::read(&wait_here, &mut [0; 1]).expect("read");
    });
    drop(tell_left);
    rustix::io::read(&left, &mut [0; 1]).expect("read");
    for way in ["cwd", "cwd/./", "root/.."] {
        let path = format!("/proc/{child}/{way}/{outside}/secret");
        assert!(matches!(opens(&path, libc::O_RDONLY), libc::EACCES | libc::ENOENT), "{path}");
        assert!(matches!(opens(&path, libc::O_WRONLY), libc::EACCES | libc::ENOENT), "{path}");
    }
    rustix::io::write(&done, b"x").expect("write");
    assert_eq!(super::wait(child), 0);
}
