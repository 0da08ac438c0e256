//! Pull from registries, and push to them: a registry in this process (tests/support/registry.rs) sees what is asked of it.

mod support;

use std::fs;

use coracle::oci::Digest;
use serde_json::json;
use support::registry::{Act, Auth, Registry, tar_with};
use support::{Image, Outcome, Project, User, architecture, run};

/// As [`run`], without long waits.
fn quick(user: &User, verb: &str, args: &[&str]) -> Outcome {
    let mut words = vec![verb, "--retry-delay", "10ms"];
    words.extend(args);
    run(user, &words)
}

#[test]
fn what_is_pushed_can_be_pulled_by_another() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    let name = registry.name("team/base:1");
    let pushed = quick(&user, "push", &["busybox", &name]).succeeds();
    let original = Image::named(&user.layout(), "busybox:latest", None);
    assert_eq!(pushed.stdout.trim(), original.digest());
    let other = User::new();
    let pulled = quick(&other, "pull", &[&name]).succeeds();
    assert_eq!(pulled.stdout.trim(), original.digest());
    let image = Image::named(&other.layout(), &name, None);
    assert_eq!(image.manifest(), original.manifest());
    assert!(
        !other.store().join("partial").exists() || fs::read_dir(other.store().join("partial")).unwrap().count() == 0
    );
}

#[test]
fn a_second_push_sends_nothing_and_a_second_pull_fetches_nothing() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    let name = registry.name("base:1");
    quick(&user, "push", &["busybox", &name]).succeeds();
    registry.forget();
    quick(&user, "push", &["busybox", &registry.name("base:2")]).succeeds();
    assert!(registry.seen("POST", "uploads").is_empty() && registry.seen("HEAD", "blobs").is_empty());
    assert_eq!(registry.seen("PUT", "manifests/2").len(), 1);
    quick(&user, "pull", &[&name]).succeeds();
    registry.forget();
    quick(&user, "pull", &[&name]).succeeds();
    assert!(registry.seen("GET", "").iter().all(|seen| seen.path == "/v2/"), "{:?}", registry.state().log);
}

#[test]
fn from_pulls_what_the_store_lacks() {
    let registry = Registry::new();
    registry.image("app/base", "1", &format!("linux/{}", architecture()), b"from the registry");
    let project = Project::of(&User::new()).dockerfile(&format!(
        "FROM {}\nCOPY --from={} /file /copy\nENV A=1",
        registry.name("app/base:1"),
        registry.name("app/base:1")
    ));
    let image = project.build().succeeds();
    image.top_layer().has_file("copy", "from the registry");
    assert_eq!(registry.seen("GET", "manifests").len(), 1);
    registry.forget();
    project.build().succeeds();
    assert!(registry.state().log.is_empty(), "what the store has is not asked for: {:?}", registry.state().log);
}

#[test]
fn the_policy_says_when_a_registry_is_asked() {
    let registry = Registry::new();
    let platform = format!("linux/{}", architecture());
    registry.image("base", "1", &platform, b"old");
    let build = |project: &Project, policy: &str| {
        let call = project.user().coracle(["build", "--progress=plain", "-t", "test", "--retry-delay=10ms"]);
        project.built(call.arg(format!("--pull={policy}")).arg(project.dir()).run())
    };
    let project =
        Project::of(&User::new()).dockerfile(&format!("FROM {}\nCOPY --from={0} /file /copy", registry.name("base:1")));
    build(&project, "never").fails(3).stderr_has("is not in the store");
    build(&project, "missing").succeeds().top_layer().has_file("copy", "old");
    registry.image("base", "1", &platform, b"new");
    build(&project, "missing").succeeds().top_layer().has_file("copy", "old");
    build(&project, "newer").succeeds().top_layer().has_file("copy", "new");
    registry.image("base", "1", &platform, b"newest");
    build(&project, "always").succeeds().top_layer().has_file("copy", "newest");
    registry.forget();
    build(&project, "always").succeeds();
    assert!(registry.seen("GET", "blobs").is_empty(), "nothing has changed: {:?}", registry.state().log);
    registry.fault("HEAD", "manifests", 100, Act::Status(500, "", ""));
    let newer = build(&project, "newer");
    assert!(newer.stderr.contains("cannot ask for a newer"), "{}", newer.stderr);
    newer.succeeds();
    build(&project, "always").fails(4).stderr_has("500");
}

