//! `coracle lock` and `build --locked`: what a Dockerfile names elsewhere stays what it was.

mod support;

use std::fs;

use coracle::oci::Digest;
use support::registry::Registry;
use support::web::{Answer, Web};
use support::{Outcome, Project, User, here};

fn lock(project: &Project, args: &[&str]) -> Outcome {
    let mut words = vec!["lock", "--retry-delay", "10ms"];
    words.extend(args);
    project.user().coracle(words).arg(project.dir()).run()
}

fn locked(project: &Project) -> support::Built {
    let call = project.user().coracle(["build", "--progress=plain", "-t", "test", "--retry-delay=10ms", "--locked"]);
    project.built(call.arg(project.dir()).run())
}

fn written(project: &Project) -> String {
    fs::read_to_string(project.path("Dockerfile.lock")).expect("a lock")
}

#[test]
fn a_tag_that_moves_does_not_change_a_locked_build() {
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"old");
    let name = registry.name("base:1");
    let project = Project::of(&User::new()).dockerfile(&format!("FROM {name}\nCOPY --from={name} /file /copy"));
    let old = registry.state().manifests[&("base".into(), "1".into())].1.clone();
    lock(&project, &[]).succeeds().stdout_has(&format!("new: {name} {}", Digest::of(&old)));
    assert!(registry.seen("GET", "blobs").len() <= 1, "layers are not fetched: {:?}", registry.state().log);
    let text = written(&project);
    assert!(text.contains(&format!("\"{name}\" = \"{}\"", Digest::of(&old))), "{text}");
    registry.image("base", "1", &here(), b"new");
    locked(&project).succeeds().top_layer().has_file("copy", "old");
    // Nothing is said and nothing written where nothing is new.
    assert_eq!(lock(&project, &[]).succeeds().stdout, "");
    assert_eq!(written(&project), text);
    lock(&project, &["--update"]).succeeds().stdout_has(&format!("changed: {name} {} -> ", Digest::of(&old)));
    locked(&project).succeeds().top_layer().has_file("copy", "new");
}

#[test]
fn what_the_lock_lacks_and_what_is_gone_is_named_before_anything_is_done() {
    let registry = Registry::new();
    registry.image("base", "1", &here(), b"old");
    let name = registry.name("base:1");
    let project = Project::of(&User::new()).dockerfile(&format!("FROM {name}\nCOPY --from={name} /file /copy"));
    locked(&project).fails(3).stderr_has("there is no").stderr_has("`coracle lock` writes it");
    lock(&project, &[]).succeeds();
    let gone = project.clone().dockerfile(&format!(
        "FROM {name}\nCOPY --from={name} /file /a\nCOPY --from={0} /file /b\nCOPY --from={1} /file /c",
        registry.name("other:1"),
        registry.name("third:1")
    ));
    locked(&gone)
        .fails(3)
        .stderr_has("other:1 is not in")
        .stderr_has("third:1 is not in")
        .stderr_has("Dockerfile:3")
        .stderr_has("`coracle lock --update`")
        .stderr_has_no("=> ");
    let project = gone.dockerfile(&format!("FROM {name}\nENV A=1"));
    registry.state().manifests.retain(|(repository, _), _| repository != "base");
    locked(&project)
        .fails(3)
        .stderr_has("base:1 is not what the lock says, sha256:")
        .stderr_has("coracle lock --update");
}

#[test]
fn urls_and_their_contents_are_locked() {
    let web = Web::new(|asked| match (asked.path.as_str(), asked.before) {
        ("/same", _) => Answer::ok("same"),
        ("/other", 0) => Answer::ok("one"),
        ("/other", _) => Answer::ok("two"),
        _ => Answer::status(404),
    });
    let text = format!("FROM scratch\nADD {} {} /in/", web.url("/same"), web.url("/other"));
    let project = Project::of(&User::new()).dockerfile(&text);
    lock(&project, &[]).succeeds().stdout_has("/other").stdout_has(&Digest::of(b"one").to_string());
    // The very file is still here, so nobody is asked for it.
    locked(&project).succeeds().top_layer().has_file("in/other", "one");
    // Another machine, which has nothing but the project.
    let other = Project::of(&User::new()).dockerfile(&text).file("Dockerfile.lock", written(&project));
    locked(&other)
        .fails(3)
        .stderr_has("/other is not what the lock says")
        .stderr_has(&Digest::of(b"two").to_string())
        .stderr_has("Dockerfile:2");
    lock(&other, &["--update"]).succeeds().stdout_has("changed: http://127.0.0.1");
    locked(&other).succeeds().top_layer().has_file("in/other", "two").has_file("in/same", "same");
}

