//! A cache in the image itself: who has an empty store replays a build from the image that was pushed.

mod support;

use serde_json::Value;
use support::registry::Registry;
use support::{Built, Image, Project};

const RANDOM: &str = "cat /proc/sys/kernel/random/uuid";

fn dockerfile() -> String {
    format!(
        "FROM busybox\nCOPY source /source\nRUN {RANDOM} >/id && mkdir -p /d/e && ln -s x /d/l\nRUN rm /source && {RANDOM} >/d/e/id\nENV A=b\n"
    )
}

fn project(dockerfile: &str) -> Project {
    Project::new().file("source", "source").dockerfile(dockerfile)
}

/// A build that pushes, with the cache in the image.
fn pushed(project: &Project, name: &str) -> Built {
    let project = project.clone().arg(&format!("--output=type=registry,name={name}"));
    project.arg("--cache-to=type=inline").build()
}

fn from(name: &str) -> String {
    format!("--cache-from=type=registry,ref={name}")
}

fn cache_of(image: &Image) -> &Value {
    &image.document()["coracle.cache.v1"]
}

#[test]
fn an_empty_store_replays_a_build_from_the_image() {
    let registry = Registry::new();
    let name = registry.name("web:1");
    let first = pushed(&project(&dockerfile()), &name).cached(0).succeeds();
    // Nothing goes to the registry but the image: its layers, its configuration.
    assert_eq!(registry.state().blobs.len(), first.layer_count() + 1);
    let steps = cache_of(&first)["steps"].as_array().map(Vec::len);
    assert_eq!(steps, Some(3));
    let second = project(&dockerfile()).arg(&from(&name)).arg("--cache-to=type=inline").build();
    let second = second.cached(3).succeeds();
    assert_eq!(first.digest(), second.digest(), "the very same image");
    let plain = project(&dockerfile()).arg(&from(&name)).build().cached(3).succeeds();
    assert_eq!(first.text("d/e/id"), plain.text("d/e/id"));
    assert!(cache_of(&plain).is_null());
}

#[test]
fn a_step_that_changed_runs_on_the_layers_of_the_image() {
    let registry = Registry::new();
    let name = registry.name("web:1");
    let first = pushed(&project(&dockerfile()), &name).succeeds();
    let more = project(&format!("{}RUN cp /id /copy\n", dockerfile()));
    let second = more.arg(&from(&name)).build().cached(3).succeeds();
    assert_eq!(first.text("id"), second.text("copy"));
}

#[test]
fn what_is_copied_from_a_stage_is_found_by_what_it_holds() {
    let file = format!(
        "FROM busybox AS construct\nRUN echo made >/made\nFROM busybox\nCOPY --from=construct /made /made\nRUN {RANDOM} >/id\n"
    );
    let registry = Registry::new();
    let name = registry.name("web:1");
    let first = project(&file);
    pushed(&first, &name).succeeds();
    // A build that finds all in the store writes the same cache.
    let image = pushed(&first, &name).cached(3).succeeds();
    // The first stage is no part of the image, so it is built again; what was made of it is known.
    let second = project(&file).arg(&from(&name)).build().cached(2).succeeds();
    assert_eq!(image.text("id"), second.text("id"));
}

#[test]
fn the_build_argument_of_buildkit_asks_for_it_too() {
    let project = project(&dockerfile()).arg("--build-arg=BUILDKIT_INLINE_CACHE=1");
    let built = project.build().stderr_has_no("BUILDKIT_INLINE_CACHE");
    assert_eq!(cache_of(&built.succeeds())["version"], 1);
}

#[test]
fn an_image_upon_such_an_image_does_not_inherit_it() {
    let project = project(&dockerfile()).arg("--cache-to=type=inline").arg("--tag=localhost/base:1");
    project.build().succeeds();
    let upon = Project::of(project.user()).dockerfile("FROM localhost/base:1\nLABEL a=b\n").build().succeeds();
    assert!(cache_of(&upon).is_null());
}

#[test]
fn what_is_wrong_with_it_is_a_warning_and_a_miss() {
    let registry = Registry::new();
    let (name, plain) = (registry.name("web:1"), registry.name("plain:1"));
    let first = pushed(&project(&dockerfile()), &name).succeeds();
    project(&dockerfile()).arg(&format!("--output=type=registry,name={plain}")).build().succeeds();
    let built = project(&dockerfile()).arg(&from(&plain)).build().cached(0);
    built.stderr_has("no cache of coracle, and no image with one in it").succeeds();
    // The layer of the second step is not what its digest says.
    let damaged = first.manifest()["layers"][2]["digest"].as_str().expect("a digest").to_owned();
    registry.state().blobs.get_mut(&("web".to_owned(), damaged)).expect("the blob")[20] ^= 1;
    let built = project(&dockerfile()).arg(&from(&name)).build().stderr_has("a layer cannot be had");
    assert_ne!(built.succeeds().text("id"), first.text("id"), "the step ran again");
}

#[test]
fn a_layer_that_is_another_than_the_cache_says_is_none() {
    let registry = Registry::new();
    let name = registry.name("web:1");
    let first = pushed(&project(&dockerfile()), &name).succeeds();
    // Who may write the image says that the first step made the layer of the second.
    let mut config = first.document().clone();
    let layers = config["coracle.cache.v1"]["layers"].as_object_mut().expect("layers");
    layers.values_mut().for_each(|layer| layer["at"] = (3 - layer["at"].as_i64().expect("a number")).max(1).into());
    let mut manifest = first.manifest().clone();
    manifest["config"] =
        registry.blob("web", "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    registry.manifest("web", "1", "application/vnd.oci.image.manifest.v1+json", &manifest);
    let built = project(&dockerfile()).arg(&from(&name)).build();
    let again = built.stderr_has("does not hold layer").succeeds();
    assert_ne!(again.text("id"), first.text("id"), "the step ran again");
}

#[test]
fn where_times_were_changed_the_steps_are_not_in_it() {
    let project = project(&dockerfile()).arg("--timestamp=0").arg("--cache-to=type=inline,ignore-error=true");
    let image = project.build().stderr_has("the times of the files of the others were changed").succeeds();
    assert_eq!(cache_of(&image)["steps"], serde_json::json!([]));
}

#[test]
fn steps_before_a_failure_go_to_a_cache_in_a_registry_too() {
    let registry = Registry::new();
    let cache = format!("type=registry,ref={}", registry.name("cache:1"));
    let fails = || Project::new().dockerfile("FROM busybox\nRUN echo a >/a\nRUN exit 7\n");
    fails().arg(&format!("--cache-to={cache},mode=max")).build().fails(1).stderr_has_no("is not written");
    fails().arg(&format!("--cache-from={cache}")).build().cached(1).fails(1);
}