#[test]
fn an_index_has_an_image_for_each_platform() {
    let registry = Registry::new();
    let images = ["amd64", "arm64"].map(|architecture| {
        registry.image("multi", architecture, &format!("linux/{architecture}"), architecture.as_bytes())
    });
    let index = registry.index("multi", "1", &images);
    let user = User::new();
    let pulled = quick(&user, "pull", &["--platform=linux/arm64", &registry.name("multi:1")]).succeeds();
    assert_eq!(pulled.stdout.trim(), images[1]["digest"]);
    let error = quick(&user, "pull", &["--platform=linux/s390x", &registry.name("multi:1")]).fails(3);
    error.stderr_has("has no image for linux/s390x, only for: linux/amd64, linux/arm64");
    // By the digest of the index, which a Dockerfile may name.
    let by_digest = registry.name(&format!("multi@{}", index["digest"].as_str().unwrap()));
    let other = User::new();
    let project = Project::of(&other).dockerfile(&format!("FROM {by_digest}\nENV A=1"));
    // The judge of layouts does not know that an index may lead to an index.
    project.call().run().succeeds();
    registry.forget();
    project.call().run().succeeds();
    assert!(registry.state().log.is_empty());
}

#[test]
fn a_build_is_pushed_under_all_its_names_and_base_layers_are_mounted() {
    let registry = Registry::new();
    let user = User::with_busybox();
    quick(&user, "push", &["busybox", &registry.name("base/busybox:1")]).succeeds();
    quick(&user, "pull", &[&registry.name("base/busybox:1")]).succeeds();
    registry.forget();
    let project = Project::of(&user)
        .file("page.html", "hello")
        .dockerfile(&format!("FROM {}\nCOPY page.html /", registry.name("base/busybox:1")));
    let call = user.coracle(["build", "--progress=plain", "--push", "--retry-delay=10ms"]);
    let names = [registry.name("app/web:1"), registry.name("app/web:2"), registry.name("copy/web:1")];
    let call = names.iter().fold(call, |call, name| call.arg("-t").arg(name));
    let built = call.arg(project.dir()).run().succeeds();
    let image = Image::named(&user.layout(), &names[0], None);
    let base = image.manifest()["layers"][0]["digest"].as_str().unwrap();
    let state = registry.state();
    let manifest = |repository: &str, tag: &str| state.manifests[&(repository.to_owned(), tag.to_owned())].1.clone();
    for (repository, tag) in [("app/web", "1"), ("app/web", "2"), ("copy/web", "1")] {
        assert_eq!(Digest::of(&manifest(repository, tag)).to_string(), built.stdout.trim());
    }
    let posts: Vec<_> = state.log.iter().filter(|seen| seen.method == "POST").collect();
    assert!(posts.iter().any(|post| post.path.contains(base) && post.path.contains("from=base/busybox")), "{posts:?}");
    let sent: Vec<_> = state.log.iter().filter(|seen| seen.method == "PUT" && seen.path.contains(base)).collect();
    assert!(sent.is_empty(), "a base layer was sent: {sent:?}");
}

#[test]
fn a_download_goes_on_where_it_stopped_also_in_another_process() {
    let registry = Registry::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
    registry.image("big", "1", &format!("linux/{}", architecture()), &content);
    let layer = Digest::of(&tar_with("file", &content)).to_string();
    registry.fault("GET", &layer, 2, Act::Cut(1_000_000));
    let user = User::new();
    run(&user, &["pull", "--retry=0", &registry.name("big:1")]).fails(4).stderr_has("the connection broke");
    let kept = fs::read_dir(user.store().join("partial")).unwrap().flatten().next().expect("a part of a blob");
    assert!(kept.metadata().unwrap().len() >= 900_000);
    registry.forget();
    quick(&user, "pull", &[&registry.name("big:1")]).succeeds();
    let asked: Vec<_> = registry.seen("GET", &layer).iter().map(|seen| seen.head.get("range").cloned()).collect();
    assert!(
        asked.len() == 2 && asked[0].as_deref().is_some_and(|range| range.starts_with("bytes=1000000-")),
        "{asked:?}"
    );
    assert_eq!(fs::read_dir(user.store().join("partial")).unwrap().count(), 0);
    // What is kept and wrong is thrown away.
    let broken = User::new();
    quick(&broken, "pull", &["--policy=always", &registry.name("big:1")]).succeeds();
    let other = User::new();
    let partial = other.store().join("partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join(layer.trim_start_matches("sha256:")), [7; 5000]).unwrap();
    let owner = fs::metadata(other.home()).unwrap();
    use std::os::unix::fs::MetadataExt;
    for dir in [other.home().join(".local"), other.home().join(".local/share"), other.store(), partial.clone()] {
        let _ = std::os::unix::fs::chown(dir, Some(owner.uid()), Some(owner.gid()));
    }
    let file = partial.join(layer.trim_start_matches("sha256:"));
    let _ = std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid()));
    support::set_mode(&file, 0o666);
    [&partial, &other.store()].iter().for_each(|dir| support::set_mode(dir, 0o777));
    quick(&other, "pull", &[&registry.name("big:1")]).succeeds();
}

