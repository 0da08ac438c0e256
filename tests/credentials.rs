//! `--creds`: a password goes to the registries that the command line names, whatever a Dockerfile names.

mod support;

use std::fs;

use support::registry::{Auth, Registry};
use support::web::{Answer, Web};
use support::{Outcome, Project, User, base};

fn locked() -> Registry {
    let registry = Registry::new();
    registry.state().auth = Auth::Basic("ann", "geheim");
    let user = User::with_busybox();
    user.coracle(["push", "--creds=ann:geheim", "busybox", &registry.name("base:1")]).run().succeeds();
    registry.forget();
    registry
}

/// Whether somebody showed a password there.
fn was_told(registry: &Registry) -> bool {
    registry.state().log.iter().any(|seen| seen.head.contains_key("authorization"))
}

/// A build with the password, and these flags.
fn build(text: &str, flags: &[&str]) -> Outcome {
    let user = User::new();
    let project = Project::of(&user).dockerfile(text);
    let words = [&["build", "--progress=plain", "--creds=ann:geheim", "--retry=0"], flags].concat();
    user.coracle(words).arg(project.dir()).run()
}

#[test]
fn a_base_image_elsewhere_is_not_told_who_pushes() {
    let (target, other) = (locked(), locked());
    let from = format!("FROM {}\n", other.name("base:1"));
    let name = target.name("app:1");
    build(&from, &["--push", "-t", &name]).fails(4).stderr_has("coracle login");
    assert!(!was_told(&other));
    // Whether it asks for it or not; and so with the other ways to name a registry.
    other.state().auth = Auth::Open;
    build(&from, &["--push", "-t", &name]).succeeds();
    build(&from, &["-o", &format!("type=image,push=true,name={name}")]).succeeds();
    let cache = format!("type=registry,ref={}", target.name("cache:1"));
    build(&format!("{from}ENV a=b"), &["--cache-to", &cache]).succeeds();
    build(&format!("{from}ENV a=b"), &["--cache-from", &cache]).succeeds().stderr_has_no("warning");
    assert!(was_told(&target) && !was_told(&other));
    // What a file says counts for the others.
    other.state().auth = Auth::Basic("ann", "geheim");
    let auths = User::new().new_dir().join("auth.json");
    fs::create_dir_all(auths.parent().unwrap()).unwrap();
    fs::write(&auths, format!(r#"{{"auths": {{"{}": {{"auth": "YW5uOmdlaGVpbQ=="}}}}}}"#, other.host())).unwrap();
    build(&from, &["--push", "-t", &name, "--authfile", auths.to_str().unwrap()]).succeeds();
}

#[test]
fn a_build_that_names_no_registry_shows_it_to_that_of_its_base() {
    let (one, other) = (locked(), locked());
    let base = one.name("base:1");
    build("ARG BASE=x\nFROM ${BASE}", &["--build-arg", &format!("BASE={base}"), "-t", "app"]).succeeds();
    let and = format!("FROM {base} AS a\nFROM {base}\nCOPY --from={} /bin /b", other.name("base:1"));
    build(&and, &[]).fails(4).stderr_has("coracle login");
    assert!(was_told(&one) && !was_told(&other));
    one.forget();
    let both = format!("FROM {base} AS a\nFROM {}\nCOPY --from=a /bin /b", other.name("base:1"));
    let failed = build(&both, &[]).fails(2);
    failed.stderr_has(&one.host()).stderr_has(&other.host()).stderr_has("--authfile").stderr_has("coracle login");
    build("FROM scratch\nCOPY . /", &[]).fails(2).stderr_has("nor does a FROM");
    assert!(!was_told(&one) && !was_told(&other));
    // The same for other verbs that read a Dockerfile; a mirror that the command line names is named, too.
    let user = User::new();
    let project = Project::of(&user).dockerfile(&format!("FROM {base}\n"));
    user.coracle(["lock", "--creds=ann:geheim"]).arg(project.dir()).run().succeeds();
    let project = Project::of(&user).dockerfile(&both);
    user.coracle(["lock", "--creds=ann:geheim"]).arg(project.dir()).run().fails(2);
    other.state().manifests.clear();
    one.forget();
    build("FROM base:1", &["--registry-map", &format!("docker.io={}", one.host()), "--skip-default-registry-fallback"])
        .fails(4);
    assert!(was_told(&one));
}

#[test]
fn what_other_verbs_name_is_told_and_no_mirror_of_a_file() {
    let (named, mirror) = (locked(), locked());
    let user = User::new();
    let conf = user.new_dir().join("registries.conf");
    fs::write(
        &conf,
        format!(
            "[[registry]]\nprefix = \"reg.example\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
            named.host(),
            mirror.host()
        ),
    )
    .unwrap();
    let call = |words: &[&str]| {
        let call = user.coracle(words).arg("--creds=ann:geheim").arg("--retry=0");
        call.env("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap()).run()
    };
    call(&["pull", "reg.example/base:1"]).succeeds();
    assert!(was_told(&named) && !was_told(&mirror) && !mirror.state().log.is_empty());
    call(&["push", "reg.example/base:1"]).succeeds();
    call(&["inspect", "docker://reg.example/base:1"]).succeeds();
    call(&["copy", "docker://reg.example/base:1", "docker://reg.example/copy:1"]).succeeds();
    call(&["manifest", "create", "many:1", "docker://reg.example/base:1"]).succeeds();
    call(&["manifest", "push", "many:1", "docker://reg.example/many:1"]).succeeds();
    assert!(!was_told(&mirror));
    user.pull(&base::busybox());
    call(&["push", "busybox", "docker://reg.example/other:1"]).succeeds();
}

/// That a registry need not be secure says nothing about the host that it sends a password to.
#[test]
fn a_token_server_elsewhere_must_be_secure() {
    let tokens = Web::new(|_| Answer::ok(r#"{"token": "t"}"#));
    let port = tokens.host().rsplit(':').next().unwrap().to_owned();
    let pull = |realm: String, flags: &[&str], conf: &str| {
        let registry = Web::new(move |_| {
            Answer::status(401)
                .header("WWW-Authenticate", &format!("Bearer realm=\"http://{realm}/token\",service=\"s\""))
        });
        let user = User::new();
        let file = user.new_dir().join("registries.conf");
        fs::write(&file, conf).unwrap();
        let before = tokens.log().len();
        let name = format!("{}/base:1", registry.host());
        let call = user.coracle([&["pull", "--creds=ann:geheim", "--retry=0", &name], flags].concat());
        let outcome = call.env("CONTAINERS_REGISTRIES_CONF", file.to_str().unwrap()).run().fails(4);
        (outcome.stderr.clone(), tokens.log().len() > before)
    };
    // The same machine, by a name that does not say so.
    let elsewhere = format!("0.0.0.0:{port}");
    let (said, was_asked) = pull(elsewhere.clone(), &[], "");
    assert!(!was_asked && said.contains("its realm is not encrypted"), "{said}");
    assert!(pull(tokens.host(), &[], "").1);
    assert!(pull(elsewhere.clone(), &["--tls-verify=false"], "").1);
    let insecure = format!("[[registry]]\nlocation = \"{elsewhere}\"\ninsecure = true\n");
    assert!(pull(elsewhere, &[], &insecure).1);
}
