//! Registries among the other places: copy, inspect, diff and lists of what several jobs pushed.

mod support;

use std::fs;

use coracle::oci::Digest;
use serde_json::Value;
use support::registry::Registry;
use support::{User, run};

#[test]
fn an_index_goes_from_registry_to_registry_and_to_all_other_places() {
    let (registry, user) = (Registry::new(), User::new());
    let images =
        ["linux/amd64", "linux/arm64"].map(|platform| registry.image("app", "x", platform, platform.as_bytes()));
    registry.index("app", "many", &images);
    let from = format!("docker://{}", registry.name("app:many"));
    let raw = run(&user, &["inspect", "--raw", &from]).succeeds().stdout;
    let digest = Digest::of(raw.as_bytes()).to_string();
    let second = format!("docker://{}", registry.name("other/app:1"));
    assert_eq!(run(&user, &["copy", "--all", &from, &second]).succeeds().stdout.trim(), digest);
    assert_eq!(run(&user, &["inspect", "--raw", &second]).succeeds().stdout, raw);
    let dir = user.new_dir();
    for kind in ["oci", "oci-archive", "dir"] {
        let place = format!("{kind}:{}", dir.join(kind).display());
        assert_eq!(run(&user, &["copy", "-a", &second, &place]).succeeds().stdout.trim(), digest, "{kind}");
        let back = format!("docker://{}", registry.name(&format!("back/{kind}:1")));
        assert_eq!(run(&user, &["copy", "-a", &place, &back]).succeeds().stdout.trim(), digest, "{kind}");
    }
    let docker = format!("docker-archive:{}", dir.join("docker.tar").display());
    run(&user, &["copy", "--platform", "linux/arm64", &second, &docker]).succeeds();
    run(&user, &["copy", "-a", &second, "here:1"]).succeeds();
    assert_eq!(run(&user, &["inspect", "--raw", "here:1"]).succeeds().stdout, raw);
    let diff = run(&user, &["diff", "--json", "--platform", "linux/arm64", "here:1", &from]).succeeds();
    let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
    assert_eq!(diff["changed"].as_array().map(Vec::len), Some(0));
    run(&user, &["inspect", &format!("docker://{}", registry.name("app:none"))]).fails(4);
}

#[test]
fn a_list_joins_what_jobs_pushed_by_digest_and_moves_no_layer() {
    let (registry, user) = (Registry::new(), User::new());
    let images =
        ["linux/amd64", "linux/arm64"].map(|platform| registry.image("app", "x", platform, platform.as_bytes()));
    let members: Vec<String> = images
        .iter()
        .map(|image| format!("docker://{}@{}", registry.name("app"), image["digest"].as_str().unwrap()))
        .collect();
    run(&user, &["manifest", "create", "web:1", &members[0], &members[1]]).succeeds();
    registry.forget();
    let target = format!("docker://{}", registry.name("app:1"));
    let pushed = run(&user, &["manifest", "push", "web:1", &target]).succeeds();
    assert!(registry.seen("POST", "uploads").is_empty(), "no layer moves");
    assert!(run(&user, &["inspect", "--raw", &target]).succeeds().stdout.len() > 100);
    let list: Value = serde_json::from_str(&run(&user, &["manifest", "inspect", &target]).succeeds().stdout).unwrap();
    assert_eq!(list["manifests"].as_array().map(Vec::len), Some(2));
    // To another repository they are mounted or copied; to a folder they are fetched.
    let other = format!("docker://{}", registry.name("released/app:1"));
    assert_eq!(run(&user, &["manifest", "push", "web:1", &other]).succeeds().stdout, pushed.stdout);
    let dir = user.new_dir().join("out");
    run(&user, &["manifest", "push", "web:1", &format!("dir:{}", dir.display())]).succeeds();
    assert_eq!(Digest::of(&fs::read(dir.join("manifest.json")).unwrap()).to_string(), pushed.stdout.trim());
    // The same platform from two jobs is a mistake.
    let twice = registry.image("app", "y", "linux/arm64", b"another");
    let twice = format!("docker://{}@{}", registry.name("app"), twice["digest"].as_str().unwrap());
    run(&user, &["manifest", "add", "web:1", &twice]).fails(1).stderr_has("is for linux/arm64, and so is sha256:");
}
