//! Where a build's image goes: registries, by tag and by digest; and the small files about it. Also as kaniko says it.

mod support;

use std::fs;

use serde_json::Value;
use support::registry::{Act, Registry};
use support::{Image, Project, User};

const DOCKERFILE: &str = "FROM busybox\nCOPY page /site/\n";

fn project() -> Project {
    Project::new().file("page", "hello").dockerfile(DOCKERFILE)
}

/// The project built with these words besides.
fn build(project: &Project, words: &[&str]) -> support::Outcome {
    let mut all = vec!["build", "--progress", "plain", "--retry-delay", "10ms"];
    all.extend(words);
    let dir = project.dir().display().to_string();
    all.push(&dir);
    project.user().coracle(&all).run()
}

/// Answers everything but the greeting so.
fn refuse(registry: &Registry, act: Act) {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
        registry.fault(method, "/v2/c", u32::MAX, act.clone());
        registry.fault(method, "/v2/w", u32::MAX, act.clone());
    }
}

#[test]
fn an_image_goes_to_several_registries_under_several_names() {
    let (one, two, project) = (Registry::new(), Registry::new(), project());
    let names = [one.name("team/web:1"), one.name("team/web:latest"), two.name("web:1")];
    let words = ["--push", "-t", &names[0], "-t", &names[1], "-t", &names[2]];
    let digest = build(&project, &words).succeeds().stdout.trim().to_owned();
    for name in &names {
        let other = User::new();
        other.coracle(["pull", name.as_str()]).run().succeeds();
        assert_eq!(Image::named(&other.layout(), name, None).digest(), digest);
    }
}

#[test]
fn an_output_of_type_registry_has_names_of_its_own() {
    let (registry, project) = (Registry::new(), project());
    let name = registry.name("web:7");
    let output = format!("type=registry,name={name}");
    let digest = build(&project, &["-t", "local:1", "-o", &output]).succeeds().stdout.trim().to_owned();
    let state = registry.state();
    assert!(state.manifests.contains_key(&("web".into(), "7".into())));
    assert!(state.manifests.contains_key(&("web".into(), digest)));
    assert!(!state.manifests.keys().any(|(repository, _)| repository.contains("local")));
}

#[test]
fn an_image_can_be_pushed_without_a_tag() {
    let (registry, project) = (Registry::new(), project());
    let metadata = project.user().home().join("metadata.json");
    let repository = format!("{}/web", registry.host());
    let output = format!("type=image,name={repository},push-by-digest=true,name-canonical=true,push=true");
    let file = metadata.display().to_string();
    let digest = build(&project, &["-o", &output, "--metadata-file", &file]).succeeds().stdout.trim().to_owned();
    let known: Vec<_> = registry.state().manifests.keys().cloned().collect();
    assert_eq!(known, [("web".to_owned(), digest.clone())], "the digest alone leads to it");
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).expect("the file")).expect("JSON");
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["image.name"], format!("{repository}@{digest}"));
}

#[test]
fn a_push_that_fails_leaves_the_image_in_the_store_and_no_file_about_it() {
    let (registry, project) = (Registry::new(), project());
    refuse(&registry, Act::Status(403, "", ""));
    let (name, iid) = (registry.name("web:1"), project.user().home().join("iid"));
    build(&project, &["--push", "-t", &name, "--iidfile", &iid.display().to_string()]).fails(4);
    assert!(!iid.exists());
    Image::named(&project.user().layout(), &name, None);
}

