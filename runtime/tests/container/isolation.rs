//! What a step can not do, and what it must still be able to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_runtime::container::{Control, Exit};
use coracle_runtime::{Capability, RuntimeError};

use crate::Case;
use crate::place::Place;

pub const CASES: &[Case] = &[
    ("capabilities are the default set of Docker", capabilities),
    ("only standard input, output and error are open", descriptors),
    ("only the processes of the step are listed", processes),
    ("nothing of the machine can be changed through /proc and /sys", read_only_kernel),
    ("mounts, namespaces, keys and terminals are out of reach", denied_calls),
    ("setuid programs work", setuid),
    ("a build has no terminal", terminal),
    ("the old root is gone", old_root),
    ("the processes around the step can not be looked into", outer_processes),
];

fn capabilities(place: &Place) {
    let sets = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -s '\\t\\n' '  '";
    assert_eq!(
        place.shell(sets).prints(),
        "CapInh: 0000000000000000 CapPrm: 00000000a80425fb CapEff: 00000000a80425fb CapBnd: 00000000a80425fb \
         CapAmb: 0000000000000000 NoNewPrivs: 0 Seccomp: 2"
    );
    assert_eq!(
        place.shell(sets).user(1000, 1000, &[]).prints(),
        "CapInh: 0000000000000000 CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 00000000a80425fb \
         CapAmb: 0000000000000000 NoNewPrivs: 0 Seccomp: 2"
    );
}

fn descriptors(place: &Place) {
    // One that is left open on purpose, as a library might.
    let leak = fs::File::open("/proc/self/status").expect("opens");
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).expect("fcntl");
    // The fourth is the directory being read.
    assert_eq!(place.step(&["ls", "/proc/self/fd"]).prints(), "0\n1\n2\n3");
    drop(leak);
}

fn processes(place: &Place) {
    let done = place.shell("echo $$; ls -d /proc/[0-9]* | wc -l").run();
    assert_eq!(done.finished.report.proc_bound, place.proc_is_masked());
    assert!(done.finished.report.devices_missing.is_empty() && !done.finished.report.sys_empty);
    let out = done.out();
    let (pid, count) = out.split_once('\n').expect("two lines");
    assert_eq!(pid, "1");
    let count: u32 = count.parse().expect("a number");
    assert_eq!(count > 4, place.proc_is_masked(), "{count} processes");
}

fn read_only_kernel(place: &Place) {
    for file in
        ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/kernel/mm/ksm/run"]
    {
        let done = place.shell(&format!("[ -e {file} ] || exit 9; echo x >{file}")).run();
        // Where users are emulated, nobody may write there in the first place.
        let why = ["Read-only file system", "Permission denied"];
        let is_refused = why.iter().take(if place.is_single() { 2 } else { 1 }).any(|why| done.err().contains(why));
        assert!(done.exit() == Exit::Code(9) || is_refused, "{file}: {}", done.err());
        assert_ne!(done.exit(), Exit::Code(0));
    }
    assert_eq!(place.shell("cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware /proc/scsi 2>/dev/null | grep -v :").run().out(), "0");
    assert_ne!(place.shell("mkdir /sys/firmware/x").run().exit(), Exit::Code(0));
    assert_ne!(place.shell("touch /sys/kernel/debug/x").run().exit(), Exit::Code(0));
}

