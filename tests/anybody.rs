//! Whoever starts it, and wherever: what needs no privilege works, and what is missing is named.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::environment::{Call, Environment, Visit, can_be_made, in_each};
use support::{User, base};

/// Where nothing can be run, as nobody in particular or on a root that cannot be written.
const CLOSED: [&str; 3] = ["k8s-restricted", "openshift-restricted", "readonly-rootfs"];

fn visit(place: Environment, calls: &[(&str, &str)]) -> BTreeMap<String, Call> {
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    support::set_mode(context.path(), 0o755);
    fs::write(context.path().join("f"), "x").expect("a file");
    fs::write(context.path().join("Dockerfile"), "FROM other\nCOPY f /f\n").expect("a file");
    let visit = Visit::with_busybox(context.path());
    place.visit(&calls.iter().fold(visit, |visit, (name, line)| visit.call(name, line)))
}

#[test]
fn verbs_that_run_nothing_need_nothing() {
    if !can_be_made() {
        return;
    }
    let calls = [
        ("version", "coracle version"),
        ("help", "coracle help build"),
        ("doctor", "coracle doctor"),
        ("doctor-json", "coracle doctor --json"),
        ("nothing-yet", "coracle images"),
        ("pull", "coracle pull oci:/base base"),
        ("images", "coracle images --json"),
        ("tag", "coracle tag base other"),
        ("inspect", "coracle inspect other"),
        ("history", "coracle history other"),
        ("push", "coracle push other oci-archive:/work/out.tar"),
        ("push-docker", "coracle push other docker-archive:/work/docker.tar"),
        ("rmi", "coracle rmi base"),
        ("build", "coracle build --tag built /context"),
        ("prune", "coracle prune --all"),
        ("read-only", "sh -c 'chmod -R a-w /work/store && coracle images'"),
    ];
    let places = CLOSED.map(Environment::named);
    for (place, found) in in_each(&places, |place| visit(place, &calls)) {
        for (name, _) in calls {
            assert_eq!(found[name].status, 0, "{}: {name}: {}", place.title(), found[name]);
        }
        let doctor: serde_json::Value = serde_json::from_str(&found["doctor-json"].stdout).expect("JSON");
        assert_eq!(doctor["run"], place.mode.runs(), "{}: {doctor}", place.title());
        let fix = doctor["fix"].as_str().unwrap_or_default();
        let word = if place.name.starts_with("openshift") { "SCC" } else { "securityContext.seccompProfile" };
        assert!(fix.contains(word), "{}: the fix is that of the place: {doctor}", place.title());
        let pull = &found["pull"];
        assert!(place.mode.runs() || !pull.stderr.contains("warning"), "{}: {pull}", place.title());
    }
}

#[test]
fn a_home_that_cannot_be_written_is_named_with_the_ways_out() {
    if !can_be_made() {
        return;
    }
    // HOME is / there, which belongs to somebody else, or lies on a disk that is read-only.
    let home = "env -u CORACLE_ROOT coracle pull oci:/base base";
    let none = "env -u CORACLE_ROOT -u HOME coracle pull oci:/base base";
    let data = "env -u CORACLE_ROOT XDG_DATA_HOME=/work/data coracle pull oci:/base base";
    let places = ["openshift-restricted", "readonly-rootfs"].map(Environment::named);
    for (place, found) in in_each(&places, |place| visit(place, &[("home", home), ("none", none), ("data", data)])) {
        let title = place.title();
        let says = |name: &str, text: &str| assert!(found[name].stderr.contains(text), "{title}: {}", found[name]);
        assert_eq!((found["home"].status, found["none"].status, found["data"].status), (5, 2, 0), "{title}");
        says("home", ".local/share/coracle");
        for way in ["--root", "CORACLE_ROOT", "XDG_DATA_HOME"] {
            says("home", way);
            says("none", way);
        }
        says("none", "HOME is not set");
    }
}

/// Copies the program and the libraries that it wants into `dir`, as they lie here.
fn copy_program(dir: &Path) -> bool {
    let program = env!("CARGO_BIN_EXE_coracle");
    let Ok(listing) = Command::new("ldd").arg(program).output() else { return false };
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = dir.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(library, to).expect("a library");
    }
    fs::copy(program, dir.join("coracle")).is_ok()
}

#[test]
fn in_an_empty_root_without_a_proc_all_but_run_works() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    if !rustix::process::getuid().is_root() || !copy_program(dir.path()) {
        assert!(std::env::var_os("CI").is_none(), "only root can change the root, with ldd");
        eprintln!("skipped: only root can change the root, with ldd");
        return;
    }
    support::set_mode(dir.path(), 0o755);
    let copied = Command::new("cp").arg("-r").arg(base::busybox()).arg(dir.path().join("base")).status();
    assert!(copied.expect("cp runs").success());
    for (path, text) in
        [("copy/Dockerfile", "FROM base\nCOPY f /f\nWORKDIR /w\n"), ("run/Dockerfile", "FROM base\nRUN true\n")]
    {
        let path = dir.path().join(path);
        fs::create_dir(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    fs::write(dir.path().join("copy/f"), "x").expect("a file");
    let call = |line: &str| {
        let output = Command::new("chroot")
            .arg(dir.path())
            .args(["/coracle", "--root", "/store"])
            .args(line.split(' '))
            .output();
        let output = output.expect("chroot runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = call("doctor");
    assert!(
        status == Some(0) && said.contains("mode     none") && said.contains("blocker  there is no /proc"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&call("doctor --json").1).expect("JSON");
    assert_eq!((&json["mode"], &json["fix"]), (&"none".into(), &"mount it: mount -t proc proc /proc".into()));
    for line in ["version", "images", "pull oci:/base base", "build --tag copied /copy", "inspect copied"] {
        let (status, said) = call(line);
        assert_eq!(status, Some(0), "{line}: {said}");
    }
    let (status, said) = call("build /run");
    assert!(status == Some(6) && said.contains("no command can be run here: there is no /proc"), "{said}");
}

#[test]
fn an_ordinary_user_may_use_a_store_that_root_made_to_look_at_it_only() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can be both");
        return;
    }
    let user = User::new();
    let store = user.new_dir();
    let root = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle")).args(args).env("CORACLE_ROOT", &store).output();
        let output = output.expect("coracle runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    root(&["pull", &format!("oci:{}", base::busybox().display())]);
    let call = |verb: &str| user.coracle([verb]).env("CORACLE_ROOT", store.to_str().expect("text"));
    call("images").run().succeeds().stdout_has("busybox");
    let pull = call("pull").arg(format!("oci:{}", base::busybox().display())).run().fails(5);
    pull.stderr_has("Permission denied").stderr_has("hint: name a folder that you may write");
}
