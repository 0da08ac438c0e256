//! What refers to an image in a registry: by the list of the registry, and by the one that clients keep where it has none.

mod support;

use coracle::oci::Digest;
use coracle::registry::RegistryError;
use serde_json::{Value, json};
use support::registry::Registry;
use support::{User, architecture};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Puts an artifact in that refers to `subject`, as a signature does; returns its digest.
fn artifact(registry: &Registry, repository: &str, kind: &str, subject: &Value) -> Value {
    let config = registry.blob(repository, "application/vnd.oci.empty.v1+json", b"{}");
    let layer = registry.blob(repository, "text/plain", kind.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [layer],
        "subject": {"mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"]},
        "annotations": {"made-by": "a test"},
    });
    let digest = Digest::of(&serde_json::to_vec(&manifest).expect("JSON")).to_string();
    registry.manifest(repository, &digest, MANIFEST, &manifest)
}

/// The digests in what `inspect --type referrers` prints, and their types.
fn listed(user: &User, name: &str) -> Vec<(String, String)> {
    let outcome = user.coracle(["inspect", "--type=referrers", &format!("docker://{name}")]).run().succeeds();
    let index: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let manifests = index["manifests"].as_array().expect("a list");
    let mut found: Vec<_> = manifests.iter().map(|one| (text(one, "digest"), text(one, "artifactType"))).collect();
    found.sort();
    found
}

#[test]
fn they_are_listed_by_the_registry_or_by_a_tag() {
    let registry = Registry::new();
    let user = User::new();
    let image = registry.image("app", "1", &format!("linux/{}", architecture()), b"text");
    let name = registry.name("app:1");
    assert_eq!(listed(&user, &name), []);
    let one = artifact(&registry, "app", "example/signature", &image);
    let one = (one["digest"].as_str().unwrap().to_owned(), "example/signature".to_owned());
    assert_eq!(listed(&user, &name), std::slice::from_ref(&one));
    // Without the list of the registry there is none, until somebody keeps one.
    registry.state().no_referrers = true;
    assert_eq!(listed(&user, &name), []);
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    let kind = "application/vnd.oci.image.index.v1+json";
    let entry = json!({"mediaType": MANIFEST, "digest": one.0, "size": 1, "artifactType": one.1});
    registry.manifest("app", &tag, kind, &json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}));
    assert_eq!(listed(&user, &name), [one]);
    // What is no list is said to be none.
    registry.manifest("app", &tag, kind, &json!([1]));
    let outcome = user.coracle(["inspect", "--type=referrers", &format!("docker://{name}")]).run();
    outcome.fails_cleanly().stderr_has("127.0.0.1");
    user.coracle(["inspect", "--type=referrers", "oci:/nonexistent"]).run().fails_cleanly();
}

#[test]
fn a_list_of_many_pages_is_read_and_no_other_host_is_asked_for_one() {
    let registry = Registry::new();
    let image = registry.image("app", "1", &format!("linux/{}", architecture()), b"text");
    let user = User::new();
    let elsewhere = Registry::new();
    let page = |link: &str| {
        let list = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": Digest::of(link.as_bytes()).to_string(), "size": 1}]});
        support::registry::Act::Status(200, Box::leak(format!("Link: {link}").into_boxed_str()), leak(&list))
    };
    let digest = image["digest"].as_str().unwrap();
    let next = format!("</v2/app/referrers/{digest}?page=2>; rel=\"next\"");
    registry.fault(
        "GET",
        &format!("referrers/{digest}?page=2"),
        1,
        page(&format!("<http://{}/v2/x>; rel=\"next\"", elsewhere.host())),
    );
    registry.fault("GET", &format!("referrers/{digest}"), 1, page(&next));
    assert_eq!(listed(&user, &registry.name("app:1")).len(), 2);
    assert!(elsewhere.state().log.is_empty());
}

#[test]
fn a_list_without_an_end_is_not_read_for_ever() {
    let registry = Registry::new();
    let image = registry.image("app", "1", &format!("linux/{}", architecture()), b"text");
    let digest = image["digest"].as_str().unwrap();
    let many = |count: usize| {
        let one = json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
        json!({"schemaVersion": 2, "manifests": vec![one; count]})
    };
    let link: &str = format!("Link: </v2/app/referrers/{digest}?page=2>; rel=\"next\"").leak();
    for (count, asked, says) in [(0, 100, "has no end"), (2000, 6, "too much that refers to")] {
        registry.state().faults.clear();
        registry.forget();
        registry.fault("GET", "referrers/", 1000, support::registry::Act::Status(200, link, leak(&many(count))));
        let name = format!("docker://{}", registry.name("app:1"));
        let outcome = User::new().coracle(["inspect", "--type=referrers", &name]).run();
        outcome.fails(4).stderr_has(says);
        assert_eq!(registry.seen("GET", "referrers/").len(), asked);
    }
}

fn leak(value: &Value) -> &'static str {
    Box::leak(value.to_string().into_boxed_str())
}

