//! What goes and what stays when room is made.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use support::gate::Gate;
use support::repositories::{Server, git};
use support::{Outcome, Project, User, run};

fn json(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.succeeds().stdout).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Makes the build cache and all blobs as old as that.
fn age(user: &User, span: Duration) {
    let both = [user.store().join("cache"), user.layout().join("blobs")];
    let repositories = fs::read_dir(user.store().join("cache/fetched/git")).into_iter().flatten().flatten();
    for file in both.iter().flat_map(|dir| files(dir)).chain(repositories.map(|entry| entry.path())) {
        File::open(file).unwrap().set_modified(SystemTime::now() - span).unwrap();
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// A project of one step, whose layer is `kib` large.
fn project(user: &User, name: &str, kib: usize) -> Project {
    let text = format!("FROM busybox\nRUN head -c {} /dev/urandom >/{name}", kib << 10);
    Project::of(user).dockerfile(&text).named(&format!("{name}:latest"))
}

#[test]
fn what_was_not_used_goes_and_what_was_stays() {
    let user = User::with_busybox();
    let (old, new) = (project(&user, "old", 300), project(&user, "new", 300));
    old.build().succeeds();
    new.build().succeeds();
    run(&user, &["rmi", "old", "new"]).succeeds();
    age(&user, 10 * DAY);
    // A hit is a use.
    new.build().cached(1);
    run(&user, &["rmi", "new"]).succeeds();
    let would = json(run(&user, &["prune", "--keep-for", "7d", "--dry-run", "--json"]));
    assert!(would["bytes"].as_u64().unwrap() > 300 << 10, "{would}");
    old.build().cached(1);
    run(&user, &["rmi", "old"]).succeeds();
    age(&user, 10 * DAY);
    new.build().cached(1);
    run(&user, &["rmi", "new"]).succeeds();
    run(&user, &["prune", "--keep-for", "7d"]).succeeds();
    new.build().cached(1);
    old.build().cached(0);
    // The same in other words.
    run(&user, &["rmi", "old", "new"]).succeeds();
    age(&user, 10 * DAY);
    run(&user, &["prune", "--filter", "until=240h1m"]).succeeds();
    old.build().cached(1);
    run(&user, &["rmi", "old"]).succeeds();
    age(&user, 10 * DAY);
    run(&user, &["prune", "--filter", "until=9d"]).succeeds();
    old.build().cached(0);
}

#[test]
fn what_is_built_daily_keeps_its_digest() {
    let user = User::with_busybox();
    let project =
        Project::of(&user).file("f", "text").dockerfile("FROM busybox\nCOPY f /f\nENV a=b").named("app:latest");
    let first = project.build().succeeds().digest().to_owned();
    let build = || {
        // The time of an image is in seconds.
        thread::sleep(Duration::from_millis(1100));
        project.build().cached(1).succeeds().digest().to_owned()
    };
    let old = || age(&user, 10 * DAY);
    old();
    assert_eq!(build(), first);
    run(&user, &["untag", "app"]).succeeds();
    run(&user, &["prune", "--keep-for", "7d"]).succeeds();
    assert_eq!(build(), first, "it was used since");
    assert_eq!(files(&user.store().join("cache/contexts")).len(), 1);
    // With a name it need not have been.
    for words in [&["--keep-for", "7d"][..], &["--max-size", "1k"], &["--all"]] {
        old();
        run(&user, &[&["prune"], words].concat()).succeeds();
        assert_eq!(build(), first, "{words:?}");
    }
    // Nobody has used it, and nothing has it.
    old();
    run(&user, &["untag", "app"]).succeeds();
    run(&user, &["prune", "--keep-for", "7d"]).succeeds();
    thread::sleep(Duration::from_millis(1100));
    assert_ne!(project.build().cached(0).succeeds().digest(), first);
}

#[test]
fn a_repository_in_daily_use_stays_and_others_go() {
    if !support::require_tool("git") {
        return;
    }
    let mut server = Server::new();
    let id = git(&server.repository("used", &[("a", "one")]), &["rev-parse", "HEAD"]);
    server.repository("unused", &[("a", "two")]);
    let user = User::with_busybox();
    let adding = |address: &str| {
        let text = format!("FROM scratch\nADD {} /c/\n", server.url(address));
        Project::of(&user).arg("--no-cache").dockerfile(&text).named("c:latest")
    };
    let (branch, pinned) = (adding("used#main"), adding(&format!("used#{id}")));
    branch.build().succeeds();
    adding("unused#main").build().succeeds();
    age(&user, 10 * DAY);
    branch.build().succeeds();
    run(&user, &["prune", "--keep-for", "7d"]).succeeds();
    let left = fs::read_dir(user.store().join("cache/fetched/git")).unwrap().count();
    assert_eq!(left, 2, "a repository and its lock");
    let _ = server.daemon.kill().and_then(|()| server.daemon.wait());
    pinned.build().succeeds().has_file("c/a", "one");
}

#[test]
fn a_limit_takes_the_longest_unused_first_and_no_name() {
    let user = User::with_busybox();
    let names = ["one", "two", "three"];
    let projects: Vec<_> = names.iter().map(|name| project(&user, name, 2048)).collect();
    for (at, project) in projects.iter().enumerate() {
        project.build().succeeds();
        age(&user, Duration::from_secs(3600));
        thread::sleep(Duration::from_millis(20));
        if at > 0 {
            run(&user, &["untag", names[at]]).succeeds();
        }
    }
    // "two" was used last; "one" has a name.
    projects[1].build().cached(1);
    run(&user, &["untag", "two"]).succeeds();
    run(&user, &["prune"]).succeeds();
    let have = json(run(&user, &["df", "--json"]))["total"]["bytes"].as_u64().unwrap();
    let most = format!("{}b", have - (1 << 20));
    run(&user, &["prune", "--max-size", &most]).succeeds();
    let now = json(run(&user, &["df", "--json"]))["total"]["bytes"].as_u64().unwrap();
    assert!(now <= have - (1 << 20), "{now} of {have}");
    projects[1].build().cached(1);
    projects[0].build().cached(1);
    projects[2].build().cached(0);
    let tiny = run(&user, &["prune", "--max-size", "1k"]).succeeds();
    tiny.stderr_has("images with a name stay");
    for project in &projects {
        project.build().cached(1);
    }
}

#[test]
fn labels_choose_among_images_without_a_name() {
    let user = User::with_busybox();
    for name in ["keep", "drop"] {
        let text = format!("FROM busybox\nLABEL kind={name}");
        Project::of(&user).dockerfile(&text).named(&format!("{name}:latest")).build().succeeds();
    }
    run(&user, &["rmi", "keep", "drop"]).succeeds();
    run(&user, &["prune", "--filter", "label=kind=drop"]).succeeds();
    let left = |label: &str| {
        let filter = format!("label=kind={label}");
        run(&user, &["images", "-q", "-a", "-f", &filter]).succeeds().stdout.lines().count()
    };
    assert_eq!((left("keep"), left("drop")), (1, 0));
    run(&user, &["prune", "--filter", "label!=kind=keep"]).succeeds();
    assert_eq!(left("keep"), 1);
    run(&user, &["prune"]).succeeds();
    assert_eq!(left("keep"), 0);
    run(&user, &["prune", "--filter", "colour=red"]).fails(2).stderr_has("there are until, label and dangling");
    run(&user, &["prune", "--keep-for", "soon"]).fails(2).stderr_has("it is a duration");
}

#[test]
fn a_dry_run_says_what_goes_and_removes_nothing() {
    let user = User::with_busybox();
    project(&user, "gone", 500).build().succeeds();
    run(&user, &["rmi", "gone"]).succeeds();
    let before = files(&user.store()).len();
    let would = json(run(&user, &["prune", "--all", "--dry-run", "--json"]));
    run(&user, &["prune", "--all", "--dry-run"]).succeeds().stdout_has("would remove");
    assert_eq!(files(&user.store()).len(), before);
    let did = json(run(&user, &["prune", "--all", "--json"]));
    for key in ["blobs", "layers", "cache_entries"] {
        assert_eq!(would[key], did[key], "{key}: {would} {did}");
    }
    assert!(files(&user.store()).len() < before);
}

#[test]
fn df_says_where_the_room_is() {
    let user = User::with_busybox();
    project(&user, "web", 1024).build().succeeds();
    let with_name = json(run(&user, &["df", "--json"]));
    assert!(with_name["blobs"]["active"].as_u64().unwrap() >= 6, "{with_name}");
    assert!(with_name["layers"]["bytes"].as_u64().unwrap() > 1 << 20, "{with_name}");
    run(&user, &["rmi", "web"]).succeeds();
    let without = json(run(&user, &["df", "--json"]));
    let gained =
        without["total"]["reclaimable"].as_u64().unwrap() - with_name["total"]["reclaimable"].as_u64().unwrap();
    assert!(gained > 2 << 20, "{without}");
    run(&user, &["df"]).succeeds().stdout_has("RECLAIMABLE").stdout_has("cache mounts");
    let did = json(run(&user, &["prune", "--all", "--json"]));
    let (did, said) = (did["bytes"].as_u64().unwrap(), without["total"]["reclaimable"].as_u64().unwrap());
    assert!(did.abs_diff(said) < 200 << 10, "{did} and {said}");
    let nothing = User::new();
    run(&nothing, &["df"]).succeeds().stdout_has("all");
    run(&nothing, &["prune", "--dry-run"]).succeeds();
    assert!(!nothing.store().exists());
}

#[test]
fn a_running_build_loses_nothing() {
    let user = User::with_busybox();
    let gate = Gate::closed();
    let wait = gate.wait();
    let slow = Project::of(&user)
        .dockerfile(&format!("FROM busybox\nRUN echo one >/one\nRUN echo rea''dy; {wait}; cat /one >/two"));
    let mut building = slow.start();
    building.wait_for("ready");
    // To look waits for nobody; to remove waits for the build.
    run(&user, &["prune", "--all", "--dry-run"]).succeeds().stderr_has_no("waiting for other processes");
    let mut pruning = user.coracle(["prune", "--all", "--max-size", "1k", "--keep-for", "0s"]).start();
    pruning.wait_for("waiting for other processes");
    gate.open();
    pruning.wait().succeeds();
    building.wait().succeeds();
    slow.image().has_file("two", "one\n");
}

#[test]
fn a_prune_with_limits_that_is_killed_leaves_a_store_that_works() {
    let user = User::with_busybox();
    let project = project(&user, "web", 400);
    for round in 0..6 {
        project.build().succeeds();
        run(&user, &["rmi", "web"]).succeeds();
        let running = user.coracle(["prune", "--max-size", "1k"]).start();
        thread::sleep(Duration::from_millis(3 + 9 * round));
        running.signal(Signal::KILL);
        running.wait();
    }
    project.build().succeeds();
    run(&user, &["prune"]).succeeds();
    project.build().succeeds();
}
