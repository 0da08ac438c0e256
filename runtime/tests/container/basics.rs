//! What a command sees, and what of it is seen.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coracle_runtime::container::{Control, Exit, Io, Obstacle, RootfsSource, run};
use coracle_runtime::{Errno, RuntimeError};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("the exit code is that of the command", exit_codes),
    ("a command is scheduled by the usual rule", usual_rule),
    ("the signal is that which killed the command", signals),
    ("a command that can not be started says why", not_started),
    ("every byte of the output arrives, told apart", output),
    ("user, group and supplementary groups are those asked for", ids),
    ("the environment and directory are exactly those asked for", environment),
    ("the limit of open files is that of the caller's caller, and this program has more", open_files),
    ("changes go to the upper directory and nowhere else", changes),
    ("a directory can be the root itself", directory),
    ("a program that somebody still writes is waited for", busy_program),
    ("a bind is seen and leaves nothing in the upper directory", binds),
    ("a dangling link as target of a bind is followed inside only", dangling_bind),
    ("a hundred layers can be mounted", |place| many_layers(place, 100)),
    ("five hundred layers can be mounted", |place| many_layers(place, 500)),
    ("paths with commas, colons and bytes that are no UTF-8 do no harm", odd_paths),
    ("two steps run at once", at_once),
    ("devices work", devices),
    ("output can be written through /dev/stdout by any user", dev_stdout),
    ("what makes no sense is refused", bad_specs),
    ("an upper directory on overlayfs names its cause", overlay_on_overlay),
    ("a trivial step takes about two milliseconds", timing),
];

/// What is made ahead of a step is not.
fn usual_rule(place: &Place) {
    for following in [2, 1, 0] {
        let step = crate::place::Step { following, ..place.step(&["awk", "{ print $41 }", "/proc/self/stat"]) };
        assert_eq!(step.prints(), "0", "{following}: the policy, see proc_pid_stat(5)");
    }
    // Whoever started this by another rule wants that: SCHED_BATCH.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
            let set = std::process::Command::new("chrt").args(["--batch", "--pid", "0", &thread]).status();
            assert!(set.expect("chrt, of util-linux, runs").success());
            for following in [1, 0] {
                let step = crate::place::Step { following, ..place.step(&["awk", "{ print $41 }", "/proc/self/stat"]) };
                assert_eq!(step.prints(), "3", "{following}");
            }
        });
    });
}

fn exit_codes(place: &Place) {
    assert_eq!(place.step(&["true"]).run().exit(), Exit::Code(0));
    assert_eq!(place.shell("exit 7").run().exit(), Exit::Code(7));
    assert_eq!(place.shell("exit 255").run().exit().status(), 255);
}

