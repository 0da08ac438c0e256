//! Arguments that make no sense, and names that change while they are looked at.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Inside, as_user, c, errno, file, opens, owner};

pub const INSIDE: &[Inside] = &[("nonsense", nonsense), ("races", races)];

/// An address that no process has.
const NOWHERE: *const libc::c_char = 16 as *const libc::c_char;

fn nonsense() {
    file("f", 1000, 50, 0o644);
    for uid in [0, 1000] {
        as_user(uid, uid, &[], || {
            // SAFETY: the kernel checks every address that it is given.
            unsafe {
                let at = libc::AT_FDCWD;
                for (name, error) in [
                    ("open", errno(libc::open(NOWHERE, 0))),
                    ("creat", errno(libc::open(NOWHERE, libc::O_CREAT | libc::O_WRONLY, 0))),
                    ("stat", errno(libc::syscall(libc::SYS_newfstatat, at, NOWHERE, NOWHERE, 0))),
                    ("stat of a file", errno(libc::syscall(libc::SYS_newfstatat, at, c("f").as_ptr(), NOWHERE, 0))),
                    ("statx", errno(libc::syscall(libc::SYS_statx, at, c("f").as_ptr(), 0, 0xfff, NOWHERE))),
                    ("chown", errno(libc::chown(NOWHERE, 0, 0))),
                    ("mkdir", errno(libc::mkdir(NOWHERE, 0))),
                    ("symlink", errno(libc::symlink(NOWHERE, c("x").as_ptr()))),
                    ("execve", errno(libc::syscall(libc::SYS_execve, NOWHERE, 0, 0))),
                    ("openat2", errno(libc::syscall(libc::SYS_openat2, at, c("f").as_ptr(), NOWHERE, 24))),
                    ("getresuid", errno(libc::syscall(libc::SYS_getresuid, NOWHERE, NOWHERE, NOWHERE))),
                    ("setxattr", errno(libc::setxattr(c("f").as_ptr(), NOWHERE, std::ptr::null(), 0, 0))),
                    ("bind", errno(libc::bind(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), NOWHERE.cast(), 20))),
                    ("capset", errno(libc::syscall(libc::SYS_capset, NOWHERE, NOWHERE))),
                ] {
                    assert_eq!(error, libc::EFAULT, "{name} as {uid}");
                }
                // The last page before one that is not there.
                let page = libc::mmap(
                    std::ptr::null_mut(),
                    8192,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
                .cast::<u8>();
                libc::munmap(page.add(4096).cast(), 4096);
                page.add(4094).copy_from(c"f".as_ptr().cast(), 2);
                assert_eq!(errno(libc::access(page.add(4094).cast(), libc::F_OK)), 0);
                let mut stat: libc::stat = std::mem::zeroed();
                assert_eq!(errno(libc::stat(page.add(4094).cast(), &raw mut stat)), 0);
                assert_eq!(stat.st_uid, 1000);
                page.add(4095).write(b'x');
                assert_eq!(errno(libc::stat(page.add(4094).cast(), &raw mut stat)), libc::EFAULT);
                assert_eq!(errno(libc::fchown(-1, 0, 0)), libc::EBADF);
                assert_eq!(errno(libc::fstat(-1, &raw mut stat)), libc::EBADF);
                assert_eq!(errno(libc::fstatat(99, c("f").as_ptr(), &raw mut stat, 0)), libc::EBADF);
                assert_eq!(
                    errno(libc::setgroups(1 << 20, std::ptr::null())),
                    if uid == 0 { libc::EINVAL } else { errno(libc::setgroups(1 << 20, std::ptr::null())) }
                );
            }
            for (path, expected) in [
                (String::new(), libc::ENOENT),
                ("x".repeat(256), libc::ENAMETOOLONG),
                ("x/".repeat(2048), libc::ENAMETOOLONG),
                ("./".repeat(2046) + "f", 0),
                ("./".repeat(2047) + "f", 0),
                ("./".repeat(2048) + "f", libc::ENAMETOOLONG),
                ("f/".into(), libc::ENOTDIR),
                ("f/.".into(), libc::ENOTDIR),
                ("../../../../tmp/calls/f".into(), 0),
            ] {
                assert_eq!(opens(&path, libc::O_RDONLY), expected, "{} bytes, {:.20}", path.len(), path);
                let stat = fs::metadata(&path).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
                assert_eq!(stat, expected, "stat of {} bytes, {:.20}", path.len(), path);
            }
        });
    }
    symlink("loop", "loop").expect("symlink");
    symlink("f", "link0").expect("symlink");
    for n in 1..=40 {
        symlink(format!("link{}", n - 1), format!("link{n}")).expect("symlink");
    }
    for uid in [0, 1000] {
        as_user(uid, uid, &[], || {
            assert_eq!(opens("loop", libc::O_RDONLY), libc::ELOOP);
            assert_eq!(opens("link39", libc::O_RDONLY), 0, "forty links");
            assert_eq!(opens("link40", libc::O_RDONLY), libc::ELOOP, "one more");
            assert_eq!(opens("loop/x", libc::O_CREAT | libc::O_WRONLY), libc::ELOOP);
        });
    }
}

/// A directory that is a link every other moment, and files that come and go, while others look.
fn races() {
    super::dir("a", 0, 0, 0o755);
    file("a/f", 1000, 50, 0o644);
    super::dir("b", 0, 0, 0o700);
    file("b/f", 0, 0, 0o600);
    symlink("a", "way").expect("symlink");
    let pids: Vec<i32> = (0..4)
        .map(|_| {
            super::spawn(1000, 50, &[], || {
                for _ in 0..400 {
                    // Either is right; anything else is not.
                    let error = opens("way/f", libc::O_RDONLY);
                    assert!(matches!(error, 0 | libc::EACCES | libc::ENOENT), "{error}");
                    if let Ok(stat) = fs::metadata("way/f") {
                        assert_eq!(std::os::unix::fs::MetadataExt::uid(&stat), 1000);
                    }
                    let _ = fs::write("come-and-go", "");
                    let _ = fs::remove_file("come-and-go");
                }
            })
        })
        .collect();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for target in ["b", "a"] {
                    symlink(target, "next").expect("symlink");
                    fs::rename("next", "way").expect("rename");
                }
            }
        });
        let results: Vec<i32> = pids.into_iter().map(super::wait).collect();
        ended.store(true, Ordering::Relaxed);
        assert_eq!(results, [0; 4]);
    });
    assert_eq!(owner("a/f"), (1000, 50));
}