#[test]
fn images_of_the_store_are_locked_where_no_registry_has_them() {
    let user = User::with_busybox();
    // Nobody listens there.
    user.coracle(["tag", "busybox", "127.0.0.1:9/base:1"]).run().succeeds();
    let project =
        Project::of(&user).dockerfile("ARG BASE=none\nFROM $BASE AS first\nENV A=1\nFROM 127.0.0.1:9/other AS unused");
    let args = ["--target", "first", "--retry", "0", "--build-arg", "BASE=127.0.0.1:9/base:1"];
    let outcome = lock(&project, &args).succeeds().stdout_has("new: 127.0.0.1:9/base:1 sha256:");
    assert!(outcome.stderr.contains("is that of the store") && !written(&project).contains("other"), "{outcome}");
    let layout = support::base::busybox();
    let project = Project::of(&User::new()).dockerfile(&format!("FROM oci:{}\nENV A=1", layout.display()));
    lock(&project, &[]).succeeds().stdout_has("new: oci:/");
    locked(&project).succeeds();
}

#[test]
fn a_hostile_lock_is_refused() {
    let project = Project::new().dockerfile("FROM busybox\nENV A=1");
    for (text, says) in [
        ("version = 9\n", "version 9"),
        ("version = 1\nextra = true\n", "unknown field"),
        ("version = 1\n[images]\n\"docker.io/library/busybox:latest\" = \"latest\"\n", "is no digest"),
        ("\u{0}\u{1b}[31m", "is no lock"),
    ] {
        let project = project.clone().file("Dockerfile.lock", text);
        let outcome = locked(&project).fails(3).stderr_has(says);
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
        lock(&project, &[]).fails(3).stderr_has(says);
        assert_eq!(written(&project), text, "it is left as it is");
    }
    let call = project.user().coracle(["build", "--locked", "--check"]).arg(project.dir()).run();
    call.fails(2).stderr_has("--locked is for builds");
}

#[test]
fn a_lock_is_made_for_several_platforms_at_once_or_one_after_the_other() {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image(&format!("of-{architecture}"), "1", &format!("linux/{architecture}"), architecture.as_bytes());
        registry.image("base", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    registry.index("base", "1", &images);
    let web = Web::new(|asked| match asked.path.as_str() {
        "/amd64" => Answer::ok("one"),
        "/arm64" => Answer::ok("two"),
        _ => Answer::status(404),
    });
    let text = format!(
        "ARG TARGETARCH\nFROM {} AS other\nFROM {}\nARG TARGETARCH\nADD {} /added\nCOPY --from=other /file /other\n",
        registry.name("of-$TARGETARCH:1"),
        registry.name("base:1"),
        web.url("/$TARGETARCH")
    );
    let project = Project::of(&User::new()).dockerfile(&text);
    let build = |platforms: &str| {
        let args = ["build", "--locked", "--progress=plain", "--retry-delay=10ms", platforms];
        project.user().coracle(args).arg(project.dir()).run()
    };
    lock(&project, &["--platform=linux/amd64"]).succeeds();
    let one = written(&project);
    assert!(!one.contains("arm64"), "{one}");
    let lacking = build("--platform=linux/amd64,linux/arm64").fails(3);
    lacking.stderr_has("of-arm64:1 is not in");
    build("--platform=linux/amd64").succeeds();
    // Those of the other come to it, and it is the same as if both had been asked for.
    lock(&project, &["--platform=linux/arm64"]).succeeds().stdout_has("of-arm64:1 sha256:");
    let both = written(&project);
    fs::remove_file(project.path("Dockerfile.lock")).unwrap();
    lock(&project, &["--platform=linux/amd64,linux/arm64", "--platform=linux/arm64"]).succeeds();
    assert_eq!(written(&project), both);
    for part in ["of-amd64:1\" = ", "of-arm64:1\" = ", "base:1\" = ", "/amd64\" = ", "/arm64\" = "] {
        assert_eq!(both.matches(part).count(), 1, "{part}: {both}");
    }
    let built = build("--platform=linux/amd64,linux/arm64").succeeds();
    // What moves is found anew for both, and a locked build stays what it was till then.
    registry.image("of-arm64", "1", "linux/arm64", b"moved");
    assert_eq!(build("--platform=linux/amd64,linux/arm64").succeeds().stdout, built.stdout);
    let updated = lock(&project, &["--update", "--platform=linux/amd64,linux/arm64"]).succeeds();
    assert_eq!(updated.count("gone: "), 0, "{updated}");
    updated.stdout_has("changed: ").stdout_has("of-arm64:1");
    assert_ne!(build("--platform=linux/amd64,linux/arm64").succeeds().stdout, built.stdout);
    // With one platform alone, all that only the other needs is gone.
    lock(&project, &["--update", "--platform=linux/amd64"]).succeeds().stdout_has("gone: ");
    assert_eq!(written(&project), one);
}