fn denied_calls(place: &Place) {
    for command in ["mount -t tmpfs none /tmp", "unshare -U true", "unshare -m true", "unshare -n true"] {
        let done = place.shell(command).run();
        assert_ne!(done.exit(), Exit::Code(0), "{command}");
        assert!(done.err().contains("not permitted") || done.err().contains("denied"), "{command}: {}", done.err());
    }
    if !Path::new("/usr/bin/perl").exists() || cfg!(not(target_arch = "x86_64")) {
        println!("  system calls by number: not tested: needs perl on x86-64");
        assert!(std::env::var_os("CI").is_none(), "CI needs perl");
        return;
    }
    // Number, arguments, errno; each as a user and as root.
    let calls = [
        ("mount_setattr", 442, "0, 0, 0", libc::EPERM),
        ("keyctl", 250, "0, 0, 0", libc::EPERM),
        ("add_key", 248, "0, 0, 0", libc::EPERM),
        ("bpf", 321, "0, 0, 0", libc::EPERM),
        ("userfaultfd", 323, "0, 0, 0", libc::EPERM),
        ("perf_event_open", 298, "0, 0, 0", libc::EPERM),
        ("open_by_handle_at", 304, "0, 0, 0", libc::EPERM),
        ("setns", 308, "0, 0, 0", libc::EPERM),
        ("io_uring_setup", 425, "1, 0, 0", libc::ENOSYS),
        ("clone3", 435, "0, 0, 0", libc::ENOSYS),
        ("unshare(NEWUSER)", 272, "0x10000000, 0, 0", libc::EPERM),
        ("ioctl(TIOCSTI)", 16, "0, 0x5412, 0", libc::EPERM),
        ("ioctl(TIOCLINUX)", 16, "0, 0x541C, 0", libc::EPERM),
        ("x32 getpid", 0x4000_0000 + 39, "0, 0, 0", libc::ENOSYS),
        // What is not denied fails as it would outside.
        ("ioctl(TCGETS)", 16, "0, 0x5401, 0", libc::ENOTTY),
        ("ptrace", 101, "16, 99999, 0", libc::ESRCH),
    ];
    for uid in [0, 1000] {
        for (name, number, arguments, errno) in calls {
            let script = format!("syscall({number}, {arguments}) == -1 or die; print $! + 0");
            let step = place.host_programs(&["/usr/bin/perl", "-e", &script]).user(uid, uid, &[]);
            assert_eq!(step.prints(), errno.to_string(), "{name} as {uid}");
        }
    }
}

fn setuid(place: &Place) {
    let layer = place.dir("layer");
    fs::create_dir(layer.join("opt")).expect("mkdir");
    let program = layer.join("opt/id");
    fs::copy("/usr/bin/id", &program).expect("copies id");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let step = place.host_programs(&["/opt/id", "-u"]).lower(layer).user(1000, 1000, &[]);
    assert_eq!(step.prints(), "0");
}

fn terminal(place: &Place) {
    // The sixth field of proc_pid_stat(5): who leads what shares a terminal.
    let fields = "read -r _ _ _ _ _ s _ </proc/self/stat; echo $s";
    let mut step = place.shell(fields);
    if !place.proc_is_masked() {
        assert_eq!(step.prints(), "1");
        step.spec.new_session = false;
        assert_eq!(step.prints(), "0", "that of the caller, which is not in this pid namespace");
    }
    assert_eq!(place.shell("echo x 2>/dev/null >/dev/tty || echo none").prints(), "none");
}

fn old_root(place: &Place) {
    assert_eq!(place.shell("cd /..; pwd; ls / | tr '\\n' ' '").prints(), "/\nbin dev etc proc root sys tmp");
    // Nothing of the host's table of mounts is left but what was taken along.
    let places = place.shell("awk '{print $5}' /proc/self/mountinfo").prints();
    assert_eq!(places.lines().filter(|path| *path == "/").count(), 1);
    let taken = |path: &str| ["/proc", "/dev", "/sys"].iter().any(|top| path.starts_with(top));
    assert!(places.lines().all(|path| path == "/" || taken(path)), "{places}");
}

fn outer_processes(place: &Place) {
    if !place.proc_is_masked() {
        return;
    }
    // The caller is listed in the /proc that was bound; nothing of it can be had.
    let pid = std::process::id();
    let script = format!(
        "[ -d /proc/{pid} ] || exit 9; for f in environ mem root/etc/passwd cwd/x fd/0; do cat /proc/{pid}/$f 2>/dev/null && exit 1; done; exit 0"
    );
    let done = place.shell(&script).run();
    assert_eq!(done.exit(), Exit::Code(0));
    // With the right to look into all, only where there is a fence.
    let mut step = place.shell(&script);
    step.spec.capabilities = step.spec.capabilities.with(Capability::parse("SYS_PTRACE").expect("a capability"));
    match step.try_run(&Control::new()) {
        Ok(done) => assert_eq!(done.exit(), Exit::Code(0)),
        Err(error) => {
            assert_eq!(error, RuntimeError::NoFence);
            assert!(done.finished.report.steps_exposed);
        }
    }
}
