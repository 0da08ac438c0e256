//! What the probes say where everything works.

use std::process::Command;
use std::sync::OnceLock;

use coracle_runtime::probe::{self, Attempt, Check, Mode, Rung, Status, Wanted};
use coracle_runtime::{RuntimeError, userns};

use crate::Case;
use crate::kernels::{self, Users};
use crate::place::Place;

pub const CASES: &[Case] = &[
    ("every feature that a step needs is there", all_there),
    ("a process with threads does not enter a user namespace", threads),
];

static SEEN: OnceLock<Vec<Check>> = OnceLock::new();

/// Probes are for a process that has not entered anything.
pub fn before_entering() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let choice = probe::climb(dir.path());
    let root = rustix::process::getuid().is_root();
    assert_eq!(choice.mode.name(), "full-map", "{choice:?}");
    for Attempt { rung, refused, .. } in &choice.attempts {
        // Root only may change the root of a process; all else is for everybody.
        assert_eq!(refused.is_some(), *rung == Rung::Chroot && !root, "{rung}: {refused:?}");
    }
    let only = |wanted| probe::choose(dir.path(), wanted).mode;
    assert_eq!(only(Wanted::Any), choice.mode);
    assert_eq!(only(Wanted::Chroot).name(), if root { "chroot" } else { "none" });
    assert_eq!(only(Wanted::Nothing), Mode::None(RuntimeError::NotWanted));
    SEEN.get_or_init(|| probe::all(dir.path()));
    assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0, "nothing is left behind");
    assert!(std::fs::read_to_string("/proc/self/status").expect("reads").contains("Threads:\t1\n"));
    if kernels::is_possible() {
        let mut command = Command::new("/proc/self/exe");
        let run = kernels::LINUX_5_13.run(command.arg("--nobody-is-emulated"));
        let (code, refused) = run.expect("runs as on an older kernel");
        assert_eq!((code, kernels::LINUX_5_13.unmet(&refused, Users::Real)), (0, vec![]), "{refused:?}");
    }
}

/// Before Linux 5.14 a listener can be had, but no file be handed over, without which nobody can be emulated.
pub fn nobody_is_emulated() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let choice = probe::choose(dir.path(), Wanted::OneId);
    let Some(Attempt { refused: Some(error), .. }) = choice.attempts.first() else { panic!("{choice:?}") };
    assert!(error.to_string().contains("NOTIF_ADDFD"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("5.14")), "{error}");
    assert_eq!(probe::emulation(dir.path()).as_ref(), Err(error));
    let checks = probe::all(dir.path());
    let listener = checks.iter().find(|check| check.name == "seccomp listener").expect("a line of the table");
    assert_eq!(listener.seen.as_ref(), Some(error));
    assert!(matches!(listener.status, Status::Degraded { .. }));
}

fn all_there(place: &Place) {
    let checks = SEEN.get().expect("probed before");
    assert!(checks.len() > 15);
    for check in checks {
        if check.name == "host name" && place.proc_is_masked() {
            // As the container around this one has it.
            continue;
        }
        let expected_to_fail = check.name == "fresh /proc" && place.proc_is_masked();
        assert_eq!(check.status == Status::Ok, !expected_to_fail, "{}: {:?}", check.name, check.seen);
        if expected_to_fail {
            assert!(matches!(check.status, Status::Degraded { .. }));
            assert_eq!(check.seen.as_ref().map(ToString::to_string).as_deref(), Some("mount(proc)"));
        }
    }
}

fn threads(_: &Place) {
    let maps = coracle_runtime::IdMaps::discover().expect("a map");
    let (end, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || wait.recv());
        assert_eq!(userns::enter(&maps), Err(RuntimeError::Threads { threads: 2 }));
        drop(end);
    });
}
