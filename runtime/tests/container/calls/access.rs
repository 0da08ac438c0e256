//! Who may do what.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Inside, as_user, c, dir, errno, file, give, opens};

pub const INSIDE: &[Inside] = &[("access", access), ("directories", directories), ("processes", processes)];

const R: i32 = libc::O_RDONLY;
const W: i32 = libc::O_WRONLY;
const RW: i32 = libc::O_RDWR;
const DENIED: i32 = libc::EACCES;

fn access() {
    // Owner, group, mode; what 1000:50 with group 7 gets for reading and for writing.
    for (at, (uid, gid, mode, reads, writes)) in [
        (0, 0, 0o644, 0, DENIED),
        (0, 0, 0o600, DENIED, DENIED),
        (0, 0, 0o666, 0, 0),
        (1000, 0, 0o600, 0, 0),
        (1000, 0, 0o066, DENIED, DENIED),
        (0, 50, 0o640, 0, DENIED),
        (0, 7, 0o660, 0, 0),
        (0, 7, 0o606, DENIED, DENIED),
        (1001, 8, 0o002, DENIED, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("f{at}");
        file(&path, uid, gid, mode);
        as_user(1000, 50, &[7], || {
            assert_eq!((opens(&path, R), opens(&path, W)), (reads, writes), "{uid}:{gid} {mode:o}");
            assert_eq!(opens(&path, RW), if reads == 0 { writes } else { reads }, "{uid}:{gid} {mode:o}");
            assert_eq!(opens(&path, R | libc::O_TRUNC), if reads == 0 { writes } else { reads });
            assert_eq!(opens(&path, libc::O_PATH), 0);
            assert_eq!(opens(&path, R | libc::O_CREAT), reads, "it is there already");
            let truncated = rustix::fs::open(&*path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).map(drop);
            assert_eq!(truncated, Ok(()));
            // SAFETY: the path ends with NUL.
            unsafe {
                let text = c(&path);
                assert_eq!(errno(libc::access(text.as_ptr(), libc::R_OK)), reads);
                assert_eq!(errno(libc::access(text.as_ptr(), libc::W_OK)), writes);
                assert_eq!(errno(libc::access(text.as_ptr(), libc::F_OK)), 0);
                assert_eq!(errno(libc::truncate(text.as_ptr(), 2)), writes);
            }
        });
    }
    own();
    effective_and_real();
    ways();
    changes();
    let _listener = UnixListener::bind("closed-socket").expect("bind");
    give("closed-socket", 0, 0, 0o600);
    let _other = UnixListener::bind("open-socket").expect("bind");
    give("open-socket", 0, 0, 0o666);
    as_user(1000, 50, &[], || {
        assert_eq!(UnixStream::connect("closed-socket").expect_err("closed").raw_os_error(), Some(DENIED));
        UnixStream::connect("open-socket").expect("open");
    });
}

/// What a process makes for itself alone belongs to it.
fn own() {
    as_user(1000, 50, &[], || {
        let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        let (pipe, _end) = rustix::pipe::pipe().expect("pipe");
        let (socket, _other) = UnixStream::pair().expect("socketpair");
        for file in [memory.as_fd(), pipe.as_fd(), socket.as_fd()] {
            let stat = rustix::fs::fstat(file).expect("fstat");
            assert_eq!((stat.st_uid, stat.st_gid), (1000, 50));
        }
        rustix::fs::fchmod(&memory, rustix::fs::Mode::from(0o600)).expect("fchmod");
        let path = |fd: &rustix::fd::OwnedFd| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
        assert_eq!(opens(&path(&memory), RW), 0);
        assert_eq!(opens(&path(&pipe), R | libc::O_NONBLOCK), 0);
    });
}

/// access(2) asks for the real user.
fn effective_and_real() {
    file("private", 0, 0, 0o600);
    as_user(0, 0, &[], || {
        // SAFETY: numbers and a path that ends with NUL.
        unsafe {
            assert_eq!(errno(libc::setresuid(1000, 0, 0)), 0);
            let (at, path) = (libc::AT_FDCWD, c("private"));
            assert_eq!(errno(libc::faccessat(at, path.as_ptr(), libc::R_OK, 0)), DENIED);
            assert_eq!(errno(libc::syscall(libc::SYS_faccessat2, at, path.as_ptr(), libc::R_OK, libc::AT_EACCESS)), 0);
            assert_eq!(errno(libc::access(c("../calls/private").as_ptr(), libc::F_OK)), 0);
        }
        assert_eq!(opens("private", R), 0);
    });
}

/// Every directory of a path must let the user through.
fn ways() {
    dir("open", 0, 0, 0o755);
    dir("open/closed", 0, 0, 0o700);
    file("open/closed/f", 0, 0, 0o666);
    dir("list-only", 0, 0, 0o744);
    file("list-only/f", 0, 0, 0o666);
    dir("pass-only", 0, 0, 0o711);
    file("pass-only/f", 0, 0, 0o666);
    symlink("open/closed/f", "to-closed").expect("symlink");
    symlink("/tmp/calls/pass-only/f", "to-open").expect("symlink");
    as_user(1000, 50, &[], || {
        for (path, expected) in [
            ("open/closed/f", DENIED),
            ("to-closed", DENIED),
            ("to-open", 0),
            ("list-only/f", DENIED),
            ("pass-only/f", 0),
            ("pass-only/missing", libc::ENOENT),
            ("open/closed/missing", DENIED),
            ("open/closed/../../f2", DENIED),
            ("open/../f2", 0),
            ("/tmp/../tmp/./calls//f2", 0),
        ] {
            assert_eq!(opens(path, R), expected, "{path}");
            let stat = fs::metadata(path).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
            assert_eq!(stat, expected, "stat {path}");
        }
        assert_eq!(opens("list-only", R | libc::O_DIRECTORY), 0);
        assert_eq!(opens("pass-only", R | libc::O_DIRECTORY), DENIED);
        assert!(std::env::set_current_dir("list-only").is_err());
        std::env::set_current_dir("pass-only").expect("may pass");
        assert_eq!(opens("f", R), 0);
    });
    // A descriptor that was opened by somebody else leads where it leads.
    let closed = fs::File::open("open/closed").expect("opens");
    as_user(1000, 50, &[], || {
        let stat = rustix::fs::statat(&closed, "f", rustix::fs::AtFlags::empty());
        assert_eq!(stat.err(), Some(rustix::io::Errno::ACCESS));
        assert!(closed.metadata().is_ok());
    });
}

/// Modes and times are for owners.
fn changes() {
    file("theirs", 0, 0, 0o666);
    file("ours", 1000, 60, 0o644);
    as_user(1000, 50, &[], || {
        // SAFETY: paths that end with NUL.
        unsafe {
            let (theirs, ours) = (c("theirs"), c("ours"));
            assert_eq!(errno(libc::chmod(theirs.as_ptr(), 0o600)), libc::EPERM);
            assert_eq!(errno(libc::chmod(ours.as_ptr(), 0o2755)), 0);
            assert_eq!(super::mode("ours"), 0o755, "its group is not ours");
            let times = [libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2];
            let set = |path: &std::ffi::CString, times| errno(libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times, 0));
            assert_eq!(set(&theirs, times.as_ptr()), libc::EPERM);
            assert_eq!(set(&theirs, std::ptr::null()), 0, "who may write may say that it was now");
            assert_eq!(set(&ours, times.as_ptr()), 0);
        }
    });
}

