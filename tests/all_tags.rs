//! All tags of a repository at once: in and out.

mod support;

use serde_json::json;
use support::registry::{Act, Registry};
use support::{User, here};

fn images(user: &User) -> Vec<String> {
    let listed = user.coracle(["images", "--format={{.Repository}}:{{.Tag}}"]).run().succeeds();
    let mut names: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn all_are_pulled_page_by_page_and_what_is_no_image_for_this_machine_is_told() {
    let (user, registry) = (User::new(), Registry::new());
    registry.state().tags_at_once = 2;
    for tag in ["1", "2", "3", "4", "latest"] {
        registry.image("app", tag, &here(), tag.as_bytes());
    }
    let foreign = registry.image("app", "foreign", "linux/riscv64", b"x");
    registry.index("app", "index", &[foreign]);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config = registry.blob("app", "application/vnd.oci.empty.v1+json", b"{}");
    let signature =
        json!({"schemaVersion": 2, "mediaType": kind, "artifactType": "x/y", "config": config, "layers": []});
    registry.manifest("app", "sha256-1234.sig", kind, &signature);
    let name = registry.name("app");
    let pulled = user.coracle(["pull", "-a", &name]).run().succeeds();
    assert!(registry.seen("GET", "tags/list").len() >= 4);
    // An image for one platform only is what its name says, whatever that is for.
    let expected: Vec<String> =
        ["1", "2", "3", "4", "foreign", "latest"].iter().map(|tag| format!("{name}:{tag}")).collect();
    assert_eq!(images(&user), expected, "{pulled}");
    assert_eq!(pulled.stdout.lines().count(), expected.len());
    pulled.stderr_has("index is left out").stderr_has("sha256-1234.sig is left out");
    // Once more nothing moves.
    registry.forget();
    user.coracle(["pull", "--all-tags", &name]).run().succeeds();
    assert!(registry.seen("GET", "blobs").is_empty());
    // An index in whole.
    let other = User::new();
    other.coracle(["pull", "--all-tags", "--all", &name]).run().succeeds();
    assert!(images(&other).contains(&format!("{name}:index")), "{:?}", images(&other));
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let (user, registry) = (User::new(), Registry::new());
    registry.image("app", "1", &here(), b"text");
    let elsewhere = Registry::new();
    elsewhere.image("app", "secret", &here(), b"text");
    let name = registry.name("app");
    let pull = || user.coracle(["pull", "--all-tags", "--retry=0", &name]).run();
    let answer = |headers: &str, body: &str| {
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        registry.fault("GET", "tags/list", 1, Act::Status(200, leak(headers), leak(body)));
    };
    for (body, words) in [
        (r#"{"tags":["../../x"]}"#, "something else than a tag"),
        (r#"{"tags":["x@sha256:0"]}"#, "something else than a tag"),
        (r#"{"tags":["a b"]}"#, "something else than a tag"),
        (r#"{"tags":7}"#, "its list of tags is none"),
        ("[", "its list of tags is none"),
    ] {
        answer("", body);
        pull().fails_cleanly().stderr_has(words);
    }
    for body in [r#"{"tags":null}"#, "{}"] {
        answer("", body);
        pull().fails_cleanly().stderr_has(&name);
    }
    // Another host is not asked.
    let link = format!("Link: <http://{}/v2/app/tags/list>; rel=\"next\"", elsewhere.host());
    answer(&link, r#"{"tags":["1"]}"#);
    pull().succeeds();
    assert!(elsewhere.state().log.is_empty());
    // A list that leads to itself ends.
    registry.fault(
        "GET",
        "tags/list",
        u32::MAX,
        Act::Status(200, "Link: </v2/app/tags/list?n=1>; rel=\"next\"", r#"{"tags":["1"]}"#),
    );
    pull().fails(4).stderr_has("has no end");
    registry.state().faults.clear();
    user.coracle(["pull", "--all-tags", &registry.name("nothing")]).run().fails(4).stderr_has("nothing");
    for arg in [registry.name("app:1"), "oci:/tmp/x".into()] {
        user.coracle(["pull", "--all-tags", &arg]).run().fails(2).stderr_has("--all-tags");
    }
    user.coracle(["pull", "--all-tags", "--policy=never", &name]).run().fails(2).stderr_has("--policy=never");
}

#[test]
fn all_names_in_a_repository_are_pushed() {
    let (user, registry) = (User::with_busybox(), Registry::new());
    let name = registry.name("app");
    for tag in ["1", "2"] {
        user.coracle(["tag", "busybox", &format!("{name}:{tag}")]).run().succeeds();
    }
    user.coracle(["tag", "busybox", &registry.name("app/other:3")]).run().succeeds();
    let pushed = user.coracle(["push", "--all-tags", &name]).run().succeeds();
    assert_eq!(pushed.stdout.lines().count(), 2);
    let state = registry.state();
    let mut there: Vec<String> = state
        .manifests
        .keys()
        .filter(|(_, tag)| !tag.contains(':'))
        .map(|(name, tag)| format!("{name}:{tag}"))
        .collect();
    there.sort();
    assert_eq!(there, ["app:1", "app:2"]);
    drop(state);
    user.coracle(["push", "-a", &registry.name("none")]).run().fails_cleanly().stderr_has("none");
    user.coracle(["push", "-a", &format!("{name}:1")]).run().fails(2).stderr_has("--all-tags");
    user.coracle(["push", "-a", &name, &registry.name("x")]).run().fails(2);
    user.coracle(["push", "--remove-signatures", "busybox"]).run().fails(2).stderr_has("never pushed with an image");
}
