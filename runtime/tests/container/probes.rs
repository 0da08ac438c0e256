//! What the probes say where everything works.

use std::sync::OnceLock;

use coracle_runtime::probe::{self, Attempt, Check, Mode, Rung, Status, Wanted};
use coracle_runtime::{RuntimeError, userns};

use crate::Case;
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