#[test]
fn a_job_of_kaniko_moves_as_it_is() {
    let (registry, project) = (Registry::new(), project());
    let name = registry.name("team/web:1");
    let home = project.user().home();
    let file = |name: &str| home.join(name).display().to_string();
    let context = format!("dir://{}", project.dir().display());
    let (digest, full, tar) = (file("digest"), file("full"), file("image.tar"));
    let words = [
        "build",
        "--progress",
        "plain",
        "--context",
        &context,
        "--dockerfile",
        "Dockerfile",
        "--destination",
        &name,
        "--digest-file",
        &digest,
        "--image-name-tag-with-digest-file",
        &full,
        "--tar-path",
        &tar,
        "--cache=true",
        "--snapshot-mode=redo",
        "--use-new-run",
        "--verbosity",
        "info",
    ];
    let out = project.user().coracle(words).run().succeeds();
    let out = out.stderr_has("--snapshot-mode, --use-new-run").stderr_has("ignored");
    let made = out.stdout.trim().to_owned();
    assert_eq!(fs::read_to_string(&digest).expect("the file"), made);
    assert_eq!(fs::read_to_string(&full).expect("the file"), format!("{name}@{made}\n"));
    assert!(fs::metadata(&tar).expect("the archive").len() > 1000);
    assert!(registry.state().manifests.contains_key(&("team/web".into(), "1".into())));
    // The cache is in the repository's neighbour, and another job takes the result from there.
    assert!(registry.state().manifests.contains_key(&("team/web/cache".into(), "coracle".into())));
    let other = Project::new().file("page", "hello").dockerfile(DOCKERFILE);
    let context = other.dir().display().to_string();
    let words = ["build", "--progress", "plain", "-c", &context, "-d", &name, "--no-push", "--cache"];
    let again = other.user().coracle(words).run().succeeds();
    assert_eq!(again.count("CACHED"), 1);
    assert_eq!(again.stdout.trim(), made);
}

#[test]
fn a_cache_in_a_registry_replays_a_build_and_its_failure_is_a_warning() {
    let registry = Registry::new();
    let cache = format!("type=registry,ref={}", registry.name("cache:main"));
    let dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n";
    let first = Project::new().dockerfile(dockerfile);
    let made = build(&first, &["--cache-to", &cache]).succeeds().stdout;
    let second = Project::new().dockerfile(dockerfile);
    let again = build(&second, &["--cache-from", &cache]).succeeds();
    assert_eq!(again.stdout, made, "{}", again.stderr);
    refuse(&registry, Act::Status(500, "", ""));
    let third = Project::new().dockerfile(dockerfile);
    let words = ["--retry", "0", "--cache-from", &cache, "--cache-to", &cache];
    build(&third, &words).succeeds().stderr_has("is not used").stderr_has("is not written");
}

#[test]
fn single_registries_are_reached_as_kaniko_says() {
    let (registry, project) = (Registry::new(), Project::new());
    registry.image("hub/library/mirrored", "1", "linux/amd64", b"from the mirror");
    let place = format!("{}/hub", registry.host());
    let project = project.dockerfile("FROM mirrored:1\nCOPY --from=mirrored:1 / /copy/\n");
    let only = ["--skip-default-registry-fallback", "--registry-mirror", &place];
    build(&project, &only).succeeds();
    let other = Project::of(&User::new()).dockerfile("FROM quay.io/library/mirrored:1\nLABEL a=b\n");
    let map = format!("quay.io={place}");
    build(&other, &["--skip-default-registry-fallback", "--registry-map", &map]).succeeds();
    build(&other, &["--registry-map", "quay.io"]).fails(2).stderr_has("is not --registry-map");
    // A root that is not there is known before anything is pulled.
    let root = format!("{}=/nowhere.crt", registry.host());
    let name = registry.name("hub/library/mirrored:1");
    let other = Project::of(&User::new()).dockerfile(&format!("FROM {name}\nLABEL a=b\n"));
    build(&other, &["--tls-verify=true", "--registry-certificate", &root]).fails_cleanly().stderr_has("/nowhere.crt");
}

#[test]
fn what_is_told_is_what_kaniko_says() {
    let project = project();
    let words = |words: &[&str]| {
        let mut all = vec!["build"];
        all.extend(words);
        let dir = project.dir().display().to_string();
        all.push(&dir);
        project.user().coracle(&all).run()
    };
    words(&["--log-format=json"]).succeeds().stderr_has("{\"");
    words(&["--log-format=text", "--verbosity=debug"]).succeeds().stderr_has("CACHED");
    let warned = words(&["--verbosity=warn", "--use-new-run"]).succeeds();
    assert!(
        warned.stderr.contains("--use-new-run means nothing here") && !warned.stderr.contains("CACHED"),
        "{warned}"
    );
    assert_eq!(words(&["--verbosity=fatal"]).succeeds().stderr, "");
    words(&["--verbosity=loud"]).fails(2).stderr_has("--verbosity has no \"loud\"");
    words(&["--log-format=xml"]).fails(2).stderr_has("--log-format has no \"xml\"");
}
