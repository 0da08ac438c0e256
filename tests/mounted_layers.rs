//! Layers that are in a cache of the registry to which the image goes: they are mounted there, and never come here.

mod support;

use serde_json::Value;
use support::registry::{Act, Registry};
use support::{Project, User};

const DOCKERFILE: &str = "
    FROM busybox
    RUN head -c 300000 /dev/urandom >/one
    RUN cat /proc/sys/kernel/random/uuid >/two
";

fn cached(registry: &Registry) -> Project {
    let project = Project::new().dockerfile(DOCKERFILE);
    let to = format!("--cache-to=type=registry,ref={},mode=max", registry.name("cache:1"));
    project.clone().arg(&to).build().cached(0).succeeds();
    registry.forget();
    // An empty store.
    let from = format!("--cache-from=type=registry,ref={}", registry.name("cache:1"));
    Project::new().dockerfile(DOCKERFILE).arg(&from).arg("--retry-delay=10ms")
}

fn pushing(registry: &Registry, project: &Project) -> Project {
    project.clone().named(&registry.name("app:1")).arg("--push")
}

/// The layers of the image `app:1` that its steps made.
fn layers(registry: &Registry) -> Vec<String> {
    let state = registry.state();
    let (_, bytes) = &state.manifests[&("app".to_owned(), "1".to_owned())];
    let manifest: Value = serde_json::from_slice(bytes).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let digests: Vec<String> = layers.map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect();
    digests[digests.len() - 2..].to_vec()
}

/// How often one of these blobs was fetched, mounted, and sent.
fn moved(registry: &Registry, digests: &[String]) -> (usize, usize, usize) {
    let with = |method: &str, text: &str| {
        let encoded = |digest: &String| digest.replace(':', "%3A");
        let seen = registry.seen(method, text);
        let about = |path: &str| digests.iter().any(|digest| path.contains(digest) || path.contains(&encoded(digest)));
        seen.iter().filter(|seen| about(&seen.path)).count()
    };
    (with("GET", "blobs/"), with("POST", "mount="), with("PUT", "uploads/"))
}

#[test]
fn no_byte_of_them_is_fetched_or_sent() {
    let registry = Registry::new();
    let project = pushing(&registry, &cached(&registry));
    project.build().cached(2);
    let layers = layers(&registry);
    assert_eq!(moved(&registry, &layers), (0, 2, 0), "{:?}", registry.state().log);
    // What was pushed is whole.
    let other = User::new();
    other.coracle(["pull", &registry.name("app:1")]).run().succeeds();
    // Again it is all there, and still nothing moves.
    registry.forget();
    project.build().cached(2);
    assert_eq!(moved(&registry, &layers), (0, 0, 0));
}

#[test]
fn what_cannot_be_mounted_is_fetched_and_sent() {
    let registry = Registry::new();
    let project = pushing(&registry, &cached(&registry));
    registry.fault("POST", "mount=", u32::MAX, Act::Status(403, "", ""));
    project.build().cached(2);
    let layers = layers(&registry);
    assert_eq!(moved(&registry, &layers), (2, 2, 2), "{:?}", registry.state().log);
    // Some take no notice of the question.
    registry.state().blobs.retain(|(repository, _), _| repository != "app");
    registry.state().manifests.retain(|(repository, _), _| repository != "app");
    registry.state().faults.clear();
    registry.state().no_mounts = true;
    let again = pushing(&registry, &cached(&registry));
    again.build().cached(2);
    other_pulls(&registry);
}

fn other_pulls(registry: &Registry) {
    User::new().coracle(["pull", &registry.name("app:1")]).run().succeeds();
}

#[test]
fn what_the_cache_has_lost_is_made_anew() {
    let registry = Registry::new();
    let project = pushing(&registry, &cached(&registry));
    let largest = {
        let state = registry.state();
        let blobs = state.blobs.iter().filter(|((repository, _), _)| repository == "cache");
        blobs.max_by_key(|(_, bytes)| bytes.len()).map(|(key, _)| key.clone()).expect("a blob")
    };
    registry.state().blobs.remove(&largest);
    project.build().cached(0);
    other_pulls(&registry);
}

#[test]
fn layers_that_something_else_needs_come() {
    let registry = Registry::new();
    let project = pushing(&registry, &cached(&registry));
    let out = project.user().new_dir();
    project
        .clone()
        .arg(&format!("--output=type=oci,dest={}", out.join("x.tar").display()))
        .build()
        .cached(2)
        .succeeds();
    assert_eq!(moved(&registry, &layers(&registry)).0, 2);
    // To another registry, too.
    let (registry, target) = (Registry::new(), Registry::new());
    let project = pushing(&registry, &cached(&registry));
    project.arg(&format!("--tag={}", target.name("app:1"))).build().cached(2);
    assert_eq!(moved(&registry, &layers(&registry)).0, 2);
    assert_eq!(layers(&registry), layers(&target));
}

#[test]
fn who_needs_them_later_gets_them() {
    let registry = Registry::new();
    let project = pushing(&registry, &cached(&registry));
    project.build().cached(2);
    let (user, name, layers) = (project.user(), registry.name("app:1"), layers(&registry));
    // Elsewhere in the registry they are mounted again.
    registry.forget();
    user.coracle(["push", &name, &registry.name("elsewhere:1")]).run().succeeds();
    assert_eq!(moved(&registry, &layers), (0, 2, 0), "{:?}", registry.state().log);
    // To another registry they are brought on the way.
    let target = Registry::new();
    user.coracle(["push", &name, &target.name("app:1")]).run().succeeds();
    assert!(layers.iter().all(|layer| target.state().blobs.contains_key(&("app".to_owned(), layer.clone()))));
    // An archive needs them, and says how to get them.
    let file = user.new_dir().join("app.tar");
    let save = || user.coracle(["save", "--output", file.to_str().expect("text"), &name]).run();
    save().fails_cleanly().stderr_has("coracle pull");
    // A build on the image brings them itself.
    let next = Project::of(user).dockerfile(&format!("FROM {name}\nRUN cat /two >/three"));
    let image = next.build().succeeds();
    assert_eq!(image.text("two"), image.text("three"));
    save().succeeds();
}
