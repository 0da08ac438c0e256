//! Owners of files.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

use super::{Inside, as_user, c, dir, errno, file, mode, owner};

pub const INSIDE: &[Inside] = &[
    ("owners", owners),
    ("creation", creation),
    ("attributes", attributes),
    ("roots", roots),
    ("writes", writes),
    ("programs by /proc", by_proc),
    ("links into /proc", links_into_proc),
    ("nothing", || {}),
];

fn chown(path: &str, uid: u32, gid: u32) -> i32 {
    // SAFETY: the path ends with NUL.
    errno(unsafe { libc::chown(c(path).as_ptr(), uid, gid) })
}

fn owners() {
    let keep = u32::MAX;
    file("f", 1000, 50, 0o644);
    assert_eq!(owner("f"), (1000, 50));
    assert_eq!(chown("f", 7, keep), 0);
    assert_eq!(chown("f", keep, 8), 0);
    assert_eq!(owner("f"), (7, 8));
    let open = fs::File::open("f").expect("opens");
    assert_eq!((open.metadata().expect("fstat").uid(), open.metadata().expect("fstat").gid()), (7, 8));
    let statx = rustix::fs::statx(&open, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::BASIC_STATS).expect("statx");
    assert_eq!((statx.stx_uid, statx.stx_gid), (7, 8));
    rustix::fs::fchown(&open, Some(rustix::fs::Uid::from_raw(9)), None).expect("fchown");
    assert_eq!(owner("f"), (9, 8));
    // The owner goes with the file, and with it alone.
    fs::rename("f", "g").expect("rename");
    fs::hard_link("g", "h").expect("link");
    assert_eq!((owner("g"), owner("h")), ((9, 8), (9, 8)));
    assert_eq!(chown("h", 77, 78), 0);
    assert_eq!(owner("g"), (77, 78));
    for _ in 0..5 {
        file("again", 77, 77, 0o644);
        fs::remove_file("again").expect("unlink");
        fs::write("again", "").expect("writes");
        assert_eq!(owner("again"), (0, 0));
        fs::remove_file("again").expect("unlink");
        symlink("x", "again").expect("symlink");
        lchown("again", Some(77), Some(77)).expect("lchown");
        assert_eq!(owner("again"), (77, 77));
        fs::remove_file("again").expect("unlink");
        symlink("x", "again").expect("symlink");
        assert_eq!(owner("again"), (0, 0));
        fs::remove_file("again").expect("unlink");
    }
    // Of a link, and of what it leads to.
    symlink("g", "link").expect("symlink");
    lchown("link", Some(1), Some(2)).expect("lchown");
    assert_eq!(chown("link", 3, 4), 0);
    assert_eq!((owner("link"), owner("g")), ((1, 2), (3, 4)));
    fs::rename("link", "moved").expect("rename");
    assert_eq!(owner("moved"), (1, 2));
    // Whether a fifo, which carries nothing, keeps it.
    rustix::fs::mknodat(CWD, "fifo", rustix::fs::FileType::Fifo, Mode::from(0o644), 0).expect("mkfifo");
    assert_eq!(chown("fifo", 5, 6), 0);
    fs::set_permissions("fifo", std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    assert_eq!((owner("fifo"), mode("fifo")), ((5, 6), 0o600));
    // Bits that do not outlive a change.
    file("suid", 0, 0, 0o6755);
    assert_eq!(chown("suid", 1000, keep), 0);
    assert_eq!(mode("suid"), 0o755);
    dir("sgid", 0, 50, 0o2755);
    assert_eq!(chown("sgid", 1000, keep), 0);
    assert_eq!((mode("sgid"), owner("sgid")), (0o2755, (1000, 50)));
    // Who may.
    file("theirs", 0, 50, 0o666);
    file("ours", 1000, 60, 0o6755);
    as_user(1000, 50, &[7], || {
        for (path, uid, gid, expected) in [
            ("theirs", 1000, keep, libc::EPERM),
            ("theirs", keep, 50, libc::EPERM),
            ("ours", 0, keep, libc::EPERM),
            ("ours", keep, 8, libc::EPERM),
            ("ours", 1000, 7, 0),
            ("ours", keep, 50, 0),
            ("missing", 1000, 50, libc::ENOENT),
            ("ours/x", 1000, 50, libc::ENOTDIR),
        ] {
            assert_eq!(chown(path, uid, gid), expected, "{path} {uid} {gid}");
        }
        assert_eq!((owner("ours"), mode("ours")), ((1000, 50), 0o755));
    });
    // SAFETY: numbers and strings that end with NUL.
    unsafe {
        assert_eq!(errno(libc::fchown(99, 0, 0)), libc::EBADF);
        assert_eq!(errno(libc::fchownat(99, c("g").as_ptr(), 0, 0, 0)), libc::EBADF);
        assert_eq!(errno(libc::fchownat(99, c("/tmp/missing").as_ptr(), 0, 0, 0)), libc::ENOENT);
        assert_eq!(errno(libc::fchownat(libc::AT_FDCWD, c("g").as_ptr(), 0, 0, 0x40)), libc::EINVAL);
        assert_eq!(errno(libc::fchownat(open.as_raw_fd(), c("").as_ptr(), 11, 12, libc::AT_EMPTY_PATH)), 0);
    }
    assert_eq!(owner("g"), (11, 12));
    assert_eq!(chown("g", 0, 0), 0);
    assert_eq!(owner("g"), (0, 0));
}

fn creation() {
    dir("shared", 0, 50, 0o2777);
    dir("shared/sub", 0, 0, 0o777);
    as_user(1000, 1001, &[50], || {
        fs::write("file", "").expect("open");
        fs::create_dir("dir").expect("mkdir");
        symlink("x", "link").expect("symlink");
        rustix::fs::mknodat(CWD, "fifo", rustix::fs::FileType::Fifo, Mode::from(0o666), 0).expect("mkfifo");
        rustix::fs::mknodat(CWD, "node", rustix::fs::FileType::RegularFile, Mode::from(0o666), 0).expect("mknod");
        let _socket = UnixListener::bind("socket").expect("bind");
        for name in ["file", "dir", "link", "fifo", "node", "socket"] {
            assert_eq!(owner(name), (1000, 1001), "{name}");
        }
        assert_eq!((mode("file"), mode("dir"), mode("fifo"), mode("socket")), (0o644, 0o755, 0o644, 0o755));
        // SAFETY: a number only.
        unsafe { libc::umask(0o077) };
        fs::write("quiet", "").expect("open");
        assert_eq!(mode("quiet"), 0o600);
        // The group of a setgid directory.
        fs::write("shared/file", "").expect("open");
        fs::create_dir("shared/dir").expect("mkdir");
        symlink("x", "shared/link").expect("symlink");
        for name in ["shared/file", "shared/dir", "shared/link"] {
            assert_eq!(owner(name), (1000, 50), "{name}");
        }
        assert_eq!(mode("shared/dir"), 0o2700);
        // Through a link, which need not lead anywhere yet.
        symlink("shared/new", "dangling").expect("symlink");
        fs::write("dangling", "").expect("open");
        assert_eq!(owner("shared/new"), (1000, 50));
        symlink("/tmp/calls/shared/sub/new", "absolute").expect("symlink");
        fs::write("absolute", "").expect("open");
        assert_eq!(owner("shared/sub/new"), (1000, 1001));
        assert_eq!(super::opens("dangling2", libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY), 0);
        assert_eq!(super::opens("dangling", libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY), libc::EEXIST);
        assert_eq!(super::opens("dangling", libc::O_CREAT | libc::O_NOFOLLOW | libc::O_WRONLY), libc::ELOOP);
        assert_eq!(super::opens("new/", libc::O_CREAT | libc::O_WRONLY), libc::EISDIR);
        assert_eq!(super::opens("dir", libc::O_CREAT | libc::O_WRONLY), libc::EISDIR);
        unnamed();
        let within = rustix::fs::openat2(
            CWD,
            "shared/../resolved",
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::from(0o640),
            ResolveFlags::BENEATH,
        );
        drop(within.expect("openat2"));
        let in_root = |path: &str, flags: OFlags| {
            let dir = fs::File::open("shared").expect("opens");
            let mode = if flags.contains(OFlags::CREATE) { Mode::from(0o644) } else { Mode::empty() };
            rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT).map(drop)
        };
        assert_eq!(in_root("/../../sub/inside", OFlags::CREATE | OFlags::WRONLY), Ok(()));
        assert_eq!(owner("shared/sub/inside"), (1000, 1001));
        assert_eq!(in_root("/sub/inside", OFlags::RDONLY), Ok(()));
        assert_eq!(in_root("/etc/passwd", OFlags::RDONLY), Err(rustix::io::Errno::NOENT));
        assert_eq!((owner("resolved"), mode("resolved")), ((1000, 1001), 0o600));
        // It is open as asked for.
        let made =
            fs::File::options().create_new(true).append(true).read(true).mode(0o400).open("flags").expect("open");
        assert_eq!(mode("flags"), 0o400);
        assert!(rustix::io::fcntl_getfd(&made).expect("fcntl").contains(rustix::io::FdFlags::CLOEXEC));
        assert!(rustix::fs::fcntl_getfl(&made).expect("fcntl").contains(OFlags::APPEND | OFlags::RDWR));
    });
    // Root in a directory that gives its group away, and one that does not.
    fs::write("shared/roots", "").expect("open");
    fs::write("roots", "").expect("open");
    symlink("shared/roots2", "to-shared").expect("symlink");
    fs::write("to-shared", "").expect("open");
    assert_eq!((owner("shared/roots"), owner("roots"), owner("shared/roots2")), ((0, 50), (0, 0), (0, 50)));
    as_user(0, 0, &[], || {
        // SAFETY: a number only.
        unsafe { libc::setfsuid(33) };
        fs::write("by-fsuid", "").expect("open");
        assert_eq!(owner("by-fsuid"), (33, 0));
    });
}

