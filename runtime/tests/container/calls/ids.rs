//! Who a process is and becomes.

use std::fs;

use super::{Inside, as_user, c, dir, errno, file, spawn, wait};

pub const INSIDE: &[Inside] = &[("ids", ids), ("programs", programs), ("signals", signals), ("whoami", whoami)];

const DOCKER: u64 = 0xa804_25fb;

/// Real, effective and saved user, and the same of the group.
fn now() -> ([u32; 3], [u32; 3]) {
    let (mut uid, mut gid) = ([0; 3], [0; 3]);
    // SAFETY: the numbers outlive the calls.
    unsafe {
        libc::getresuid(&raw mut uid[0], &raw mut uid[1], &raw mut uid[2]);
        libc::getresgid(&raw mut gid[0], &raw mut gid[1], &raw mut gid[2]);
        assert_eq!((libc::getuid(), libc::geteuid()), (uid[0], uid[1]));
        assert_eq!((libc::getgid(), libc::getegid()), (gid[0], gid[1]));
    }
    (uid, gid)
}

fn groups() -> Vec<u32> {
    let mut list = vec![0; 100];
    // SAFETY: there is room for 100.
    let count = unsafe { libc::getgroups(100, list.as_mut_ptr()) };
    list.truncate(usize::try_from(count).expect("a count"));
    list
}