fn directories() {
    dir("sticky", 0, 0, 0o1777);
    file("sticky/theirs", 1001, 1001, 0o666);
    file("sticky/ours", 1000, 50, 0o666);
    dir("theirs", 0, 0, 0o755);
    file("theirs/f", 0, 0, 0o666);
    dir("ours", 1000, 50, 0o755);
    file("ours/roots", 0, 0, 0o600);
    file("ours/own", 1000, 50, 0o600);
    dir("ours/closed", 0, 0, 0o755);
    file("readable", 0, 0, 0o644);
    as_user(1000, 50, &[], || {
        let error = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        assert_eq!(error(fs::remove_file("theirs/f")), DENIED);
        assert_eq!(error(fs::remove_file("theirs/missing")), libc::ENOENT);
        assert_eq!(error(fs::write("theirs/new", "")), DENIED);
        assert_eq!(error(fs::create_dir("theirs/new")), DENIED);
        assert_eq!(error(fs::create_dir("theirs/f")), libc::EEXIST);
        assert_eq!(error(symlink("x", "theirs/new")), DENIED);
        assert_eq!(error(fs::rename("theirs/f", "ours/f")), DENIED);
        assert_eq!(error(fs::rename("ours/roots", "theirs/f")), DENIED);
        assert_eq!(error(fs::hard_link("ours/own", "theirs/g")), DENIED);
        assert_eq!(error(fs::hard_link("ours/own", "ours/other")), 0);
        assert_eq!(error(fs::rename("ours/closed", "ours/renamed")), 0);
        assert_eq!(error(fs::rename("ours/renamed", "moved")), DENIED, "its .. would change");
        assert_eq!(error(fs::remove_file("sticky/theirs")), libc::EPERM);
        assert_eq!(error(fs::rename("sticky/theirs", "sticky/x")), libc::EPERM);
        assert_eq!(error(fs::rename("sticky/ours", "sticky/theirs")), libc::EPERM);
        assert_eq!(error(fs::rename("sticky/ours", "sticky/mine")), 0);
        assert_eq!(error(fs::remove_file("sticky/mine")), 0);
        assert_eq!(error(fs::remove_file("ours/roots")), 0, "the directory is ours");
        assert_eq!(error(fs::remove_dir("ours/renamed")), 0);
        assert_eq!(error(fs::remove_dir("theirs")), libc::ENOTEMPTY);
        assert_eq!(error(fs::remove_dir("missing")), libc::ENOENT);
        assert_eq!(error(fs::remove_dir("ours/.")), libc::EINVAL);
    });
    assert_eq!(super::owner("readable"), (0, 0));
}

