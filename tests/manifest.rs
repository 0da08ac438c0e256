//! Lists of images for several platforms: made, changed, handed on.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use coracle::oci::Digest;
use serde_json::{Value, json};
use support::registry::{Act, Registry};
use support::{Image, User, require_tool, run};

/// Makes in the home of `user` a layout with busybox for another processor, and returns its place.
fn busybox_for(user: &User, architecture: &str) -> String {
    let base = support::base::busybox();
    let dir = user.new_dir();
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for blob in fs::read_dir(base.join("blobs/sha256")).unwrap().flatten() {
        fs::copy(blob.path(), dir.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    let read = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        serde_json::from_slice::<Value>(&fs::read(dir.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    };
    let put = |document: &Value, kind: &str| {
        let bytes = serde_json::to_vec(document).unwrap();
        fs::write(dir.join("blobs/sha256").join(Digest::of(&bytes).hex()), &bytes).unwrap();
        json!({"mediaType": kind, "digest": Digest::of(&bytes).to_string(), "size": bytes.len()})
    };
    let index: Value = serde_json::from_slice(&fs::read(base.join("index.json")).unwrap()).unwrap();
    let mut manifest = read(&index["manifests"][0]["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    config["architecture"] = architecture.into();
    manifest["config"] = put(&config, "application/vnd.oci.image.config.v1+json");
    let entry = put(&manifest, "application/vnd.oci.image.manifest.v1+json");
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    format!("oci:{}", dir.display())
}

fn inspect(user: &User, list: &str) -> Value {
    serde_json::from_str(&run(user, &["manifest", "inspect", list]).succeeds().stdout).unwrap()
}

fn platforms(list: &Value) -> Vec<String> {
    let entries = list["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries.map(|e| format!("{}/{}", text(&e["platform"]["os"]), text(&e["platform"]["architecture"]))).collect()
}

#[test]
fn a_registry_that_takes_its_time_is_in_nobodys_way() {
    let user = User::with_busybox();
    run(&user, &["manifest", "create", "one:1", "busybox"]).succeeds();
    for words in [["manifest", "add", "one:1"], ["manifest", "create", "two:1"]] {
        let registry = Registry::new();
        run(&user, &["push", "busybox", &registry.name("slow:1")]).succeeds();
        registry.forget();
        registry.fault("GET", "manifests", 1, Act::Hold(64));
        let slow = user.coracle(words).arg(format!("docker://{}", registry.name("slow:1"))).start();
        let since = Instant::now();
        while registry.seen("GET", "manifests").is_empty() {
            assert!(since.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        run(&user, &["manifest", "annotate", "one:1", "--index", "--annotation", "by=other"]).succeeds();
        registry.release();
        slow.wait().succeeds();
    }
    // What was changed meanwhile is not lost.
    let list = inspect(&user, "one:1");
    assert_eq!((&list["annotations"]["by"], platforms(&list).len()), (&json!("other"), 1));
}

#[test]
fn a_list_is_made_changed_and_handed_on() {
    let user = User::with_busybox();
    let arm = busybox_for(&user, "arm64");
    let made = run(&user, &["manifest", "create", "--annotation", "by=test", "many:1", "busybox", &arm]).succeeds();
    let list = inspect(&user, "many:1");
    assert_eq!(platforms(&list), ["linux/amd64", "linux/arm64"]);
    assert_eq!(list["annotations"]["by"], "test");
    assert_eq!(list["mediaType"], "application/vnd.oci.image.index.v1+json");
    run(&user, &["manifest", "create", "many:1", "busybox"]).fails(1).stderr_has("--amend");
    // The platform can be said otherwise.
    let risc = busybox_for(&user, "riscv");
    run(&user, &["manifest", "add", "many:1", &risc, "--arch", "riscv64", "--annotation", "k=v"]).succeeds();
    let list = inspect(&user, "many:1");
    assert_eq!(platforms(&list), ["linux/amd64", "linux/arm64", "linux/riscv64"]);
    assert_eq!(list["manifests"][2]["annotations"]["k"], "v");
    let digest = list["manifests"][2]["digest"].as_str().unwrap();
    run(&user, &["manifest", "annotate", "many:1", digest, "--os-version", "10", "--variant", "gc"]).succeeds();
    run(&user, &["manifest", "annotate", "many:1", "--index", "--annotation", "more=1"]).succeeds();
    run(&user, &["manifest", "annotate", "many:1", "busybox", "--annotation", "who=amd"]).succeeds();
    let list = inspect(&user, "many:1");
    assert_eq!(list["manifests"][2]["platform"]["os.version"], "10");
    assert_eq!(
        (&list["annotations"]["more"], &list["manifests"][0]["annotations"]["who"]),
        (&json!("1"), &json!("amd"))
    );
    run(&user, &["manifest", "remove", "many:1", digest]).succeeds();
    assert_eq!(platforms(&inspect(&user, "many:1")), ["linux/amd64", "linux/arm64"]);
    // Handed on with all that is in it.
    let out = user.new_dir().join("out");
    let place = format!("oci:{}:many", out.display());
    let pushed = run(&user, &["manifest", "push", "many:1", &place]).succeeds();
    assert_ne!(pushed.stdout, made.stdout);
    let raw = run(&user, &["inspect", "--raw", &place]).succeeds().stdout;
    assert_eq!(Digest::of(raw.as_bytes()).to_string(), pushed.stdout.trim());
    assert_eq!(platforms(&inspect(&user, &place)), ["linux/amd64", "linux/arm64"]);
    if require_tool("skopeo") {
        let copy = user.new_dir().join("copy");
        let line = format!("skopeo --insecure-policy copy -q --all --preserve-digests {place} dir:{}", copy.display());
        user.tool(&line).run().succeeds();
        assert_eq!(Digest::of(&fs::read(copy.join("manifest.json")).unwrap()).to_string(), pushed.stdout.trim());
    }
    // As docker's list.
    let docker = format!("dir:{}", user.new_dir().join("docker").display());
    run(&user, &["manifest", "push", "--format", "v2s2", "many:1", &docker]).succeeds();
    let list = inspect(&user, &docker);
    assert_eq!(list["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(list["manifests"][0]["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    // And it is an image like others.
    let arm = user.new_dir().join("arm");
    run(&user, &["copy", "--platform", "linux/arm64", "many:1", &format!("oci:{}", arm.display())]).succeeds();
    assert_eq!(Image::only(&arm).document()["architecture"], "arm64");
}

#[test]
fn doubled_and_missing_platforms_are_refused() {
    let user = User::with_busybox();
    let (one, other) = (busybox_for(&user, "arm64"), busybox_for(&user, "arm64"));
    run(&user, &["manifest", "create", "many:1", &one]).succeeds();
    // The very same image once more is no other one.
    run(&user, &["manifest", "add", "many:1", &other]).succeeds();
    let doubled = run(&user, &["manifest", "add", "--arch", "arm64", "many:1", "busybox"]).fails_cleanly();
    assert_ne!(doubled.code(), Some(0));
    run(&user, &["copy", "busybox", "amd:1"]).succeeds();
    run(&user, &["manifest", "add", "many:1", "amd:1"]).succeeds();
    let first = inspect(&user, "many:1")["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let refused = run(&user, &["manifest", "annotate", "many:1", &first, "--arch", "amd64"]).fails(1);
    refused.stderr_has("is for linux/amd64, and so is sha256:").stderr_has("coracle manifest remove");
    assert_eq!(platforms(&inspect(&user, "many:1")), ["linux/arm64", "linux/amd64"]);
    run(&user, &["manifest", "create", "empty:1"]).succeeds();
    let out = format!("oci:{}", user.new_dir().join("out").display());
    run(&user, &["manifest", "push", "empty:1", &out]).fails(1).stderr_has("there is no image in the index");
    run(&user, &["manifest", "remove", "many:1", "0123456789abcdef"]).fails(1).stderr_has("no image in the index");
    run(&user, &["manifest", "add", "no-such:1", "busybox"]).fails(1).stderr_has("no-such:1");
    run(&user, &["manifest", "add", "busybox", "busybox"]).fails(2).stderr_has("not an index");
}

#[test]
fn lists_come_and_go() {
    let user = User::with_busybox();
    assert_eq!(run(&user, &["manifest", "exists", "many:1"]).code(), Some(1));
    run(&user, &["manifest", "create", "many:1", "busybox"]).succeeds();
    run(&user, &["manifest", "exists", "many:1"]).succeeds();
    run(&user, &["manifest", "create", "--amend", "many:1", "busybox"]).succeeds();
    assert_eq!(platforms(&inspect(&user, "many:1")).len(), 1);
    run(&user, &["prune", "--all"]).succeeds();
    run(&user, &["manifest", "rm", "many:1", "no-such"]).fails(1);
    run(&user, &["manifest", "rm", "many:1"]).succeeds().stdout_has("many:1");
    assert_eq!(run(&user, &["manifest", "exists", "many:1"]).code(), Some(1));
    run(&user, &["inspect", "busybox"]).succeeds();
    let out = format!("dir:{}", user.new_dir().join("out").display());
    run(&user, &["manifest", "create", "again:1", "busybox"]).succeeds();
    run(&user, &["manifest", "push", "--rm", "again:1", &out]).succeeds();
    assert_eq!(run(&user, &["manifest", "exists", "again:1"]).code(), Some(1));
}

#[test]
fn two_who_add_at_once_lose_nothing() {
    let user = User::with_busybox();
    run(&user, &["manifest", "create", "many:1"]).succeeds();
    let names = ["arm64", "s390x", "ppc64le", "riscv64"];
    let places = names.map(|name| busybox_for(&user, name));
    let running: Vec<_> =
        places.iter().map(|place| user.coracle(["manifest", "add", "many:1", place]).start()).collect();
    running.into_iter().for_each(|running| drop(running.wait().succeeds()));
    assert_eq!(platforms(&inspect(&user, "many:1")).len(), 4);
}

#[test]
fn all_images_of_an_index_are_taken_where_that_is_asked_for() {
    let user = User::with_busybox();
    let arm = busybox_for(&user, "arm64");
    run(&user, &["manifest", "create", "one:1", "busybox", &arm]).succeeds();
    run(&user, &["manifest", "create", "two:1", "one:1"]).succeeds();
    assert_eq!(platforms(&inspect(&user, "two:1")), ["linux/amd64"]);
    run(&user, &["manifest", "create", "--all", "three:1", "one:1"]).succeeds();
    assert_eq!(platforms(&inspect(&user, "three:1")), ["linux/amd64", "linux/arm64"]);
    run(&user, &["manifest", "create", "four:1"]).succeeds();
    run(&user, &["manifest", "add", "--arch", "arm64", "four:1", "one:1"]).succeeds();
    assert_eq!(platforms(&inspect(&user, "four:1")), ["linux/arm64"]);
}