/// Effective, permitted, inheritable and bounding capabilities, as /proc tells them.
fn caps() -> [u64; 4] {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    ["CapEff", "CapPrm", "CapInh", "CapBnd"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("a number")
    })
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> i32 {
    let header = [0x2008_0522u32, 0];
    let low = |set: u64| (set & 0xffff_ffff) as u32;
    let data = [low(effective), low(permitted), low(inheritable), 0, 0, 0];
    // SAFETY: both are as long as this version has it.
    errno(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

fn prctl(option: i32, argument: u64) -> i64 {
    // SAFETY: none of the options used here takes an address.
    let result = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    if result < 0 { -i64::from(errno(result)) } else { result.into() }
}

fn ids() {
    assert_eq!(now(), ([0; 3], [0; 3]));
    assert_eq!(caps(), [DOCKER, DOCKER, 0, DOCKER]);
    let keep = u32::MAX;
    // SAFETY: numbers only, but for the list of groups, which outlives the call.
    unsafe {
        as_user(0, 0, &[27, 4, 9], || {
            assert_eq!(groups(), [4, 9, 27]);
            assert_eq!(errno(libc::getgroups(1, std::ptr::null_mut())), libc::EINVAL);
            assert_eq!(libc::getgroups(0, std::ptr::null_mut()), 3);
            assert_eq!(errno(libc::setresuid(1, 2, 3)), 0);
            assert_eq!(now().0, [1, 2, 3]);
            assert_eq!(caps(), [0, 0, 0, DOCKER]);
            assert_eq!(errno(libc::setresuid(3, 1, keep)), 0);
            assert_eq!(now().0, [3, 1, 3]);
            for error in [
                errno(libc::setresuid(0, keep, keep)),
                errno(libc::setuid(0)),
                errno(libc::setreuid(keep, 0)),
                errno(libc::setgroups(0, std::ptr::null())),
                errno(libc::setgid(5)),
            ] {
                assert_eq!(error, libc::EPERM);
            }
        });
        as_user(0, 0, &[], || {
            assert_eq!(errno(libc::seteuid(1000)), 0);
            assert_eq!((now().0, caps()), ([0, 1000, 0], [0, DOCKER, 0, DOCKER]));
            assert_eq!(errno(libc::seteuid(0)), 0);
            assert_eq!(caps()[0], DOCKER);
            assert_eq!(errno(libc::setreuid(1000, 1001)), 0);
            assert_eq!(now().0, [1000, 1001, 1001]);
        });
        as_user(0, 0, &[], || {
            assert_eq!((libc::setfsuid(1000), libc::setfsuid(keep), libc::setfsgid(50)), (0, 1000, 0));
            let status = fs::read_to_string("/proc/self/status").expect("a status");
            assert!(status.contains("Uid:\t0\t0\t0\t1000\nGid:\t0\t0\t0\t50\n"), "{status}");
        });
        as_user(0, 0, &[], || {
            assert_eq!(prctl(libc::PR_SET_KEEPCAPS, 1), 0);
            assert_eq!(errno(libc::setresuid(1000, 1000, 1000)), 0);
            assert_eq!((caps()[..2].to_vec(), prctl(libc::PR_GET_KEEPCAPS, 0)), (vec![0, DOCKER], 1));
            assert_eq!(capset(1 << 7, 1 << 7, 0), 0);
            assert_eq!(errno(libc::setresuid(5, 5, 5)), 0, "with CAP_SETUID");
            assert_eq!(capset(1, 1, 0), libc::EPERM);
        });
        as_user(0, 0, &[], || {
            assert_eq!(prctl(libc::PR_CAPBSET_READ, 1), 1);
            assert_eq!(prctl(libc::PR_CAPBSET_DROP, 1), 0);
            assert_eq!(prctl(libc::PR_CAPBSET_READ, 1), 0);
            assert_eq!(prctl(libc::PR_CAPBSET_READ, 63), -i64::from(libc::EINVAL));
            assert_eq!(caps()[3], DOCKER & !2);
            assert_eq!(prctl(libc::PR_GET_SECUREBITS, 0), 0);
            assert_eq!(prctl(libc::PR_SET_SECUREBITS, 4), 0);
            assert_eq!(errno(libc::setresuid(1000, 1000, 1000)), 0);
            assert_eq!(caps()[0], DOCKER);
        });
    }
    as_user(1000, 1001, &[4], || {
        let status = fs::read_to_string("/proc/thread-self/status").expect("a status");
        assert!(status.contains("Uid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\n"), "{status}");
        assert!(status.contains("Groups:\t4 \n"), "{status}");
        assert_eq!(prctl(libc::PR_CAPBSET_DROP, 1), -i64::from(libc::EPERM));
    });
    limits();
}

/// The limit that says who a process is can be set by nobody.
fn limits() {
    as_user(1000, 1000, &[], || {
        let zero = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        let mut seen = zero;
        // SAFETY: both limits outlive the calls.
        unsafe {
            assert_eq!(errno(libc::prlimit64(0, libc::RLIMIT_LOCKS, &raw const zero, &raw mut seen)), 0);
            assert_eq!(seen.rlim_cur, libc::RLIM64_INFINITY);
            assert_eq!(errno(libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_LOCKS, &raw const zero, 0)), 0);
        }
        assert_eq!(now().0, [1000; 3]);
    });
}

/// What a program says of itself: effective user and group, permitted capabilities.
fn whoami() {
    let ([_, uid, _], [_, gid, _]) = now();
    println!("{uid} {gid} {:x}", caps()[1]);
}

/// Returns what [`whoami`] says in `program` when this user executes it.
fn executed(program: &str, uid: u32, before: impl FnOnce()) -> String {
    let out = format!("{program}.out");
    file(&out, uid, 0, 0o666);
    fs::write(&out, "").expect("empties");
    as_user(uid, uid, &[], || {
        before();
        let output = fs::File::options().write(true).open(&out).expect("opens");
        rustix::stdio::dup2_stdout(&output).expect("dup2");
        let args = ["program", "--calls", "whoami"].map(c);
        let list = [args[0].as_ptr(), args[1].as_ptr(), args[2].as_ptr(), std::ptr::null()];
        // SAFETY: a list of strings that ends with null.
        let error = errno(unsafe { libc::execv(c(program).as_ptr(), list.as_ptr()) });
        panic!("{program}: {error}");
    });
    fs::read_to_string(out).expect("an output").trim().into()
}

fn programs() {
    let copy = |name: &str, uid, gid, mode| {
        fs::copy("/opt/calls", name).expect("copies");
        super::give(name, uid, gid, mode);
    };
    copy("plain", 0, 0, 0o755);
    assert_eq!(executed("./plain", 1000, || ()), "1000 1000 0");
    copy("group", 7, 50, 0o2755);
    assert_eq!(executed("./group", 1000, || ()), "1000 50 0");
    copy("no-group", 7, 50, 0o2745);
    assert_eq!(executed("./no-group", 7, || ()), "7 7 0", "without x there is no setgid");
    copy("other", 7, 50, 0o4755);
    assert_eq!(executed("./other", 1000, || ()), "7 1000 0");
    assert_eq!(executed("./plain", 0, || ()), "0 0 a80425fb");
    assert_eq!(executed("./other", 1000, || assert_eq!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1), 0)), "1000 1000 0");
    // The bits of a script do not count.
    fs::write("script", "#!/bin/sh\nexec /opt/calls \"$@\"\n").expect("writes");
    super::give("script", 7, 50, 0o6755);
    assert_eq!(executed("./script", 1000, || ()), "1000 1000 0");
    // CAP_NET_RAW, permitted and effective.
    copy("raw", 0, 0, 0o755);
    let value: Vec<u8> = [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr("raw", "security.capability", &value, rustix::fs::XattrFlags::empty()).expect("setxattr");
    assert_eq!(executed("./raw", 1000, || ()), "1000 1000 2000");
    let mut read = [0; 64];
    let length = rustix::fs::getxattr("raw", "security.capability", &mut read[..]).expect("getxattr");
    assert_eq!(read[..length], value);
    // A change of owner takes it away.
    std::os::unix::fs::chown("raw", Some(5), None).expect("chown");
    assert_eq!(executed("./raw", 1000, || ()), "1000 1000 0");
    as_user(1000, 1000, &[], || {
        let set = rustix::fs::setxattr("raw", "security.capability", &value, rustix::fs::XattrFlags::empty());
        assert_eq!(set, Err(rustix::io::Errno::PERM));
    });
    // Who may not execute it.
    copy("closed", 0, 0, 0o700);
    dir("private", 0, 0, 0o700);
    copy("private/program", 0, 0, 0o755);
    fs::write("closed-script", format!("#!{}/closed\n", std::env::current_dir().expect("a directory").display()))
        .expect("writes");
    super::give("closed-script", 0, 0, 0o755);
    as_user(1000, 1000, &[], || {
        for program in ["./closed", "./private/program", "/tmp", "./closed-script"] {
            let args = [c(program)];
            let list = [args[0].as_ptr(), std::ptr::null()];
            // SAFETY: a list of strings that ends with null.
            assert_eq!(errno(unsafe { libc::execv(list[0], list.as_ptr()) }), libc::EACCES, "{program}");
        }
    });
}