#[test]
fn a_registry_that_knows_no_ranges_is_asked_for_all_of_it() {
    let registry = Registry::new();
    registry.state().no_ranges = true;
    registry.image("big", "1", &format!("linux/{}", architecture()), &[7; 400_000]);
    let layer = Digest::of(&tar_with("file", &[7; 400_000])).to_string();
    registry.fault("GET", &layer, 1, Act::Cut(200_000));
    quick(&User::new(), "pull", &[&registry.name("big:1")]).succeeds();
}

#[test]
fn an_upload_goes_on_where_it_stopped() {
    let registry = Registry::new();
    let user = User::with_busybox();
    registry.fault("PUT", "uploads", 1, Act::ResetAfter(100_000));
    quick(&user, "push", &["busybox", &registry.name("base:1")]).succeeds();
    let patches = registry.seen("PATCH", "uploads");
    assert_eq!(patches.len(), 1, "{:?}", registry.state().log);
    assert!(patches[0].head["content-range"].starts_with("100000-"), "{patches:?}");
}

#[test]
fn a_registry_that_wants_pieces_gets_pieces() {
    let registry = Registry::new();
    registry.state().no_monolithic = true;
    quick(&User::with_busybox(), "push", &["busybox", &registry.name("base:1")]).succeeds();
    assert!(!registry.seen("PATCH", "uploads").is_empty());
}

#[test]
fn a_lost_upload_begins_anew() {
    let registry = Registry::new();
    registry.fault("PUT", "uploads", 1, Act::ForgetUpload);
    quick(&User::with_busybox(), "push", &["busybox", &registry.name("base:1")]).succeeds();
}

#[test]
fn credentials_go_to_the_registry_alone() {
    let registry = Registry::new();
    let user = User::with_busybox();
    let elsewhere = registry.host().replace("127.0.0.1", "localhost");
    for auth in
        [Auth::Basic("ann", "geheim"), Auth::Bearer { login: Some(("ann", "geheim")), identity: None, uses: 100 }]
    {
        registry.forget();
        {
            let mut state = registry.state();
            (state.auth, state.blobs, state.manifests) = (auth, Default::default(), Default::default());
            (state.blobs_elsewhere, state.uploads_elsewhere) = (Some(elsewhere.clone()), Some(elsewhere.clone()));
        }
        let name = registry.name("base:1");
        quick(&user, "push", &["--creds=ann:geheim", "busybox", &name]).succeeds();
        quick(&User::new(), "pull", &["--creds=ann:geheim", &name]).succeeds();
        let state = registry.state();
        let there: Vec<_> = state.log.iter().filter(|seen| seen.head["host"] == elsewhere).collect();
        assert!(there.len() >= 4, "{there:?}");
        assert!(there.iter().all(|seen| !seen.head.contains_key("authorization")), "{there:?}");
    }
}

#[test]
fn a_token_that_runs_out_is_replaced() {
    let registry = Registry::new();
    registry.state().auth = Auth::Bearer { login: Some(("ann", "geheim")), identity: None, uses: 2 };
    let name = registry.name("base:1");
    quick(&User::with_busybox(), "push", &["--creds=ann:geheim", "busybox", &name]).succeeds();
    assert!(registry.seen("GET", "/token").len() > 2);
    quick(&User::new(), "pull", &["--creds=ann:geheim", &name]).succeeds();
    let outcome = quick(&User::new(), "pull", &["--creds=ann:falsch", &name]).fails(4);
    outcome.stderr_has("does not accept the credentials").stderr_has("coracle login").stderr_has_no("falsch");
    quick(&User::new(), "pull", &[&name]).fails(4).stderr_has("coracle login");
}

#[test]
fn an_identity_token_is_changed_for_others() {
    let registry = Registry::new();
    registry.state().auth = Auth::Bearer { login: None, identity: Some("refresh-me"), uses: 100 };
    let user = User::with_busybox();
    let file = user.new_dir().join("auth.json");
    let auths = json!({"auths": {registry.host(): {"identitytoken": "refresh-me"}}});
    fs::write(&file, auths.to_string()).unwrap();
    quick(&user, "push", &["--authfile", file.to_str().unwrap(), "busybox", &registry.name("base:1")]).succeeds();
    let asked = registry.seen("POST", "/token");
    assert!(!asked.is_empty() && asked.iter().all(|seen| !seen.path.contains("refresh-me")));
}

#[test]
fn old_manifests_and_documents_that_are_none_are_refused() {
    let registry = Registry::new();
    let user = User::new();
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.manifest("old", "1", old, &json!({"schemaVersion": 1, "fsLayers": []}));
    quick(&user, "pull", &[&registry.name("old:1")]).fails(3).stderr_has("schema 1");
    registry.manifest("odd", "1", "text/html", &json!({"hello": 1}));
    quick(&user, "pull", &[&registry.name("odd:1")]).fails(3);
    quick(&user, "pull", &[&registry.name("none:1")]).fails(4).stderr_has("tag 1 is not in 127.0.0.1");
}
