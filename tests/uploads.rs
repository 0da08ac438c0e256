//! An upload that was killed is gone on with by the next process.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::registry::{Act, Auth, Registry};
use support::{Image, Outcome, Project, User};

const SENT: usize = 3_000_000;

/// A user with an image `big` of one layer that does not compress; returns the digest of that.
fn user() -> (User, String) {
    let user = User::new();
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(6 << 20).collect();
    let project = Project::of(&user)
        .file("big", bytes)
        .dockerfile("FROM scratch\nCOPY big /big")
        .named("docker.io/library/big:latest");
    let image = project.arg("--compression=none").build().succeeds();
    let digest = image.manifest()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    (user, digest)
}

fn push(user: &User, registry: &Registry) -> Outcome {
    user.coracle(["push", "--retry-delay=10ms", "--creds=ann:geheim", "big", &registry.name("app:1")]).run()
}

/// Pushes, and kills that in the middle of the layer.
fn killed(user: &User, registry: &Registry) {
    registry.fault("PUT", "uploads", 1, Act::Swallow(SENT));
    let push = user.coracle(["push", "--creds=ann:geheim", "big", &registry.name("app:1")]).start();
    let begin = Instant::now();
    while !registry.seen("PUT", "uploads").iter().any(|seen| seen.body == SENT) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", registry.state().log);
        std::thread::sleep(Duration::from_millis(5));
    }
    push.signal(Signal::KILL);
    let _ = push.wait();
    registry.release();
    registry.forget();
}

fn records(user: &User) -> Vec<PathBuf> {
    let files = fs::read_dir(user.store().join("uploads")).into_iter().flatten().flatten();
    files.map(|file| file.path()).collect()
}

fn is_there(registry: &Registry, user: &User) {
    let image = Image::named(&user.layout(), "docker.io/library/big:latest", None);
    let state = registry.state();
    let (_, manifest) = &state.manifests[&("app".to_owned(), "1".to_owned())];
    assert_eq!(coracle::oci::Digest::of(manifest).to_string(), image.digest());
    drop(state);
    assert!(records(user).is_empty(), "{:?}", records(user));
}

#[test]
fn the_next_push_sends_the_rest() {
    for auth in
        [Auth::Basic("ann", "geheim"), Auth::Bearer { login: Some(("ann", "geheim")), identity: None, uses: 100 }]
    {
        let ((user, _), registry) = (user(), Registry::new());
        registry.state().auth = auth;
        killed(&user, &registry);
        let record = records(&user).pop().expect("a record");
        assert_eq!(fs::metadata(&record).expect("a file").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&record).expect("text");
        assert!(
            text.contains("/v2/app/blobs/uploads/") && !text.contains("geheim") && !text.contains("token-"),
            "{text}"
        );
        push(&user, &registry).succeeds();
        let patches = registry.seen("PATCH", "uploads");
        assert_eq!(patches.len(), 1, "{:?}", registry.state().log);
        assert!(patches[0].head["content-range"].starts_with(&format!("{SENT}-")), "{patches:?}");
        is_there(&registry, &user);
    }
}

#[test]
fn what_the_registry_has_forgotten_or_is_too_old_begins_anew() {
    let ((user, layer), registry) = (user(), Registry::new());
    killed(&user, &registry);
    registry.forget_uploads();
    push(&user, &registry).succeeds();
    assert!(registry.seen("PUT", "uploads").iter().any(|seen| seen.body == 6 << 20 || seen.path.contains(&layer)));
    assert!(registry.seen("PATCH", "uploads").is_empty());
    is_there(&registry, &user);
    // A record of the day before yesterday is not even tried.
    let registry = Registry::new();
    killed(&user, &registry);
    let record = records(&user).pop().expect("a record");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&record).expect("bytes")).expect("JSON");
    value["began"] = (value["began"].as_u64().expect("a time") - 2 * 24 * 3600).into();
    fs::write(&record, value.to_string()).expect("written");
    push(&user, &registry).succeeds();
    assert!(registry.seen("GET", "uploads").is_empty());
    is_there(&registry, &user);
    // Half a record is none.
    let registry = Registry::new();
    killed(&user, &registry);
    let record = records(&user).pop().expect("a record");
    let half = fs::read(&record).expect("bytes");
    fs::write(&record, &half[..half.len() / 2]).expect("written");
    push(&user, &registry).succeeds();
    is_there(&registry, &user);
}

#[test]
fn what_was_sent_and_is_wrong_is_sent_again() {
    let ((user, _), registry) = (user(), Registry::new());
    killed(&user, &registry);
    registry.spoil_uploads();
    push(&user, &registry).succeeds().stderr_has("DIGEST_INVALID");
    is_there(&registry, &user);
}

#[test]
fn of_two_at_once_one_goes_on_and_both_succeed() {
    let ((user, _), registry) = (user(), Registry::new());
    killed(&user, &registry);
    let name = registry.name("app:1");
    let both = [1, 2].map(|_| user.coracle(["push", "--retry-delay=10ms", "big", &name]).start());
    both.into_iter().for_each(|push| drop(push.wait().succeeds()));
    is_there(&registry, &user);
}

#[test]
fn prune_forgets_what_nobody_went_on_with() {
    let ((user, _), registry) = (user(), Registry::new());
    killed(&user, &registry);
    user.coracle(["prune"]).run().succeeds();
    assert_eq!(records(&user).len(), 1, "for a day it is worth something");
    user.coracle(["prune", "--all"]).run().succeeds();
    assert!(records(&user).is_empty());
}

#[test]
fn a_cache_that_was_being_written_goes_on_in_the_next_build() {
    let (user, registry) = (User::new(), Registry::new());
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(6 << 20).collect();
    let to = format!("--cache-to=type=registry,ref={},ignore-error=false", registry.name("cache:1"));
    let project = Project::of(&user).file("big", bytes).dockerfile("FROM scratch\nCOPY big /big");
    let project = project.arg("--compression=none").arg("--retry-delay=10ms").arg(&to);
    registry.fault("PUT", "uploads", 1, Act::Swallow(SENT));
    let build = project.start();
    let begin = Instant::now();
    while !registry.seen("PUT", "uploads").iter().any(|seen| seen.body == SENT) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", registry.state().log);
        std::thread::sleep(Duration::from_millis(5));
    }
    build.signal(Signal::KILL);
    let _ = build.wait();
    registry.release();
    registry.forget();
    assert_eq!(records(&user).len(), 1);
    project.build().cached(1).succeeds();
    let patches = registry.seen("PATCH", "uploads");
    assert_eq!(patches.len(), 1, "{:?}", registry.state().log);
    assert!(patches[0].head["content-range"].starts_with(&format!("{SENT}-")), "{patches:?}");
    assert!(records(&user).is_empty());
    // It is whole: an empty store replays from it.
    let from = format!("--cache-from=type=registry,ref={}", registry.name("cache:1"));
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(6 << 20).collect();
    let other = Project::new().file("big", bytes).dockerfile("FROM scratch\nCOPY big /big");
    other.arg("--compression=none").arg(&from).build().cached(1).succeeds();
}
