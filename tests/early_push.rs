//! A push begins while later steps of the build still run: layers alone, and nobody sees anything of an image that is not done.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::Project;
use support::registry::{Act, Registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A step that waits until there is an image "go" in the registry.
fn waits(registry: &Registry) -> String {
    let url = format!("http://{}/v2/go/manifests/1", registry.host());
    format!("n=0; until wget -q -O /dev/null {url}; do n=$((n+1)); [ $n -lt 300 ] || exit 9; sleep 0.2; done")
}

fn project(registry: &Registry, end: &str) -> Project {
    let file = format!("FROM busybox\nRUN echo first >/first\nRUN {}; echo second >/second{end}\n", waits(registry));
    let output = format!("--output=type=registry,name={}", registry.name("web:1"));
    Project::new().dockerfile(&file).arg(&output).arg("--retry-delay=10ms")
}

/// Lets the waiting step go on.
fn go(registry: &Registry) {
    registry.manifest("go", "1", MANIFEST, &json!({"schemaVersion": 2}));
}

fn blobs(registry: &Registry) -> usize {
    registry.state().blobs.keys().filter(|(repository, _)| repository == "web").count()
}

fn manifests(registry: &Registry) -> usize {
    registry.state().manifests.keys().filter(|(repository, _)| repository == "web").count()
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_there() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what} never happens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn layers_arrive_while_the_last_step_runs() {
    let registry = Registry::new();
    let project = project(&registry, "");
    let build = project.start();
    // The layer of the base, and that of the first step.
    wait_for("a push of two layers", || blobs(&registry) == 2);
    assert_eq!(manifests(&registry), 0, "nobody sees half an image");
    go(&registry);
    let image = project.built(build.wait()).succeeds();
    assert_eq!((blobs(&registry), manifests(&registry)), (image.layer_count() + 1, 2));
    // Each went once.
    let uploads = registry.seen("PUT", "/v2/web/blobs/uploads/").len();
    assert_eq!(uploads, image.layer_count() + 1);
}

#[test]
fn a_build_that_fails_names_nothing() {
    let registry = Registry::new();
    let project = project(&registry, "; exit 7");
    let build = project.start();
    wait_for("a push of two layers", || blobs(&registry) == 2);
    go(&registry);
    project.built(build.wait()).fails(1);
    assert_eq!(manifests(&registry), 0);
}

#[test]
fn what_goes_wrong_on_the_way_is_done_in_the_end() {
    let registry = Registry::new();
    registry.fault("POST", "/v2/web/blobs/uploads", 1, Act::Status(503, "", ""));
    let project = project(&registry, "");
    let build = project.start();
    wait_for("a push that fails", || !registry.seen("POST", "/v2/web/blobs/uploads").is_empty());
    go(&registry);
    let built = project.built(build.wait());
    let image = built.stderr_has_no("503").succeeds();
    assert_eq!((blobs(&registry), manifests(&registry)), (image.layer_count() + 1, 2));
}

#[test]
fn what_cannot_be_done_is_said_once_and_in_the_end() {
    let registry = Registry::new();
    registry.fault("POST", "/v2/web/blobs/uploads", u32::MAX, Act::Status(403, "", ""));
    let project = project(&registry, "");
    let build = project.start();
    wait_for("a push that fails", || !registry.seen("POST", "/v2/web/blobs/uploads").is_empty());
    go(&registry);
    let outcome = project.built(build.wait()).fails(4);
    // What the step writes has a number before it.
    assert_eq!(outcome.count("\nerror: "), 1, "{outcome}");
    assert!(outcome.stderr.find("second").expect("the step") < outcome.stderr.find("\nerror: ").expect("the error"));
}

#[test]
fn layers_of_a_base_that_are_compressed_anew_are_not_sent_as_they_were() {
    let registry = Registry::new();
    let project = project(&registry, "").arg("--compression=zstd").arg("--force-compression");
    let build = project.start();
    wait_for("a push of a layer", || blobs(&registry) == 1);
    go(&registry);
    let image = project.built(build.wait()).succeeds();
    assert_eq!(blobs(&registry), image.layer_count() + 1, "no other layer than those of the image");
}

#[test]
fn what_is_only_looked_at_sends_nothing() {
    let registry = Registry::new();
    let project = project(&registry, "");
    project.clone().arg("--plan").call().run().succeeds();
    project.clone().arg("--check").call().run().succeeds();
    assert!(registry.state().log.is_empty());
}