#[test]
fn they_are_copied_with_the_image_and_noted_where_the_registry_does_not() {
    for (no_list, bearer) in [(true, false), (false, true)] {
        let (from, to) = (Registry::new(), Registry::new());
        if bearer {
            to.state().auth =
                support::registry::Auth::Bearer { login: Some(("ann", "geheim")), identity: None, uses: 100 };
        }
        to.state().no_referrers = no_list;
        let image = from.image("app", "1", &format!("linux/{}", architecture()), b"text");
        let signature = artifact(&from, "app", "example/signature", &image);
        let list = artifact(&from, "app", "example/list", &image);
        let of_list = artifact(&from, "app", "example/signature", &list);
        let user = User::new();
        let [source, target] = [from.name("app:1"), to.name("copy/app:1")].map(|name| format!("docker://{name}"));
        let copy = |more: &[&str]| {
            let call = user.coracle(["copy", "--retry-delay=10ms"]).arg("--authfile").arg(auth(&user, &to));
            more.iter().fold(call, |call, arg| call.arg(arg)).arg(&source).arg(&target).run()
        };
        copy(&[]).succeeds();
        let there = |digest: &Value| {
            to.state().manifests.contains_key(&("copy/app".to_owned(), digest["digest"].as_str().unwrap().to_owned()))
        };
        assert!(there(&image) && !there(&signature) && !there(&list));
        copy(&["--referrers"]).succeeds();
        assert!(there(&image) && there(&signature) && there(&list) && there(&of_list));
        copy(&["--referrers"]).succeeds();
        if no_list {
            let found = listed(&user, &to.name("copy/app:1"));
            let mut expected = [(&list, "example/list"), (&signature, "example/signature")]
                .map(|(one, kind)| (one["digest"].as_str().unwrap().to_owned(), kind.to_owned()));
            expected.sort();
            assert_eq!(found, expected);
            let by_digest = to.name(&format!("copy/app@{}", list["digest"].as_str().unwrap()));
            assert_eq!(listed(&user, &by_digest).len(), 1);
        }
    }
    let user = User::with_busybox();
    user.coracle(["copy", "--referrers", "busybox", "oci:/tmp/x"])
        .run()
        .fails(2)
        .stderr_has("from registry to registry");
}

fn auth(user: &User, registry: &Registry) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode("ann:geheim");
    let file = user.home().join("auth.json");
    std::fs::write(&file, json!({"auths": {registry.host(): {"auth": pair}}}).to_string()).expect("written");
    support::set_mode(&file, 0o644);
    file.to_str().expect("text").to_owned()
}

/// A push of something that refers to `image`, with a list by tag; returns its digest, and how the push ended.
fn push_referring(registry: &Registry, image: &Value, kind: &str) -> (String, Result<Digest, RegistryError>) {
    let config = registry.blob("app", "application/vnd.oci.empty.v1+json", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [],
        "subject": {"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]},
    });
    let bytes = serde_json::to_vec(&manifest).expect("JSON");
    let digest = Digest::of(&bytes).to_string();
    let places = coracle::config::Places { etc: "/nonexistent".into(), ..Default::default() };
    let agent = coracle::net::Agent::new(coracle::net::AgentOptions::default());
    let client = coracle::registry::Client::new(agent, places, None, Default::default()).expect("no files");
    let name = coracle::oci::Reference::parse(&registry.name("app")).expect("a name");
    let (repository, _) = client.target(&name).expect("a repository");
    let result = repository.put_manifest(&digest, MANIFEST, &bytes);
    (digest, result)
}

#[test]
fn of_two_who_write_a_list_at_the_same_time_neither_is_lost() {
    let registry = Registry::new();
    registry.state().no_referrers = true;
    let image = registry.image("app", "1", &format!("linux/{}", architecture()), b"text");
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    // Both read before one writes, and both write before one reads again.
    for method in ["GET", "PUT"] {
        let both = support::registry::Act::Meet(std::sync::Arc::new(std::sync::Barrier::new(2)));
        registry.fault(method, &format!("manifests/{tag}"), 2, both);
    }
    let digests: Vec<String> = std::thread::scope(|scope| {
        let pushes = ["example/one", "example/two"].map(|kind| {
            let (registry, image) = (&registry, &image);
            scope.spawn(move || push_referring(registry, image, kind))
        });
        let ended = pushes.map(|push| push.join().expect("no panic"));
        ended.into_iter().map(|(digest, result)| result.map(|_| digest).expect("pushed")).collect()
    });
    let user = User::new();
    let mut expected: Vec<_> = digests.into_iter().zip(["example/one", "example/two"].map(str::to_owned)).collect();
    expected.sort();
    assert_eq!(listed(&user, &registry.name("app:1")), expected);
}

#[test]
fn who_always_replaces_the_list_is_not_fought_for_ever() {
    let registry = Registry::new();
    registry.state().no_referrers = true;
    let image = registry.image("app", "1", &format!("linux/{}", architecture()), b"text");
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    let empty = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    let act = support::registry::Act::Overwrite("application/vnd.oci.image.index.v1+json", empty);
    registry.fault("PUT", &format!("manifests/{tag}"), u32::MAX, act);
    let begin = std::time::Instant::now();
    let (_, result) = push_referring(&registry, &image, "example/one");
    let error = result.expect_err("it is not in the list").to_string();
    assert!(error.contains("others always replace the list"), "{error}");
    assert!(registry.seen("PUT", &tag).len() < 20 && begin.elapsed().as_secs() < 20);
}
