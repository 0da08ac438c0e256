//! The working directory of a command.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use coracle_runtime::container::{Exit, Obstacle};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("a command is in a directory that its user may not enter", closed),
    ("a working directory that is missing is made, and is the user's", missing),
    ("no working directory leads out by a descriptor", descriptors),
];

fn at(cwd: &str, step: Step) -> Step {
    let mut step = step;
    step.spec.cwd = cwd.into();
    step
}

/// A layer with what `make` makes.
fn layer(place: &Place, make: impl FnOnce(&Path)) -> std::path::PathBuf {
    let dir = place.dir("layer");
    make(&dir);
    dir
}

fn closed(place: &Place) {
    let layer = layer(place, |dir| {
        fs::create_dir_all(dir.join("d/e")).expect("mkdir");
        fs::set_permissions(dir.join("d"), fs::Permissions::from_mode(0o700)).expect("chmod");
    });
    let script = "pwd; ls . 2>&1 | grep -o 'Permission denied'; touch x 2>/dev/null || echo closed";
    let step = |script: &str| place.shell(script).lower(layer.clone()).user(1000, 1000, &[]);
    assert_eq!(at("/d", step(script)).prints(), "/d\nPermission denied\nclosed");
    assert_eq!(at("/d/e", step("pwd")).prints(), "/d/e", "below it");
    assert_eq!(at("/d", step("cd / && cd /d 2>/dev/null || echo refused")).prints(), "refused", "there is no way back");
}

fn missing(place: &Place) {
    let show = "pwd; stat -c '%n %u:%g %a' .. .; touch x && stat -c %u:%g x";
    let step = at("/made/a", place.shell(show).user(1000, 50, &[]));
    assert_eq!(step.prints(), "/made/a\n.. 1000:50 755\n. 1000:50 755\n1000:50");
    assert!(step.upper().join("made/a/x").is_file(), "it is of the layer");
    assert_eq!(at("/made", place.shell("pwd; stat -c '%u:%g %a' .")).prints(), "/made\n0:0 755");
    // Where a link leads, and with the mark of the directory around it.
    let layer = layer(place, |dir| {
        fs::create_dir_all(dir.join("marked")).expect("mkdir");
        fs::set_permissions(dir.join("marked"), fs::Permissions::from_mode(0o2777)).expect("chmod");
        symlink("../../marked/to", dir.join("link")).expect("link");
    });
    let step = at("/link", place.shell("pwd -P; stat -c '%u:%g %a' .").lower(layer).user(7, 8, &[]));
    assert_eq!(step.prints(), "/marked/to\n7:8 2755");
    // Only what is missing, and nothing where something else is.
    let file = at("/bin/busybox", place.step(&["true"])).run().exit();
    assert!(matches!(file, Exit::NotStarted { what: Obstacle::WorkingDirectory, .. }), "{file:?}");
    let step = at("/tmp", place.shell("stat -c '%u:%g %a' .").user(7, 8, &[]));
    assert_eq!(step.prints(), "0:0 1777");
}

fn descriptors(place: &Place) {
    for fd in 3..24 {
        for path in [format!("/proc/self/fd/{fd}"), format!("/dev/fd/{fd}/../x")] {
            let exit = at(&path, place.step(&["true"])).run().exit();
            assert!(matches!(exit, Exit::NotStarted { what: Obstacle::WorkingDirectory, .. }), "{path}: {exit:?}");
        }
    }
}