fn pidfd(pid: i32) -> Result<i32, i32> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 { Err(errno(fd)) } else { Ok(i32::try_from(fd).expect("a descriptor")) }
}

fn by_pidfd(fd: i32, signal: i32) -> i32 {
    // SAFETY: numbers only, and no address.
    errno(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0, 0) })
}

/// The folder of a process in /proc is as good as a pidfd. `None` where processes have other numbers there.
fn by_directory(pid: i32, signal: i32) -> Option<i32> {
    let own = fs::read_link("/proc/self").expect("a link");
    let dir = fs::File::open(format!("/proc/{pid}"));
    let is_here = own.to_str() == Some(&std::process::id().to_string());
    is_here.then(|| by_pidfd(std::os::fd::AsRawFd::as_raw_fd(&dir.expect("a process")), signal))
}

/// Asks for a limit of a process.
fn limit(pid: i32, which: libc::__rlimit_resource_t) -> i32 {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    errno(unsafe { libc::prlimit64(pid, which, std::ptr::null(), &raw mut old) })
}

fn signals() {
    let sleeper = |uid| spawn(uid, uid, &[], || std::thread::sleep(std::time::Duration::from_secs(100)));
    let (roots, ours, others) = (sleeper(0), sleeper(1000), sleeper(1001));
    // A process is who it is soon after it was made.
    while fs::read_to_string(format!("/proc/{others}/status")).is_ok_and(|text| text.contains("Uid:\t0"))
        && fs::exists(format!("/proc/{others}")).unwrap_or(false)
    {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    as_user(1000, 1000, &[], || {
        // SAFETY: numbers only.
        unsafe {
            for pid in [roots, others, libc::getppid()] {
                assert_eq!(errno(libc::kill(pid, 0)), libc::EPERM, "{pid}");
                assert_eq!(errno(libc::syscall(libc::SYS_tkill, pid, libc::SIGKILL)), libc::EPERM);
                assert_eq!(errno(libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGKILL)), libc::EPERM);
            }
            for pid in [roots, others, libc::getppid()] {
                let fd = pidfd(pid).expect("everybody may");
                assert_eq!(by_pidfd(fd, libc::SIGKILL), libc::EPERM, "{pid}");
                assert!(by_directory(pid, libc::SIGKILL).is_none_or(|error| error == libc::EPERM), "{pid}");
                assert_eq!(limit(pid, libc::RLIMIT_CORE), libc::EPERM, "{pid}");
                assert_eq!(limit(pid, libc::RLIMIT_LOCKS), libc::EPERM, "{pid}");
            }
            assert_eq!(errno(libc::kill(99999, 0)), libc::ESRCH);
            assert_eq!((pidfd(99999).err(), limit(99999, libc::RLIMIT_CORE)), (Some(libc::ESRCH), libc::ESRCH));
            assert_eq!((pidfd(-5).err(), limit(-5, libc::RLIMIT_CORE)), (Some(libc::EINVAL), libc::ESRCH));
            assert_eq!(errno(libc::kill(ours, 0)), 0);
            for pid in [ours, libc::getpid()] {
                assert_eq!(by_pidfd(pidfd(pid).expect("ours"), 0), 0);
                assert_eq!(by_directory(pid, 0).unwrap_or(0), 0);
                assert_eq!((limit(pid, libc::RLIMIT_CORE), limit(pid, libc::RLIMIT_LOCKS)), (0, 0));
            }
            assert_eq!((by_pidfd(999, 0), by_pidfd(0, 0)), (libc::EBADF, libc::EBADF));
            assert_eq!(errno(libc::kill(libc::getpid(), 0)), 0);
            assert_eq!(errno(libc::kill(-1, libc::SIGTERM)), 0);
        }
    });
    assert_eq!(wait(ours), -libc::SIGTERM);
    // SAFETY: numbers only.
    unsafe {
        // Of its own group, and by a signal without a name.
        as_user(0, 0, &[], || {
            let (realtime, mut set) = (libc::SIGRTMIN() + 3, std::mem::zeroed());
            libc::sigaddset(&raw mut set, realtime);
            assert_eq!(errno(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())), 0);
            assert_eq!(errno(libc::setpgid(0, 0)), 0);
            assert_eq!(errno(libc::kill(0, realtime)), 0);
            assert_eq!(libc::sigpending(&raw mut set), 0);
            assert_eq!(libc::sigismember(&raw const set, realtime), 1);
        });
        assert_eq!(errno(libc::kill(-1, 65)), libc::EINVAL);
        for pid in [roots, others] {
            assert_eq!(errno(libc::kill(pid, libc::SIGKILL)), 0);
            assert_eq!(wait(pid), -libc::SIGKILL);
        }
    }
}
