//! A command in a directory, without namespaces of its own: users real or emulated.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle_runtime::container::{
    Control, DeviceFiles, Exit, Ids, Io, Place as Around, RawPath, RootfsSource, end_marked, run,
};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("a command without namespaces works in a directory", works),
    ("nothing gets ready for the next one", followed),
    ("it is who it should be, and finds /proc where users are emulated", who),
    ("folders of the layers below stay where they are, as on an overlay", renames),
    ("names of one link, or one fifo, are told apart when one is changed", names),
    ("what it leaves behind ends with it", left_behind),
    ("what outlived everybody is found by its mark", marked),
];

/// Marks that no other test uses.
pub fn mark() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (1 << 60) | (u64::from(std::process::id()) << 20) | NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `script` in a copy of the small root file system.
fn step(here: &Place, script: &str, ids: Ids) -> Step {
    let mut step = here.shell(script);
    let RootfsSource::Overlay { lower, .. } = &step.spec.rootfs else { unreachable!("steps are on an overlay") };
    let dir = here.dir("tree");
    let copied = Command::new("cp").arg("-a").arg(lower[0].join(".")).arg(&dir).status().expect("cp runs");
    assert!(copied.success());
    (step.spec.rootfs, step.tree) = (RootfsSource::Dir(dir), None);
    (step.spec.place, step.spec.ids) = (Around::Chroot { mark: mark() }, ids);
    step
}

/// Both ways, where there are other users to become.
fn ways(here: &Place) -> Vec<Ids> {
    let emulated = Ids::Emulated { special: vec![], devices: DeviceFiles::Absent };
    if here.is_single() { vec![emulated] } else { vec![Ids::Real, emulated] }
}

fn output(step: &Step) -> (Exit, String, coracle_runtime::container::Report) {
    let mut text = Vec::new();
    let mut on_output = |_, bytes: &[u8]| text.extend_from_slice(bytes);
    let io = Io::Capture { on_output: &mut on_output, following: 0 };
    let finished = run(&step.spec, io, &Control::new()).expect("runs");
    (finished.exit, String::from_utf8_lossy(&text).into_owned(), finished.report)
}

/// There is nothing to get ready for what comes next.
fn followed(here: &Place) {
    let step = step(here, "true", ways(here).remove(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let io = Io::Capture { on_output: &mut |_, _| {}, following: 3 };
            let before = crate::lifetime::nurseries();
            assert_eq!(run(&step.spec, io, &Control::new()).expect("runs").exit, Exit::Code(0));
            assert_eq!(crate::lifetime::nurseries(), before);
        });
    });
}

fn works(here: &Place) {
    for ids in ways(here) {
        let step = step(here, "pwd; ls /; echo text >/tmp/file; exit 7", ids);
        let (exit, text, report) = output(&step);
        assert_eq!((exit, text.as_str()), (Exit::Code(7), "/\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n"));
        assert!(report.chroot && report.hostname_kept, "{report:?}");
        assert_eq!(fs::read_to_string(step.upper().join("tmp/file")).expect("is there"), "text\n");
    }
}

fn who(here: &Place) {
    for ids in ways(here) {
        let emulated = ids != Ids::Real;
        let script = "id -u; id -g; id -G; readlink /proc/self/exe; echo x >/dev/null && echo null; \
                      echo out >/dev/stdout; echo err | cat >/dev/stderr; head -1 /proc/mounts; cut -d' ' -f5 /proc/self/mountinfo";
        let (_, text, report) = output(&step(here, script, ids).user(7, 8, &[9]));
        let proc = if emulated { "/bin/busybox\nnull\nout\noverlay / overlay rw,relatime 0 0\n/\n/proc\n" } else { "" };
        let expected = format!("7\n8\n8 9\n{proc}");
        // Two pipes have no order.
        let (before, after) = text.split_once("err\n").filter(|_| emulated).unwrap_or((&text, ""));
        let text = [before, after].concat();
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(report.proc_missing, !emulated);
    }
}

fn renames(here: &Place) {
    let emulated = || Ids::Emulated { special: vec![], devices: DeviceFiles::Absent };
    let mut ways = vec![(emulated(), false)];
    if !crate::place::is_chroot(&here.name) {
        ways.push((if here.is_single() { emulated() } else { Ids::Real }, true));
    }
    ways.into_iter().for_each(|(ids, in_namespaces)| renames_with(here, ids, in_namespaces));
}

