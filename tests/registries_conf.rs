//! registries.conf and policy.json: where images really come from.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::registry::{Act, Registry};
use support::{Image, Outcome, Project, User, base, root};

fn conf(user: &User, text: &str) -> PathBuf {
    let file = user.new_dir().join("registries.conf");
    fs::write(&file, text).unwrap();
    file
}

fn pull(user: &User, conf: &Path, name: &str) -> Outcome {
    let call = user.coracle(["pull", "--retry-delay=10ms", "--retry=1", name]);
    call.env("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap()).run()
}

fn image(registry: &Registry, repository: &str, text: &str) {
    let platform = format!("linux/{}", coracle::oci::Platform::host().architecture);
    registry.image(repository, "1", &platform, text.as_bytes());
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_after_it() {
    let (mirror, registry, user) = (Registry::new(), Registry::new(), User::new());
    image(&registry, "app", "registry");
    let conf = conf(
        &user,
        &format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/cache\"",
            registry.host(),
            mirror.host()
        ),
    );
    pull(&user, &conf, &registry.name("app:1")).succeeds();
    assert_eq!(mirror.seen("GET", "cache/app/manifests/1").len(), 1);
    image(&mirror, "cache/app", "mirror");
    registry.forget();
    pull(&user, &conf, &registry.name("app:1")).succeeds();
    assert!(registry.seen("GET", "app").is_empty(), "{:?}", registry.state().log);
    mirror.fault("GET", "", 1000, Act::Status(500, "", ""));
    mirror.fault("HEAD", "", 1000, Act::Status(500, "", ""));
    pull(&user, &conf, &registry.name("app:1")).succeeds();
    registry.fault("GET", "manifests", 1000, Act::Status(503, "", ""));
    registry.fault("HEAD", "manifests", 1000, Act::Status(503, "", ""));
    let outcome = pull(&user, &conf, &registry.name("app:1")).fails(4);
    outcome.stderr_has(&mirror.host()).stderr_has(&registry.host());
}

#[test]
fn a_place_that_is_written_over_has_no_other() {
    let (registry, user) = (Registry::new(), User::new());
    image(&registry, "ms/dotnet/sdk", "here");
    let text = format!(
        "[[registry]]\nprefix = \"mcr.microsoft.com\"\nlocation = \"{}/ms\"\n[[registry]]\nprefix = \"evil.example\"\nblocked = true",
        registry.host()
    );
    let conf = conf(&user, &text);
    pull(&user, &conf, "mcr.microsoft.com/dotnet/sdk:1").succeeds();
    // It is known by the name that it was asked for.
    Image::named(&user.layout(), "mcr.microsoft.com/dotnet/sdk:1", None);
    let missing = pull(&user, &conf, "mcr.microsoft.com/dotnet/none:1").fails(4);
    missing.stderr_has(&registry.host()).stderr_has("mcr.microsoft.com/dotnet/none:1");
    pull(&user, &conf, "evil.example/x").fails(3).stderr_has("is blocked by");
    let bad = self::conf(&user, "[[registry]");
    pull(&user, &bad, "evil.example/x").fails(2).stderr_has("registries.conf");
}

#[test]
fn short_names_have_aliases() {
    let (registry, user) = (Registry::new(), User::new());
    image(&registry, "real/tool", "tool");
    let conf = conf(&user, &format!("[aliases]\n\"tool\" = \"{}/real/tool\"", registry.host()));
    pull(&user, &conf, "tool:1").succeeds();
    Image::named(&user.layout(), &registry.name("real/tool:1"), None);
}

#[test]
fn a_policy_may_reject_images() {
    let (registry, user) = (Registry::new(), User::new());
    image(&registry, "good/app", "good");
    image(&registry, "bad/app", "bad");
    let dir = user.home().join(".config/containers");
    fs::create_dir_all(&dir).unwrap();
    let host = registry.host();
    let policy = format!(
        r#"{{"default": [{{"type": "insecureAcceptAnything"}}], "transports": {{"docker": {{
            "{host}/bad": [{{"type": "reject"}}], "{host}/signed": [{{"type": "sigstoreSigned", "keyPath": "/k"}}]}}}}}}"#
    );
    fs::write(dir.join("policy.json"), policy).unwrap();
    for dir in [user.home().join(".config"), dir] {
        support::set_mode(&dir, 0o755);
    }
    let pull = |name: &str| user.coracle(["pull", "--retry=0", &registry.name(name)]).run();
    pull("good/app:1").succeeds();
    pull("bad/app:1").fails(3).stderr_has("is rejected by").stderr_has("policy.json");
    pull("signed/app:1").fails(3).stderr_has("cannot check signatures");
}

#[test]
fn the_seed_is_built_from_a_mirror_and_pushed() {
    let registry = Registry::new();
    let donor = User::new();
    let [sdk, runtime] = base::dotnet();
    for (layout, name) in [(&sdk, "sdk"), (&runtime, "runtime")] {
        donor.pull(layout);
        let to = registry.name(&format!("mirror/dotnet/core/{name}:3.0-alpine"));
        donor.coracle(["push", &format!("mcr.microsoft.com/dotnet/core/{name}:3.0-alpine"), &to]).run().succeeds();
    }
    let user = User::new();
    let text = format!("[[registry]]\nprefix = \"mcr.microsoft.com\"\nlocation = \"{}/mirror\"", registry.host());
    let conf = conf(&user, &text);
    let name = registry.name("demoweb:2").replace("127.0.0.1", "localhost");
    let call = user.coracle(["build", "--progress=plain", "--tag", &name, "--push"]);
    let call =
        call.arg(root().join("tests/fixtures/demo-web")).env("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap());
    let built = call.run().succeeds();
    let image = Project::of(&user).named(&name).image();
    assert_eq!(built.stdout.trim(), image.digest());
    let state = registry.state();
    let (_, manifest) = &state.manifests[&("demoweb".to_owned(), "2".to_owned())];
    assert_eq!(coracle::oci::Digest::of(manifest).to_string(), image.digest());
}