/// A file without a name gets one later.
fn unnamed() {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(CWD, ".", flags, Mode::from(0o600)) {
        Ok(file) => file,
        // Overlayfs has them since 6.3.
        Err(rustix::io::Errno::OPNOTSUPP) => return,
        Err(error) => panic!("O_TMPFILE: {error}"),
    };
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, &*name, CWD, "named", AtFlags::SYMLINK_FOLLOW).expect("linkat");
    assert_eq!(owner("named"), (1000, 1001));
}

fn attributes() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
    use rustix::io::Errno as E;
    file("f", 1000, 50, 0o644);
    setxattr("f", "user.test", b"x", XattrFlags::empty()).expect("setxattr");
    let mut room = [0; 256];
    let names = |room: &mut [u8]| listxattr("f", &mut *room).map(|length| room[..length].to_vec());
    assert_eq!(names(&mut room).expect("listxattr"), b"user.test\0");
    assert_eq!(rustix::fs::listxattr_query("f").expect("listxattr"), 10);
    assert_eq!(names(&mut room[..3]), Err(E::RANGE));
    let ours = "user.coracle.file";
    assert_eq!(getxattr("f", ours, &mut room[..]), Err(E::NODATA));
    assert_eq!(owner("f"), (1000, 50));
    assert_eq!(setxattr("f", ours, b"5:5", XattrFlags::empty()), Err(E::PERM));
    assert_eq!(removexattr("f", ours), Err(E::NODATA));
    assert_eq!(owner("f"), (1000, 50));
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let nobody = u32::MAX;
    let base =
        [entry(1, 6, nobody), entry(2, 6, 1000), entry(4, 4, nobody), entry(16, 6, nobody), entry(32, 4, nobody)];
    file("listed", 0, 0, 0o644);
    let list = [vec![2, 0, 0, 0], base.concat()].concat();
    assert_eq!(setxattr("listed", "system.posix_acl_access", &list, XattrFlags::empty()), Ok(()));
    assert_eq!(mode("listed"), 0o664, "that of the mask");
    // Linux 6.13 has it by a descriptor and a structure, too.
    file("listed at", 0, 0, 0o644);
    let (path, name) = (c("listed at"), c("system.posix_acl_access"));
    let value = (list.as_ptr() as u64, u32::try_from(list.len()).expect("short"), 0u32);
    // SAFETY: what is pointed to outlives the call.
    let set =
        errno(unsafe { libc::syscall(463, libc::AT_FDCWD, path.as_ptr(), 0, name.as_ptr(), &raw const value, 16) });
    assert!(set == 0 && mode("listed at") == 0o664 || set == libc::ENOSYS, "{set}");
    dir("sticky", 0, 0, 0o1777);
    file("closed", 0, 0, 0o600);
    setxattr("closed", "user.test", b"x", XattrFlags::empty()).expect("setxattr");
    as_user(1000, 50, &[], || {
        assert_eq!(setxattr("f", "user.own", b"y", XattrFlags::empty()), Ok(()));
        assert_eq!(getxattr("closed", "user.test", &mut room[..]), Err(E::ACCESS));
        assert_eq!(setxattr("closed", "user.test", b"y", XattrFlags::empty()), Err(E::ACCESS));
        assert_eq!(setxattr("f", "security.test", b"y", XattrFlags::empty()), Err(E::PERM));
        assert_eq!(setxattr("sticky", "user.test", b"y", XattrFlags::empty()), Err(E::PERM));
        let keep = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let neither = rustix::fs::Timestamps { last_access: keep, last_modification: keep };
        for path in ["closed", "nowhere/at/all"] {
            assert_eq!(rustix::fs::utimensat(CWD, path, &neither, AtFlags::empty()), Ok(()), "{path}");
        }
    });
}