fn renames_with(here: &Place, ids: Ids, in_namespaces: bool) {
    // What mv does where rename(2) is EXDEV is told by the number of the folder.
    let script = "cd /tmp; mkdir new; i=$(stat -c %i new); mv new new2; [ $i = $(stat -c %i new2) ] && echo kept; \
                  i=$(stat -c %i old); mv old old2; [ $i = $(stat -c %i old2) ] || echo copied; cat old2/in/f; ls; \
                  i=$(stat -c %i cache/d); mv cache/d cache/e; [ $i = $(stat -c %i cache/e) ] && echo kept; \
                  mv cache cache2 2>/dev/null || echo busy; mv old2 old2/in 2>/dev/null || echo inside; \
                  i=$(stat -c %i file); mv file file2; [ $i = $(stat -c %i file2) ] && echo kept";
    let mut step = step(here, script, ids);
    if in_namespaces {
        step.spec.place = Around::Namespaces;
    }
    let tmp = step.upper().join("tmp");
    fs::create_dir_all(tmp.join("old/in")).expect("mkdir");
    fs::create_dir_all(tmp.join("cache/d")).expect("mkdir");
    fs::write(tmp.join("old/in/f"), "text\n").and_then(|()| fs::write(tmp.join("file"), "")).expect("writes");
    step.spec.brought.push(RawPath("/tmp/cache".into()));
    // The clock of file systems has to go on.
    std::thread::sleep(Duration::from_millis(20));
    let (exit, text, _) = output(&step);
    assert_eq!(
        (exit, text.as_str()),
        (Exit::Code(0), "kept\ncopied\ntext\ncache\nfile\nnew2\nold2\nkept\nbusy\ninside\nkept\n")
    );
}

fn names(here: &Place) {
    let emulated = Ids::Emulated { special: vec![], devices: DeviceFiles::Absent };
    let script = "cd /tmp; touch -d @5 . 2>/dev/null; chown -h 5:6 l2; chown 7 p2; ln -s y n; ln n n2; chown -h 8 n2; \
                  stat -c %n:%u:%g:%Y:%F l1 l2 p1 p2 n n2 | sed 's/:[0-9]*:symb/:symb/;s/:[0-9]*:fifo/:fifo/'; readlink l2; ls -A; \
                  [ $(stat -c %Y l1) = $(stat -c %Y l2) ] && echo times";
    let step = step(here, script, emulated);
    let tmp = step.upper().join("tmp");
    std::os::unix::fs::symlink("x", tmp.join("l1")).expect("symlink");
    fs::hard_link(tmp.join("l1"), tmp.join("l2")).expect("link");
    let mode = rustix::fs::Mode::from(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, tmp.join("p1"), rustix::fs::FileType::Fifo, mode, 0).expect("mkfifo");
    fs::hard_link(tmp.join("p1"), tmp.join("p2")).expect("link");
    std::thread::sleep(Duration::from_millis(20));
    let (exit, text, _) = output(&step);
    let expected = "l1:0:0:symbolic link\nl2:5:6:symbolic link\np1:0:0:fifo\np2:7:0:fifo\nn:8:0:symbolic link\n\
                    n2:8:0:symbolic link\nx\nl1\nl2\nn\nn2\np1\np2\ntimes\n";
    assert_eq!((exit, text.as_str()), (Exit::Code(0), expected));
}

fn left_behind(here: &Place) {
    for ids in ways(here) {
        let step =
            step(here, "setsid sleep 7654 & (sleep 7654 &) ; setsid sh -c 'sleep 7654 & sleep 7654' & true", ids);
        assert_eq!(output(&step).0, Exit::Code(0));
        let Around::Chroot { mark } = step.spec.place else { unreachable!("it was just set") };
        assert_eq!(end_marked(mark), 0, "nobody is left");
    }
}

fn marked(_: &Place) {
    let mark = mark();
    let limit = format!("ulimit -x {mark} 2>/dev/null || exit 3; exec sleep 7654");
    let mut stray = Command::new("bash").args(["-c", &limit]).spawn().expect("bash runs");
    let begin = Instant::now();
    while end_marked(mark) == 0 {
        let ended = stray.try_wait().expect("a child").and_then(|status| status.code());
        if ended == Some(3) {
            println!("not tested: this shell sets no limit of file locks");
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "it was not found");
    }
    assert!(!stray.wait().expect("a child").success());
    assert_eq!(end_marked(mark), 0);
}