fn signals(place: &Place) {
    // Process 1 is killed by no signal of its own but a fault.
    let done = place.shell("sh -c 'kill -9 $$'; echo $?").run();
    assert_eq!((done.exit(), done.out().as_str()), (Exit::Code(0), "137"));
    let control = &Control::new();
    std::thread::scope(|scope| {
        let (begun, has_begun) = mpsc::channel();
        let slow = place.shell("echo; exec sleep 100");
        let step = scope.spawn(move || {
            let mut on_output = |_, _: &[u8]| begun.send(()).expect("somebody waits");
            let io = Io::Capture { on_output: &mut on_output, following: slow.following };
            run(&slow.fresh_spec(), io, control).expect("runs")
        });
        has_begun.recv().expect("begins");
        control.signal(libc::SIGKILL);
        assert_eq!(step.join().expect("ends").exit, Exit::Signal(libc::SIGKILL));
    });
    let trapped = place.shell("trap 'exit 3' TERM; while :; do sleep 0.01; done");
    std::thread::scope(|scope| {
        let step = scope.spawn(|| trapped.try_run(control).expect("runs"));
        while !step.is_finished() {
            control.signal(libc::SIGTERM);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(step.join().expect("ends").exit(), Exit::Code(3), "a forwarded signal reaches a handler");
    });
}

fn not_started(place: &Place) {
    let refused = |step: crate::place::Step| match step.run().exit() {
        exit @ Exit::NotStarted { .. } => exit,
        other => panic!("{other:?}"),
    };
    let missing = refused(place.step(&["no-such-program"]));
    let not_found = Errno::from_raw(libc::ENOENT);
    let program = Obstacle::Program;
    assert_eq!(missing, Exit::NotStarted { errno: not_found, what: program, path: "no-such-program".into() });
    assert_eq!(missing.status(), 127);
    assert_eq!(refused(place.step(&["/etc"])).status(), 126);
    let mut nowhere = place.step(&["true"]);
    nowhere.spec.cwd = "/bin/busybox/x".into();
    let no_directory = Errno::from_raw(libc::ENOTDIR);
    assert_eq!(
        refused(nowhere),
        Exit::NotStarted { errno: no_directory, what: Obstacle::WorkingDirectory, path: "/bin/busybox/x".into() }
    );
}

fn output(place: &Place) {
    let done = place.shell("awk 'BEGIN{for(i=0;i<256;i++)printf \"%c\",i}' | head -c 256; echo bad >&2").run();
    assert_eq!((done.stderr.as_slice(), done.stdout[0], done.stdout.len()), (&b"bad\n"[..], 0, 256));
    let much = place.shell("yes 0123456789abcde | head -c 20000000").run();
    assert_eq!((much.exit(), much.stdout.len()), (Exit::Code(0), 20_000_000));
    // A program dies of a closed pipe, as it should.
    assert_eq!(place.shell("yes | head -c 10 >/dev/null").run().exit(), Exit::Code(0));
}

fn ids(place: &Place) {
    let ids = "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t\\n ' ' '";
    assert_eq!(place.shell(ids).prints(), "Uid: 0 0 0 0 Gid: 0 0 0 0 Groups:");
    let user = place.shell(ids).user(1000, 1001, &[4, 27]).prints();
    assert_eq!(user, "Uid: 1000 1000 1000 1000 Gid: 1001 1001 1001 1001 Groups: 4 27");
    assert_eq!(place.shell("touch /tmp/x; chown 33:44 /tmp/x; stat -c %u:%g /tmp/x").prints(), "33:44");
    assert_eq!(
        place.shell("touch /root/x 2>&1 || echo refused").user(1000, 1000, &[]).prints().lines().last(),
        Some("refused")
    );
}

fn environment(place: &Place) {
    let mut step = place.shell("env; pwd; umask; hostname");
    step.spec.env = vec!["PATH=/bin".into(), "A=b c".into()];
    step.spec.cwd = "/tmp".into();
    step.spec.hostname = "here".into();
    let done = step.run();
    let text = done.out();
    let mut lines: Vec<_> = text.lines().collect();
    // Podman's profile does not let it be changed.
    let hostname = lines.pop();
    assert_eq!(hostname == Some("here"), !done.finished.report.hostname_kept);
    // What the shell adds.
    lines.retain(|line| !["PWD", "SHLVL", "OLDPWD", "_"].iter().any(|name| line.starts_with(&format!("{name}="))));
    lines[..2].sort_unstable();
    assert_eq!(lines, ["A=b c", "PATH=/bin", "/tmp", "0022"]);
}

fn open_files(place: &Place) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!(limit.current, limit.maximum);
    let hard = limit.maximum.map_or("unlimited".into(), |hard| hard.to_string());
    let script = "grep '^Max open files' /proc/self/limits | tr -s ' '";
    let soft = crate::OPEN_FILES;
    assert_eq!(place.shell(script).prints(), format!("Max open files {soft} {hard} files"));
}

fn changes(place: &Place) {
    let step = place.shell("echo new >/etc/new; rm /bin/ps; mkdir -p /a/b");
    step.prints();
    let mut names: Vec<_> = fs::read_dir(step.upper()).expect("reads").map(|e| e.expect("reads").file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "bin", "etc"]);
    assert_eq!(fs::read_to_string(step.upper().join("etc/new")).expect("reads"), "new\n");
    assert_eq!(
        place.shell("ls -d /bin/ps /etc/* /a 2>/dev/null; :").prints(),
        "/bin/ps",
        "another step sees nothing of it"
    );
}

/// Has `step` work in a directory, which has a shell only.
fn in_directory(place: &Place, step: &mut Step) -> PathBuf {
    let dir = place.dir("root");
    for name in ["bin", "proc", "sys", "dev"] {
        fs::create_dir(dir.join(name)).expect("mkdir");
    }
    let RootfsSource::Overlay { lower, .. } = &step.spec.rootfs else { unreachable!() };
    fs::copy(lower[0].join("bin/busybox"), dir.join("bin/sh")).expect("copies");
    step.spec.rootfs = RootfsSource::Dir(dir.clone());
    dir
}

