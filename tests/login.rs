//! `login` and `logout`: credentials are kept where other tools look too, and nobody else may read them.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::registry::{Auth, Registry};
use support::{Call, Outcome, User};

/// A call with a password on standard input.
fn with_password(user: &User, password: &str, args: &[&str]) -> Outcome {
    let file = user.new_dir().join("password");
    fs::write(&file, password).unwrap();
    let line = format!("exec {} \"$@\" <{}", env!("CARGO_BIN_EXE_coracle"), file.display());
    let call: Call = user.tool("sh").arg("-c").arg(line).arg("sh");
    args.iter().fold(call, |call, arg| call.arg(arg)).run()
}

#[test]
fn who_logs_in_can_push_until_he_logs_out() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    registry.state().auth = Auth::Basic("ann", "geheim");
    let (host, name) = (registry.host(), registry.name("base:1"));
    let push = || user.coracle(["push", "--retry=0", "busybox", &name]).run();
    push().fails(4).stderr_has(&format!("coracle login {host}"));
    let wrong = with_password(&user, "falsch\n", &["login", "-u", "ann", "--password-stdin", &host]).fails(4);
    assert!(!wrong.stderr.contains("falsch"), "{wrong}");
    push().fails(4);
    let login = with_password(&user, "geheim\n", &["login", "-u", "ann", "--password-stdin", &host]).succeeds();
    assert!(!login.stdout.contains("geheim") && !login.stderr.contains("geheim"), "{login}");
    let file = user.home().join(".run/containers/auth.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(user.coracle(["login", "--get-login", &host]).run().succeeds().stdout.trim(), "ann");
    push().succeeds();
    user.coracle(["logout", &host]).run().succeeds();
    push().fails(4);
    user.coracle(["login", "--get-login", &host]).run().fails(1).stderr_has("not logged in");
    user.coracle(["logout", &host]).run().fails(2).stderr_has("there are no credentials");
    user.coracle(["login", &host]).run().fails(2).stderr_has("--password-stdin");
}

#[test]
fn credentials_of_other_tools_are_found() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    registry.state().auth = Auth::Basic("ann", "geheim");
    let name = registry.name("team/base:1");
    // ann:geheim
    let auths = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "YW5uOmdlaGVpbQ=="}}}}}}"#);
    let docker = user.home().join(".docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("config.json"), auths(&format!("{}/team", registry.host()))).unwrap();
    support::set_mode(&docker, 0o755);
    user.coracle(["push", "--retry=0", "busybox", &name]).run().succeeds();
    user.coracle(["push", "--retry=0", "busybox", &registry.name("other/base:1")]).run().fails(4);
    let file = user.new_dir().join("auth.json");
    fs::write(&file, auths(&registry.host())).unwrap();
    let other = registry.name("other/base:1");
    let call = user.coracle(["push", "--retry=0", "busybox", &other]).env("REGISTRY_AUTH_FILE", file.to_str().unwrap());
    call.run().succeeds();
}

#[test]
fn a_credential_helper_is_asked() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    registry.state().auth = Auth::Basic("ann", "geheim");
    let bin = user.new_dir();
    let helper = bin.join("docker-credential-test");
    let answer = r#"{"ServerURL": "x", "Username": "ann", "Secret": "geheim"}"#;
    fs::write(
        &helper,
        format!("#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {}' ] && echo '{answer}'\n", registry.host()),
    )
    .unwrap();
    support::set_mode(&helper, 0o755);
    let docker = user.new_dir();
    fs::write(docker.join("config.json"), r#"{"credsStore": "test"}"#).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let call = user.coracle(["push", "--retry=0", "busybox", &registry.name("base:1")]);
    call.env("PATH", &path).env("DOCKER_CONFIG", docker.to_str().unwrap()).run().succeeds();
}

#[test]
fn the_helper_that_docker_has_for_its_own_registry_is_asked() {
    let user = User::new();
    let bin = user.new_dir();
    let helper = bin.join("docker-credential-hub");
    let answer = r#"{"ServerURL": "x", "Username": "ann", "Secret": "geheim"}"#;
    let hub = "https://index.docker.io/v1/";
    fs::write(&helper, format!("#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {hub}' ] && echo '{answer}'\n"))
        .unwrap();
    support::set_mode(&helper, 0o755);
    let docker = user.new_dir();
    fs::write(docker.join("config.json"), format!(r#"{{"credHelpers": {{"{hub}": "hub"}}}}"#)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let known = |registry: &str| {
        let call = user.coracle(["login", "--get-login", registry]).env("PATH", &path);
        call.env("DOCKER_CONFIG", docker.to_str().unwrap()).run()
    };
    assert_eq!(known("docker.io").succeeds().stdout.trim(), "ann");
    known("quay.io").fails(1);
}

#[test]
fn who_gives_up_at_the_password_sees_what_is_typed_then() {
    if !support::require_tool("script") {
        return;
    }
    let user = User::new();
    let seen = user.new_dir().join("seen");
    let program = env!("CARGO_BIN_EXE_coracle");
    let inner = format!("trap : INT; {program} login -u ann 127.0.0.1:1; echo code $?; stty -a");
    let line = format!(
        "( until grep -q Password: {seen}; do sleep 0.05; done; sleep 0.2; printf '\\003'; sleep 1 ) 2>/dev/null \
         | script -qefc \"$0\" {seen}",
        seen = seen.display()
    );
    user.tool("sh -c").arg(line).arg(inner).run();
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("code 130"), "{seen}");
    assert!(seen.contains(" echo ") && !seen.contains(" -echo "), "{seen}");
}

#[test]
fn the_file_of_docker_can_be_written_and_read() {
    let (registry, user) = (Registry::new(), User::with_busybox());
    registry.state().auth = Auth::Basic("ann", "geheim");
    let (host, docker) = (registry.host(), user.new_dir());
    let file = docker.join("config.json");
    let flag = format!("--compat-auth-file={}", file.display());
    with_password(&user, "geheim\n", &["login", "-u", "ann", "--password-stdin", &flag, &host]).succeeds();
    assert!(fs::read_to_string(&file).unwrap().contains(&host) && !user.home().join(".run/containers").exists());
    let push = user.coracle(["push", "--retry=0", "busybox", &registry.name("base:1")]);
    push.env("DOCKER_CONFIG", docker.to_str().unwrap()).run().succeeds();
    let team = format!("{host}/team");
    with_password(&user, "geheim\n", &["login", "-u", "ann", "--password-stdin", &flag, &team]).fails(2);
    user.coracle(["logout", &flag, &host]).run().succeeds();
    assert!(!fs::read_to_string(&file).unwrap().contains(&host));
    // What docker itself wrote for its own registry is found under our name of it.
    fs::write(&file, r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YW5uOmdlaGVpbQ=="}}}"#).unwrap();
    assert_eq!(user.coracle(["login", "--get-login", &flag]).run().succeeds().stdout.trim(), "ann");
}
