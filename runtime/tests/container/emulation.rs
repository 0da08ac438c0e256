//! What a step with emulated owners is given, leaves on disk and hands back; devices in every place; and how it ends.
#![allow(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, ExitCode};
use std::time::Duration;

use coracle_runtime::container::{Control, DeviceFiles, Devices, Exit, Ids, RootfsSource, SpecialOwner};
use coracle_runtime::owner::{Device, FileOwner, XATTR};
use coracle_runtime::{Errno, Lacking, RuntimeError};

use crate::Case;
use crate::calls;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("the owner of a file lies beside it, that of a link is handed back", left),
    ("owners of the layers below are known", given),
    ("a link that takes the place of one of a layer below is root's", replaced),
    ("a link of a layer below keeps its owner when it is changed", copied_up),
    ("a device is a file that says so, in every place", devices),
    ("a step that is to end where it makes a device ends there", ended_by_a_device),
    ("a device is opened where every container has it", open_devices),
    ("a device of the layers, or of a directory that is shown, is opened, too", devices_from_elsewhere),
    ("a device is none of the files of a directory", listed_devices),
    ("a program of root can be run by others, and gives root's rights if it says so", setuid),
    ("the status of processes tells their emulated users", statuses),
    ("a step that makes calls all the time ends when it is told to", killed),
    ("a second listener is refused, with a hint", second_listener),
    ("no call leads around the emulator", no_way_around),
    ("what calls cost", cost),
];

/// What the attribute of a file says.
fn said(path: &std::path::Path) -> Option<FileOwner> {
    let mut text = [0; 64];
    let length = rustix::fs::getxattr(path, XATTR, &mut text[..]).ok()?;
    Some(FileOwner::parse(&text[..length]).expect("an owner"))
}

fn left(place: &Place) {
    if !place.is_single() {
        return;
    }
    let script = "cd /tmp; touch f; mkdir d; chown 1000:50 f; chown 7 d; ln -s x l; chown -h 8:9 l; mkfifo p; chown 3 p; \
                  ln -s y gone; chown -h 5 gone; rm gone; ln -s z again; touch root; chown 4 root; chown 0 root";
    let step = place.shell(script);
    let done = step.run();
    assert_eq!(done.exit(), Exit::Code(0), "{}", done.err());
    let tmp = step.upper().join("tmp");
    assert_eq!(said(&tmp.join("f")), Some(FileOwner::new(1000, 50)));
    assert_eq!(said(&tmp.join("d")), Some(FileOwner::new(7, 0)));
    assert_eq!(said(&tmp.join("root")), None);
    let inode = |name: &str| fs::symlink_metadata(tmp.join(name)).expect(name).ino();
    for (name, uid, gid) in [("l", 8, 9), ("p", 3, 0)] {
        assert!(done.finished.special.contains(&(inode(name), uid, gid)), "{name}: {:?}", done.finished.special);
    }
    assert!(!done.finished.special.iter().any(|(number, ..)| *number == inode("again")), "made anew: root's");
}

/// A layer with a file, a link and a fifo that belong to 1000:50, and a step on it.
fn on_layer(place: &Place, script: &str) -> Step {
    let layer = place.dir("layer");
    fs::write(layer.join("f"), "").expect("writes");
    rustix::fs::setxattr(layer.join("f"), XATTR, b"1000:50", rustix::fs::XattrFlags::empty()).expect("setxattr");
    symlink("x", layer.join("l")).expect("symlink");
    fs::create_dir(layer.join("sub")).expect("mkdir");
    let fifo = layer.join("sub/p");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o644), 0)
        .expect("mkfifo");
    let special = ["/l", "/sub/p", "/missing"].map(|path| SpecialOwner { path: path.into(), uid: 1000, gid: 50 });
    let mut step = place.shell(script).lower(layer);
    step.spec.ids = Ids::Emulated { special: special.into(), devices: DeviceFiles::Absent };
    step
}

fn given(place: &Place) {
    if !place.is_single() {
        return;
    }
    let step = on_layer(place, "stat -c %u:%g /f /l /sub/p /sub");
    assert_eq!(step.prints(), "1000:50\n1000:50\n1000:50\n0:0");
    assert_eq!(fs::read_dir(step.upper()).expect("a directory").count(), 0, "looking changes nothing");
}

fn replaced(place: &Place) {
    if !place.is_single() {
        return;
    }
    let done = on_layer(place, "rm /l; ln -s y /l; stat -c %u:%g /l").run();
    assert_eq!((done.out().as_str(), done.finished.special), ("0:0", vec![]));
}