fn busy_program(place: &Place) {
    let mut step = place.shell("echo started");
    let dir = in_directory(place, &mut step);
    let writer = fs::OpenOptions::new().append(true).open(dir.join("bin/sh")).expect("opens");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| step.prints());
        std::thread::sleep(Duration::from_millis(30));
        drop(writer);
        assert_eq!(running.join().expect("ends"), "started");
    });
    let _writer = fs::OpenOptions::new().append(true).open(dir.join("bin/sh")).expect("opens");
    match step.run().exit() {
        Exit::NotStarted { errno, what: Obstacle::Program, .. } => assert_eq!(errno.raw(), libc::ETXTBSY),
        other => panic!("{other:?}"),
    }
}

fn directory(place: &Place) {
    let mut step = place.shell("echo x >/made; echo /proc/[0-9]*");
    let dir = in_directory(place, &mut step);
    step.prints();
    assert_eq!(fs::read_to_string(dir.join("made")).expect("reads"), "x\n");
}

fn binds(place: &Place) {
    let stubs = place.dir("stubs");
    fs::create_dir(stubs.join("etc")).expect("mkdir");
    fs::write(stubs.join("etc/resolv.conf"), "").expect("writes");
    let source = place.dir("source");
    let file = source.join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").expect("writes");
    let step = place
        .shell("cat /etc/resolv.conf; echo x 2>/dev/null >/etc/resolv.conf || echo read-only")
        .lower(stubs.clone())
        .bind(file.clone(), "/etc/resolv.conf", true);
    assert_eq!(step.prints(), "nameserver 192.0.2.1\nread-only");
    assert_eq!(fs::read_dir(step.upper()).expect("reads").count(), 0);
    let writes = place.shell("echo x >/etc/resolv.conf").lower(stubs).bind(file.clone(), "/etc/resolv.conf", false);
    writes.prints();
    assert_eq!(fs::read_to_string(file).expect("reads"), "x\n");
    let missing = place.step(&["true"]).bind(source, "/not/there", true).try_run(&Control::new());
    assert_eq!(missing.err().expect("fails").to_string(), "openat2(\"/not/there\", RESOLVE_IN_ROOT)");
}

fn dangling_bind(place: &Place) {
    let outside = place.dir("outside");
    let stubs = place.dir("stubs");
    fs::create_dir(stubs.join("etc")).expect("mkdir");
    // A path that exists on the host, and not in the image.
    symlink(&outside, stubs.join("etc/resolv.conf")).expect("link");
    let step = place.step(&["true"]).lower(stubs).bind(place.dir("source"), "/etc/resolv.conf", true);
    let error = step.try_run(&Control::new()).err().expect("fails");
    assert_eq!(error.errno(), Some(Errno::from_raw(libc::ENOENT)), "{error}");
}

fn many_layers(place: &Place, count: usize) {
    let mut step = place.shell("ls /layers | wc -l; cat /layers/top");
    for number in 1..count {
        let layer = place.dir("layer");
        fs::create_dir(layer.join("layers")).expect("mkdir");
        fs::write(layer.join(format!("layers/{number}")), "").expect("writes");
        fs::write(layer.join("layers/top"), number.to_string()).expect("writes");
        step = step.lower(layer);
    }
    assert_eq!(step.prints(), format!("{count}\n{}", count - 1));
}

fn odd_paths(place: &Place) {
    use std::os::unix::ffi::OsStringExt;
    let name = std::ffi::OsString::from_vec(b"a,b:c\\d \xff\n".to_vec());
    let odd = |kind: &str| {
        let dir = place.dir(kind).join(&name);
        fs::create_dir(&dir).expect("mkdir");
        dir
    };
    let layer = odd("layer");
    fs::write(layer.join("seen"), "yes").expect("writes");
    let mut step = place.shell("cat /seen; echo \"$X\" >/made").lower(layer);
    let (upper, work) = (odd("upper"), odd("work"));
    let RootfsSource::Overlay { lower, .. } = step.spec.rootfs.clone() else { unreachable!() };
    step.spec.rootfs = RootfsSource::Overlay { lower, upper: upper.clone(), work };
    step.spec.env.push(std::ffi::OsString::from_vec(b"X=\xff".to_vec()));
    assert_eq!(step.prints(), "yes");
    assert_eq!(fs::read(upper.join("made")).expect("reads"), b"\xff\n");
}

