//! Real containers, as a user with subordinate ids and as root. Started by root, this program makes such a user for
//! itself, in a mount namespace of its own: the files of the machine stay as they are. A place that can not be had is
//! named, and where CI is set it is a failure.
//!
//! `cargo test --test container -- NAME` runs the cases whose names contain NAME; `-- --place=PLACE NAME` in the places whose names
//! contain PLACE.

mod basics;
mod calls;
mod chroot;
mod cwd;
mod emulation;
mod isolation;
#[path = "../kernels/mod.rs"]
mod kernels;
mod lifetime;
mod links;
mod mounts;
mod older;
mod place;
mod probes;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, ExitCode};

use coracle_runtime::{IdMaps, userns};
use place::Place;

/// A test, and its name.
type Case = (&'static str, fn(&Place));

/// The user that root makes for the test; nobody has these numbers.
const UID: u32 = 30_123;
/// The limit that the cases are started with, lower than what a machine has.
pub const OPEN_FILES: u32 = 300;
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const SUB_IDS: &str = "tester:1000000000:65536\n";

fn main() -> ExitCode {
    coracle_runtime::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--victim") => lifetime::victim(Path::new(&args[1])),
        Some("--inside") => return inside(&args[1], args.get(2).map(String::as_str)),
        Some("--older") => return cases(&args[1], &older::cases(&args[1]), args.get(2).map(String::as_str)),
        Some("--under-listener") => return emulation::under_listener(&args[1]),
        Some("--calls") => {
            calls::run(&args[1]);
            return ExitCode::SUCCESS;
        }
        Some("--nobody-is-emulated") => {
            probes::nobody_is_emulated();
            return ExitCode::SUCCESS;
        }
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let only = args.iter().find_map(|arg| arg.strip_prefix("--place=")).unwrap_or_default();
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map(String::as_str);
    if !rustix::process::getuid().is_root() {
        if let Err(error) = IdMaps::discover() {
            return skip("user", &format!("{error}; {}", error.hint().unwrap_or_default()));
        }
        let older = older::places().into_iter().filter(|place| older::is_for_everybody(place));
        let places = std::iter::once("user".into()).chain(older).filter(|place: &String| place.contains(only));
        let results = places.map(|place| run(&mut limited(Path::new("/proc/self/exe"), &place, filter), &place));
        return if results.fold(true, |all, one| all & one) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let dir = tempfile::Builder::new().prefix("coracle-test-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // The way to the one that cargo made may be closed to others.
    let program = dir.path().join("test");
    std::fs::copy("/proc/self/exe", &program).expect("copies this program");
    let places = [
        "user",
        "user, followed",
        "user, masked proc",
        "user, single id",
        "user, single id, followed",
        "user, single id, masked proc",
        "root",
        "root, single id",
        "root, chroot",
        "docker-default",
    ];
    let places = places.map(String::from).into_iter().chain(older::places()).filter(|place| place.contains(only));
    let results = places.map(|place| match place.as_str() {
        place if place.starts_with("root") => run(&mut limited(&program, place, filter), place),
        place if place::is_chroot(place) => in_docker(&program, place, filter),
        _ => as_user(dir.path(), &program, &place, filter),
    });
    // Each is run, whatever became of the others.
    if results.fold(true, |all, one| all & one) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the command that runs the cases as the user that this is.
fn limited(program: &Path, place: &str, filter: Option<&str>) -> Command {
    let program = std::fs::canonicalize(program).expect("a program");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -Sn {OPEN_FILES}; exec \"$0\" \"$@\"")]);
    command.arg(program).args(["--inside", place]).args(filter);
    command
}

/// Says why a place is left out.
fn skip(place: &str, reason: &str) -> ExitCode {
    println!("container, {place}: not tested: {reason}");
    if std::env::var_os("CI").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn as_user(dir: &Path, program: &Path, place: &str, filter: Option<&str>) -> bool {
    for tool in ["unshare", "setpriv", "mount", "newuidmap"] {
        if !["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|bin| Path::new(bin).join(tool).exists()) {
            return skip(place, &format!("{tool} is not installed")) == ExitCode::SUCCESS;
        }
    }
    let etc = dir.join("etc");
    let tmp = dir.join("tmp");
    std::fs::create_dir_all(&etc).and_then(|()| std::fs::create_dir_all(&tmp)).expect("mkdir");
    chown(&tmp, Some(UID), Some(UID)).expect("chown");
    let users = format!("root:x:0:0::/root:/bin/sh\ntester:x:{UID}:{UID}::/:/bin/sh\n");
    for (name, text) in [("passwd", users.as_str()), ("subuid", SUB_IDS), ("subgid", SUB_IDS)] {
        std::fs::write(etc.join(name), text).expect("writes");
    }
    let mask = if place.contains("masked") { "mount -t tmpfs none /proc/fs || exit 99;" } else { "" };
    let script = format!(
        "mount --make-rprivate / && mount -t overlay -o lowerdir=\"$0/etc\":/etc none /etc || exit 99; {mask} \
         ulimit -Sn {OPEN_FILES}; exec setpriv --reuid={UID} --regid={UID} --clear-groups -- \"$@\""
    );
    run(
        Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(dir)
            .arg(program)
            .args(["--inside", place])
            .args(filter)
            .env("TMPDIR", &tmp)
            .env("HOME", &tmp),
        place,
    )
}

/// The cases about calls, where root may make no namespace: in a container as Docker makes it, with its profile of calls.
fn in_docker(program: &Path, place: &str, filter: Option<&str>) -> bool {
    if !["/usr/bin", "/usr/sbin"].iter().any(|bin| Path::new(bin).join("runc").exists()) {
        return skip(place, "runc is not installed") == ExitCode::SUCCESS;
    }
    let simulation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/environments/in-env");
    let mut command = Command::new(simulation);
    command.args(["docker-default", "--env", "TMPDIR=/work", "--env", &format!("PATH={PATH}")]);
    command.arg("--bind").arg(format!("{}:/test:ro", program.display()));
    run(command.args(["--", "/test", "--inside", place]).args(filter), place)
}

fn run(command: &mut Command, place: &str) -> bool {
    match command.status() {
        Ok(status) if status.code() == Some(99) => skip(place, "mounting is not allowed here") == ExitCode::SUCCESS,
        Ok(status) => status.success(),
        Err(error) => skip(place, &error.to_string()) == ExitCode::SUCCESS,
    }
}

/// All cases, one after the other, in a user namespace that is entered once.
fn inside(place: &str, filter: Option<&str>) -> ExitCode {
    let kernel = older::kernel_of(place);
    if let Some(kernel) = kernel.filter(|_| place::is_chroot(place)) {
        return older::run(kernel, place, filter);
    }
    if place == "root, chroot" {
        // Nothing is around it: only what is tried with care.
        return cases(place, calls::OF_ROOT_IN_A_CHROOT, filter);
    }
    if place::is_chroot(place) {
        return cases(place, &[calls::CASES, cwd::CASES, chroot::CASES].concat(), filter);
    }
    if kernel.is_none() {
        probes::before_entering();
    }
    let maps = match place.contains("single") {
        true => IdMaps::single(),
        false => IdMaps::discover().unwrap_or_else(|error| panic!("{error}: {:?}", error.hint())),
    };
    if let Err(error) = userns::enter(&maps) {
        panic!("{error}: {:?}; {:?}", std::error::Error::source(&error).map(ToString::to_string), error.hint());
    }
    println!("container, {place}: {maps}, realm {}", maps.realm());
    if place == "root, single id" {
        return cases(place, &[calls::OF_THE_MACHINE], filter);
    }
    if let Some(kernel) = kernel {
        return older::run(kernel, place, filter);
    }
    let all = [
        basics::CASES,
        cwd::CASES,
        isolation::CASES,
        links::CASES,
        mounts::CASES,
        lifetime::CASES,
        probes::CASES,
        calls::CASES,
        emulation::CASES,
        chroot::CASES,
    ]
    .concat();
    cases(place, &all, filter)
}

fn cases(place: &str, all: &[Case], filter: Option<&str>) -> ExitCode {
    let Some(here) = Place::new(place) else { return skip(place, "busybox-static is not installed") };
    let mut failed = Vec::new();
    for (name, case) in all.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter))) {
        let begin = std::time::Instant::now();
        let result = std::panic::catch_unwind(|| case(&here));
        let took = begin.elapsed().as_millis();
        println!("test {place}: {name} ... {} ({took} ms)", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("{place}: {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