fn copied_up(place: &Place) {
    if !place.is_single() {
        return;
    }
    // What is forgotten in between is what overlayfs remembers.
    let script = "touch -h -d @5 /l; chmod 600 /sub/p; mv /sub/p /sub/q; ln /l /m; mv /l /k; echo 2 >/proc/sys/vm/drop_caches 2>/dev/null; \
                  stat -c %u:%g /k /m /sub/q";
    let step = on_layer(place, script);
    let done = step.run();
    assert_eq!(done.out(), "1000:50\n1000:50\n1000:50", "{}", done.err());
    for name in ["k", "m", "sub/q"] {
        let inode = fs::symlink_metadata(step.upper().join(name)).expect(name).ino();
        assert!(done.finished.special.contains(&(inode, 1000, 50)), "{name}");
    }
}

fn devices(place: &Place) {
    let script = "cd /tmp && umask 077 && mknod null c 1 3 && umask 022 && mknod -m 660 sda b 8 1 && mknod tty250 c 300 70000 && \
                  mkfifo fifo && ! mknod null c 1 3 2>/dev/null && ! mknod whiteout c 0 0 2>/dev/null && rm fifo";
    let step = place.shell(script);
    let done = step.run();
    assert_eq!(done.exit(), Exit::Code(0), "{}", done.err());
    let tmp = step.upper().join("tmp");
    let node = |mode, major, minor| Some(FileOwner { uid: 0, gid: 0, device: Some(Device { mode, major, minor }) });
    assert_eq!(said(&tmp.join("null")), node(0o020_600, 1, 3));
    assert_eq!(
        said(&tmp.join("sda")).and_then(|owner| owner.device).map(|device| (device.major, device.minor)),
        Some((8, 1))
    );
    assert_eq!(said(&tmp.join("tty250")), node(0o020_644, 300, 70_000));
    let file = fs::metadata(tmp.join("null")).expect("a file");
    assert_eq!((file.len(), file.mode() & libc::S_IFMT), (0, libc::S_IFREG));
    if place.is_single() {
        assert_eq!(said(&tmp.join("sda")), node(0o060_660, 8, 1));
    }
    // Somebody who is not root may not.
    let refused = place.shell("mknod /tmp/null c 1 3 2>&1 || true").user(1000, 1000, &[]);
    assert!(refused.prints().contains("not permitted"), "{}", refused.prints());
}

fn ended_by_a_device(place: &Place) {
    let mut step = place.shell("mkfifo /tmp/p; ! mknod /tmp/w c 0 0 2>/dev/null || exit 3; (mknod /tmp/n c 1 3; touch /tmp/late) & wait; echo late");
    step.spec.devices = Devices::End;
    if place.is_single() {
        assert_eq!(step.prints(), "late");
        return;
    }
    let error = step.try_run(&Control::new()).err().expect("ends it");
    assert_eq!(error, RuntimeError::Lacking(Lacking::Devices));
    let made = |name| fs::symlink_metadata(step.upper().join("tmp").join(name)).is_ok();
    assert!(made("p") && !made("n") && !made("late"));
}

fn open_devices(place: &Place) {
    if !place.is_single() {
        return;
    }
    let script = "cd /tmp; mknod n c 1 3; mknod z c 1 5; mknod sda b 8 1; chmod 640 n; chown 7:8 n; echo lost >n; wc -c <n; \
                  head -c 3 z | wc -c; cat sda 2>&1; cp -a n n2; stat -c '%F %t:%T %a %u:%g' n n2 sda; ls -l sda | cut -c 1; [ -c n ] && [ -b sda ] && echo ok";
    assert_eq!(
        place.shell(script).prints(),
        "0\n3\ncat: can't open 'sda': No such device or address\ncharacter special file 1:3 640 7:8\n\
         character special file 1:3 640 7:8\nblock special file 8:1 644 0:0\nb\nok"
    );
}

/// What stands for a device is one for who lists its directory, too.
fn listed_devices(place: &Place) {
    if !place.is_single() {
        return;
    }
    let layer = place.dir("layer");
    fs::create_dir(layer.join("nodes")).expect("mkdir");
    for (name, says) in [("zero", "0:0:20666:1:5"), ("sda", "0:0:60660:8:0"), ("plain", "")] {
        fs::write(layer.join("nodes").join(name), "").expect("writes");
        if !says.is_empty() {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(layer.join("nodes").join(name), XATTR, says.as_bytes(), flags).expect("setxattr");
        }
    }
    let mut step = calls::step(place, "listed").lower(layer);
    step.spec.ids = Ids::Emulated { special: vec![], devices: DeviceFiles::Possible };
    step.prints();
}