fn processes() {
    use std::os::unix::fs::MetadataExt;
    symlink("/dev/stdout", "output").expect("symlink");
    std::os::unix::fs::chown("output", Some(0), Some(0)).expect("leads to a file of this process");
    let root = std::process::id().to_string();
    if fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() != root.as_str()) {
        // The /proc of the caller: processes have other numbers there.
        return;
    }
    // Who becomes another user is root's in /proc until it says otherwise.
    let be_seen =
        || rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).expect("prctl");
    as_user(1000, 50, &[], || {
        be_seen();
        for name in ["environ", "maps", "fd", "cwd", "exe"] {
            assert_eq!(super::opens(&format!("/proc/{root}/{name}"), libc::O_RDONLY), libc::EACCES, "{name}");
        }
        assert_eq!(super::opens(&format!("/proc/{root}/stat"), libc::O_RDONLY), 0);
        for path in ["/proc/self/environ", "/proc/self/maps", "/proc/self/fd", "/proc/self/cwd"] {
            assert_eq!(super::opens(path, libc::O_RDONLY), 0, "{path}");
        }
        for path in ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1"] {
            assert_eq!(super::opens(path, libc::O_WRONLY), libc::EACCES, "{path}");
        }
        let pid = std::process::id().to_string();
        let owner = |path: &str| fs::metadata(path).map(|stat| (stat.uid(), stat.gid())).expect("a process");
        assert_eq!(owner(&format!("/proc/{pid}")), (1000, 50));
        std::env::set_current_dir("/proc").expect("chdir");
        assert_eq!((owner(&pid), owner(&root)), ((1000, 50), (0, 0)));
    });
    let child = super::spawn(1000, 50, &[], || {
        be_seen();
        std::thread::sleep(std::time::Duration::from_secs(1));
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::env::set_current_dir("/proc").expect("chdir");
    let stat = fs::metadata(child.to_string()).expect("a process");
    assert_eq!((stat.uid(), stat.gid()), (1000, 50));
    assert_eq!(
        super::opens(&format!("/proc/{child}/environ"), libc::O_RDONLY),
        libc::EACCES,
        "root may not look into it"
    );
    assert_eq!(super::wait(child), 0);
}
