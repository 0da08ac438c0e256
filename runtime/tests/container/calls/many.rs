//! Many processes, threads and signals.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode};

use super::{Inside, as_user, errno, owner, spawn, wait};

pub const INSIDE: &[Inside] = &[
    ("forks", forks),
    ("at once", at_once),
    ("interrupted", interrupted),
    ("blocking", blocking),
    ("hang", hang),
    ("cost", cost),
];

fn forks() {
    for round in 0..20u32 {
        let pids: Vec<i32> = (0..50u32)
            .map(|n| {
                let uid = 1 + (round * 50 + n) % 300;
                spawn(uid, uid + 1, &[uid + 2], move || {
                    // SAFETY: numbers only.
                    let own = unsafe { (libc::getuid(), libc::getegid()) };
                    assert_eq!(own, (uid, uid + 1));
                    let path = format!("f{round}-{n}");
                    fs::write(&path, "").expect("open");
                    assert_eq!(owner(&path), (uid, uid + 1));
                })
            })
            .collect();
        assert!(pids.into_iter().all(|pid| wait(pid) == 0), "round {round}");
    }
}

fn at_once() {
    let pids: Vec<i32> = (0..8u32)
        .map(|n| {
            spawn(0, 0, &[], move || {
                super::dir(&format!("d{n}"), 0, 0, 0o755);
                for round in 0..100u32 {
                    let path = format!("d{n}/f");
                    let ids = (1000 + n, round);
                    super::file(&path, ids.0, ids.1, 0o644);
                    std::os::unix::fs::symlink("x", format!("d{n}/l")).expect("symlink");
                    std::os::unix::fs::lchown(format!("d{n}/l"), Some(ids.0), Some(ids.1)).expect("lchown");
                    assert_eq!((owner(&path), owner(&format!("d{n}/l"))), (ids, ids));
                    fs::remove_file(&path).expect("unlink");
                    fs::remove_file(format!("d{n}/l")).expect("unlink");
                }
            })
        })
        .collect();
    assert!(pids.into_iter().all(|pid| wait(pid) == 0));
    // Threads of one process, which is not root.
    as_user(1000, 1000, &[], || {
        std::thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || {
                    for round in 0..50 {
                        let path = format!("t{n}-{round}");
                        fs::write(&path, "").expect("open");
                        assert_eq!(owner(&path), (1000, 1000));
                    }
                });
            }
        });
    });
}

/// A timer fires all the time, as in Go programs: no call is made twice, and none fails with EINTR.
fn interrupted() {
    extern "C" fn nothing(_: libc::c_int) {}
    as_user(1000, 1000, &[], || {
        // SAFETY: a handler that does nothing, and structures that outlive the calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            let often = libc::timeval { tv_sec: 0, tv_usec: 50 };
            let timer = libc::itimerval { it_interval: often, it_value: often };
            assert_eq!(errno(libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut())), 0);
        }
        for n in 0..3000 {
            let path = format!("d{n}");
            rustix::fs::mkdir(&*path, Mode::from(0o755)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(owner(&path), (1000, 1000));
        }
    });
}

/// Opening a fifo waits for the other end; others go on meanwhile.
fn blocking() {
    rustix::fs::mknodat(CWD, "fifo", rustix::fs::FileType::Fifo, Mode::from(0o666), 0).expect("mkfifo");
    super::give("fifo", 1000, 1000, 0o600);
    let readers: Vec<i32> = [0, 1000, 1000, 1000, 0, 1000, 1000, 1000, 1000]
        .into_iter()
        .map(|uid| spawn(uid, uid, &[], || drop(fs::read("fifo").expect("reads"))))
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    super::file("f", 7, 7, 0o644);
    assert_eq!(owner("f"), (7, 7));
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(fs::OpenOptions::new().write(true).open("fifo").expect("opens"));
    // One that came late waits for another writer.
    for reader in readers {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut status = 0;
            // SAFETY: the status outlives the call.
            match unsafe { libc::waitpid(reader, &raw mut status, libc::WNOHANG) } {
                0 if Instant::now() < deadline => {
                    drop(fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("fifo"))
                }
                0 => panic!("still waits"),
                _ => break assert_eq!(status, 0),
            }
        }
    }
}

/// Makes calls until it is killed.
fn hang() {
    let _children: Vec<i32> = (0..8).map(|_| spawn(1000, 1000, &[], busy)).collect();
    busy()
}

fn busy() {
    loop {
        let path = format!("f{}", std::process::id());
        let _ = fs::write(&path, "");
        let _ = fs::metadata(&path);
        let _ = fs::remove_file(&path);
    }
}

/// Prints what calls cost, in nanoseconds: the least of many.
fn cost() {
    super::file("f", 1000, 1000, 0o644);
    fs::write("plain", "").expect("writes");
    let least = |call: &dyn Fn()| {
        (0..2000)
            .map(|_| {
                let started = Instant::now();
                call();
                started.elapsed().as_nanos()
            })
            .min()
            .unwrap_or(0)
    };
    let middle = |call: &dyn Fn()| {
        let mut times: Vec<_> = (0..2001)
            .map(|_| {
                let started = Instant::now();
                call();
                started.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        times[1000]
    };
    let calls: [(&str, &dyn Fn()); 5] = [
        ("stat, owner 1000", &|| drop(fs::metadata("f"))),
        ("stat, owner 0", &|| drop(fs::metadata("plain"))),
        ("stat, absolute path", &|| drop(fs::metadata("/tmp/calls/f"))),
        ("open", &|| drop(fs::File::open("plain"))),
        // SAFETY: no arguments.
        ("getuid", &|| assert!(unsafe { libc::syscall(libc::SYS_getuid) } == 0)),
    ];
    for (name, call) in calls {
        println!("{name}: {} {}", least(call), middle(call));
    }
}