/// A file that is written to is no setuid program any more, whoever writes.
fn writes() {
    for (uid, mode, kept) in [(0, 0o6755, 0o755), (1000, 0o6755, 0o755), (0, 0o4711, 0o711), (0, 0o2711, 0o711)] {
        for truncates in [false, true] {
            let _ = fs::remove_file("program");
            file("program", uid, uid, mode);
            as_user(uid, uid, &[], || {
                let mut options = fs::File::options();
                let mut file =
                    options.append(!truncates).write(true).truncate(truncates).open("program").expect("opens");
                std::io::Write::write_all(&mut file, b"more").expect("writes");
            });
            assert_eq!(super::mode("program"), kept, "{uid} {mode:o} {truncates}");
        }
    }
    // A setgid bit that root gives stays.
    file("setgid", 0, 50, 0o2755);
    assert_eq!(mode("setgid"), 0o2755);
}

/// Programs are executed by paths of /proc: by themselves, and by shells that find no `#!`.
/// The directory that such a link leads to is that of who asks.
fn links_into_proc() {
    fs::create_dir("home").expect("mkdir");
    symlink("/proc/self/cwd", "here").expect("symlink");
    // There is an owner to be looked for.
    symlink("x", "owned").expect("symlink");
    lchown("owned", Some(1000), Some(1000)).expect("lchown");
    let here = std::env::current_dir().expect("a directory").join("here");
    std::env::set_current_dir("home").expect("chdir");
    symlink("a", here.join("link")).expect("symlink");
    rustix::fs::mknodat(CWD, here.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    // In a chroot there is no such way for the kernel, which would rename it.
    if !super::is_in_chroot() {
        fs::rename(here.join("link"), here.join("other")).expect("rename");
        fs::rename("other", "link").expect("is here");
    }
    assert_eq!(fs::read_link("link").expect("a link").to_str(), Some("a"));
    assert_eq!((owner("link"), owner("pipe")), ((0, 0), (0, 0)));
    std::env::set_current_dir("..").expect("chdir");
}

fn by_proc() {
    use std::process::{Command, Stdio};
    fs::write("script", "echo ran").expect("writes");
    fs::set_permissions("script", std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let start = |command: &mut Command| command.stdout(Stdio::piped()).spawn().expect("starts");
    let shells: Vec<_> = (0..10).map(|_| start(Command::new("/bin/sh").args(["-c", "./script"]))).collect();
    let itself: Vec<_> = (0..10).map(|_| start(Command::new("/proc/self/exe").args(["--calls", "nothing"]))).collect();
    for (children, expected) in [(shells, "ran\n"), (itself, "")] {
        for child in children {
            let output = child.wait_with_output().expect("a child");
            assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), expected));
        }
    }
    if super::is_in_chroot() {
        let mut relative = Command::new("self/exe");
        let status = relative.args(["--calls", "nothing"]).current_dir("/proc").status();
        assert!(status.expect("starts").success());
    }
    let missing = Command::new("/proc/self/missing").status().expect_err("is not there");
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    // Files by their descriptors, as C libraries change the mode of what may be a link.
    let opened = fs::File::create("by-descriptor").expect("opens");
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o604)).expect("chmod");
    // SAFETY: the path ends with NUL.
    assert_eq!(errno(unsafe { libc::truncate(c(&path).as_ptr(), 1234) }), 0);
    let time = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, &*path, &times, AtFlags::empty()).expect("utimensat");
    let found = fs::metadata("by-descriptor").expect("is there");
    assert_eq!((found.mode() & 0o777, found.size(), found.mtime()), (0o604, 1234, 5));
    // All that is there is what is really there.
    assert!(fs::read_link("/proc/self/exe").expect("a link").ends_with("calls"));
    assert!(fs::exists("/proc/self/status").expect("a /proc"));
    as_user(1000, 1000, &[], || {
        assert!(Command::new("/proc/self/exe").args(["--calls", "nothing"]).status().expect("starts").success());
    });
}