fn at_once(place: &Place) {
    let start = Instant::now();
    let control = Control::new();
    std::thread::scope(|scope| {
        let steps: Vec<_> = (0..4)
            .map(|number| {
                let step = place.shell(&format!("sleep 0.5; echo {number}"));
                let control = &control;
                scope.spawn(move || step.try_run(control).expect("runs").out())
            })
            .collect();
        let outputs: Vec<_> = steps.into_iter().map(|step| step.join().expect("ends")).collect();
        assert_eq!(outputs, ["0", "1", "2", "3"]);
    });
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

fn devices(place: &Place) {
    assert_eq!(
        place.shell("ls /dev | tr '\\n' ' '").prints(),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    assert_eq!(
        place.shell("echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c").prints(),
        "4\n9"
    );
    assert_eq!(
        place.shell("touch /dev/shm/x && stat -c %a /dev/shm /dev/null /dev/pts").user(1000, 1000, &[]).prints(),
        "1777\n666\n755"
    );
    assert_eq!(
        place.shell("cd /dev; stat -c '%n %F %t:%T' null zero full random urandom tty").prints(),
        ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"]
            .map(|device| device.replace(' ', " character special file "))
            .join("\n")
    );
    assert_eq!(place.shell("cat; echo ended").prints(), "ended", "standard input is /dev/null");
}

fn dev_stdout(place: &Place) {
    let done = place.shell("echo out >/dev/stdout; echo err >/dev/stderr").user(1000, 1000, &[]).run();
    assert_eq!((done.out().as_str(), done.err().as_str()), ("out", "err"));
}

fn bad_specs(place: &Place) {
    let refused = |step: &crate::place::Step| match step.try_run(&Control::new()).err().expect("refused") {
        RuntimeError::BadSpec { field, .. } => field,
        other => panic!("{other}"),
    };
    let good = place.step(&["true"]);
    let mut step = good.clone();
    step.spec.args.clear();
    assert_eq!(refused(&step), "args");
    step = good.clone();
    step.spec.env.push("A=\0".into());
    assert_eq!(refused(&step), "env");
    step = good.clone();
    step.spec.cwd = PathBuf::from("relative");
    assert_eq!(refused(&step), "cwd");
    step = good.clone();
    step.spec.rootfs = RootfsSource::Overlay { lower: vec!["/".into(); 501], upper: "/u".into(), work: "/w".into() };
    assert_eq!(refused(&step), "rootfs");
}

fn overlay_on_overlay(place: &Place) {
    // A step of a step: its upper directory lies on the overlay of the outer one. Nesting is what the filter denies, so
    // a work directory on another file system stands in for it.
    let mut step = place.step(&["true"]);
    let RootfsSource::Overlay { lower, upper, .. } = step.spec.rootfs.clone() else { unreachable!() };
    step.spec.rootfs = RootfsSource::Overlay { lower, upper, work: "/proc".into() };
    let error = step.try_run(&Control::new()).err().expect("fails");
    assert!(matches!(error, RuntimeError::Overlay { lower: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("mount(overlay, lowerdir=1 dirs, upperdir=\""), "{error}");
    assert!(error.errno() != Some(Errno::from_raw(libc::EINVAL)) || error.hint().is_some());
}

fn timing(place: &Place) {
    let step = place.step(&["/bin/true"]);
    let mut times: Vec<Duration> = (0..60)
        .map(|_| {
            let spec = step.fresh_spec();
            let start = Instant::now();
            let done =
                run(&spec, Io::Capture { on_output: &mut |_, _| {}, following: 1 }, &Control::new()).expect("runs");
            let time = start.elapsed();
            assert_eq!(done.exit, Exit::Code(0));
            time
        })
        .collect();
    times.sort();
    let done = place.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").run();
    println!("  a trivial step: {:?} at the least, {:?} in the middle; {:?}", times[0], times[30], done.finished.usage);
    assert!(done.finished.usage.max_rss > 0 && done.finished.usage.user + done.finished.usage.system > Duration::ZERO);
    // Generous: the machine may be busy.
    assert!(times[0] < Duration::from_millis(50), "{times:?}");
}