fn devices_from_elsewhere(place: &Place) {
    if !place.is_single() {
        return;
    }
    let with_zero = |name: &str| {
        let dir = place.dir(name);
        fs::write(dir.join("zero"), "").expect("writes");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(dir.join("zero"), XATTR, b"0:0:20666:1:5", flags).expect("setxattr");
        dir
    };
    let mut of_layers = place.shell("head -c 3 /zero | wc -c").lower(with_zero("layer"));
    of_layers.spec.ids = Ids::Emulated { special: vec![], devices: DeviceFiles::Possible };
    assert_eq!(of_layers.prints(), "3");
    let shown = with_zero("shown");
    fs::write(shown.join("plain"), "plain").expect("writes");
    let read = |source: &str, path: &str| {
        let script = format!("head -c 3 /mnt/{path} | wc -c; cat /mnt/plain 2>/dev/null || echo -");
        let stub = place.dir("stub");
        fs::create_dir(stub.join("mnt")).expect("mkdir");
        fs::write(stub.join("mnt/zero"), "").expect("writes");
        let target = if source.is_empty() { "/mnt" } else { "/mnt/zero" };
        place.shell(&script).lower(stub).bind(shown.join(source), target, true).prints()
    };
    assert_eq!(read("", "zero"), "3\nplain");
    assert_eq!(read("zero", "zero"), "3\n-");
}

fn setuid(place: &Place) {
    let layer = place.dir("layer");
    fs::create_dir(layer.join("opt")).expect("mkdir");
    for (name, mode) in [("id", 0o4755), ("closed", 0o700)] {
        fs::copy("/usr/bin/id", layer.join("opt").join(name)).expect("copies id");
        fs::set_permissions(layer.join("opt").join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let step = |program: &str| place.host_programs(&[program, "-u"]).lower(layer.clone()).user(1000, 1000, &[]);
    assert_eq!(step("/opt/id").prints(), "0");
    assert_eq!(step("/opt/closed").run().exit().status(), 126);
}

fn statuses(place: &Place) {
    let script =
        "cat /proc/1/status | grep -E '^(Uid|NoNewPrivs):' | tr '\\t\\n' '  '; cd /proc/self; stat -c %u /proc/1";
    if !place.proc_is_masked() {
        let printed = place.shell(script).user(1000, 1000, &[]).prints();
        assert_eq!(printed, "Uid: 1000 1000 1000 1000 NoNewPrivs: 0 1000");
    }
}

fn killed(place: &Place) {
    let step = calls::step(place, "hang");
    for wait in [0, 20, 200] {
        let control = Control::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| step.try_run(&control));
            std::thread::sleep(Duration::from_millis(wait));
            control.kill();
            let ended = running.join().expect("ends").err();
            assert_eq!(ended, Some(RuntimeError::Interrupted));
        });
    }
}

fn second_listener(place: &Place) {
    // In a process of its own: a filter stays.
    let output = Command::new("/proc/self/exe").args(["--under-listener", &place.name]).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a step in a process whose calls somebody listens to.
pub fn under_listener(place: &str) -> ExitCode {
    let here = Place::new(place).expect("busybox");
    let allow = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }];
    let program = libc::sock_fprog { len: 1, filter: allow.as_ptr().cast_mut() };
    rustix::thread::set_no_new_privs(true).expect("prctl");
    // SAFETY: the filter outlives the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    assert!(listener >= 0, "{}", std::io::Error::last_os_error());
    let step = here.shell("mknod /tmp/x c 1 3 2>/dev/null || echo refused");
    if here.is_single() {
        let error = step.try_run(&Control::new()).err().expect("is refused");
        assert!(matches!(error, RuntimeError::Listener { .. }), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("one listener")), "{error}");
    } else {
        // With real owners a step does without devices.
        assert_eq!(step.prints(), "refused");
        assert_eq!(step.run().finished.report.no_listener.map(Errno::raw), Some(libc::EBUSY));
    }
    ExitCode::SUCCESS
}

fn no_way_around(place: &Place) {
    if !place.is_single() || cfg!(not(target_arch = "x86_64")) || !fs::exists("/usr/bin/perl").unwrap_or(false) {
        return;
    }
    for (name, number) in [("x32 getuid", 0x4000_0000 + 102), ("io_uring_setup", 425), ("io_uring_enter", 426)] {
        let script = format!("syscall({number}, 1, 0) == -1 or die; print $! + 0");
        assert_eq!(place.host_programs(&["/usr/bin/perl", "-e", &script]).prints(), libc::ENOSYS.to_string(), "{name}");
    }
}

fn cost(place: &Place) {
    let printed = calls::step(place, "cost").prints();
    for line in printed.lines() {
        println!("  {line} ns");
    }
    assert!(matches!(calls::step(place, "cost").spec.rootfs, RootfsSource::Overlay { .. }));
}