fn roots() {
    dir("root", 0, 0, 0o755);
    dir("root/etc", 0, 0, 0o755);
    file("root/etc/f", 1000, 50, 0o640);
    symlink("/etc/f", "root/link").expect("symlink");
    symlink("../../../etc/f", "root/etc/up").expect("symlink");
    as_user(1000, 1000, &[], || {
        // SAFETY: the path ends with NUL.
        assert_eq!(errno(unsafe { libc::chroot(c("root").as_ptr()) }), libc::EPERM);
    });
    let before = OwnedFd::from(fs::File::open("/tmp/calls").expect("opens"));
    as_user(0, 0, &[], || {
        // SAFETY: the path ends with NUL.
        assert_eq!(errno(unsafe { libc::chroot(c("root").as_ptr()) }), 0);
        std::env::set_current_dir("/").expect("chdir");
        for path in ["/etc/f", "link", "/link", "etc/up", "/../etc/f"] {
            let stat = fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!((stat.uid(), stat.gid()), (1000, 50), "{path}");
        }
        assert_eq!(chown("/link", 7, 8), 0);
        assert_eq!(owner("/etc/f"), (7, 8));
        fs::write("/etc/new", "").expect("open");
        assert_eq!(chown("/etc/new", 9, 9), 0);
        // A handle of the outside leads there.
        let stat = rustix::fs::statat(&before, "root/etc/new", AtFlags::empty()).expect("fstatat");
        assert_eq!(stat.st_uid, 9);
        // SAFETY: numbers only.
        unsafe { assert_eq!(errno(libc::setresuid(1000, 1000, 1000)), 0) };
        assert_eq!(super::opens("/etc/f", libc::O_RDONLY), libc::EACCES);
        assert_eq!(super::opens("link", libc::O_RDONLY), libc::EACCES);
        assert_eq!(super::opens("/etc/new", libc::O_RDONLY), 0);
    });
    assert_eq!((owner("root/etc/f"), owner("root/etc/new")), ((7, 8), (9, 9)));
    // SAFETY: a copy of a descriptor that this process owns.
    drop(unsafe { OwnedFd::from_raw_fd(libc::dup(before.as_raw_fd())) });
}
