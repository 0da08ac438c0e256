//! Who is sent where, and what goes along: a redirect is written by somebody who may mean harm.

mod support;

use std::fs;

use serde_json::json;
use support::registry::{Act, Auth, Registry};
use support::web::{Answer, Web};
use support::{Outcome, Project, User};

/// A server that wants to be told who asks, and where.
fn curious() -> Web {
    let listener = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let own = std::sync::Arc::clone(&listener);
    let web = Web::new(move |asked| match asked.path.starts_with("/token") {
        true => Answer::ok("{\"token\": \"mine\"}"),
        false => {
            let realm = format!("Bearer realm=\"{}/token\",service=\"x\"", own.get().expect("set before it is asked"));
            Answer::status(401).header("WWW-Authenticate", &realm)
        }
    });
    listener.set(web.url("")).expect("set once");
    web
}

fn leads_to(url: String) -> &'static str {
    Box::leak(format!("Location: {url}").into_boxed_str())
}

fn quick(user: &User, verb: &str, args: &[&str]) -> Outcome {
    user.coracle([verb, "--retry=0"].iter().chain(args)).run()
}

fn nobody_is_named(web: &Web) {
    for asked in web.log() {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
}

#[test]
fn a_password_does_not_go_to_who_asks_for_it_behind_a_redirect() {
    let (registry, stranger) = (Registry::new(), curious());
    registry.fault("GET", "/v2/base/manifests/", 1000, Act::Status(307, leads_to(stranger.url("/m")), ""));
    let (user, name) = (User::new(), registry.name("base:1"));
    let outcome = quick(&user, "pull", &["--creds=ann:geheim", &name]).fails(4);
    outcome.stderr_has(&stranger.host()).stderr_has("401").stderr_has_no("geheim");
    assert!(!stranger.log().is_empty());
    nobody_is_named(&stranger);
    assert!(stranger.log().iter().all(|asked| !asked.path.starts_with("/token")), "{:?}", stranger.log());
    // Nor where the registry wants it too.
    registry.state().auth = Auth::Basic("ann", "geheim");
    quick(&user, "pull", &["--creds=ann:geheim", &name]).fails(4);
    // Nor at the login.
    registry.fault("GET", "/v2/", 1000, Act::Status(302, leads_to(stranger.url("/m")), ""));
    let password = user.new_dir().join("password");
    fs::write(&password, "geheim").expect("a file");
    let login = user.coracle(["login", "--username=ann", "--password-stdin", &registry.host()]).stdin(&password).run();
    login.fails(4).stderr_has_no("geheim");
    nobody_is_named(&stranger);
}

#[test]
fn a_refresh_token_goes_to_its_token_server_only() {
    let (registry, stranger) = (Registry::new(), curious());
    registry.state().auth = Auth::Bearer { login: None, identity: Some("refresh-me"), uses: 100 };
    for status in [307, 308] {
        registry.fault("POST", "/token", 1000, Act::Status(status, leads_to(stranger.url("/token")), ""));
        let user = User::new();
        let file = user.new_dir().join("auth.json");
        let auths = json!({"auths": {registry.host(): {"identitytoken": "refresh-me"}}});
        fs::write(&file, auths.to_string()).expect("a file");
        let args = ["--authfile", file.to_str().expect("UTF-8"), &registry.name("base:1")];
        let outcome = quick(&user, "pull", &args).fails(4);
        outcome.stderr_has("what was sent is not for").stderr_has(&stranger.host()).stderr_has_no("refresh-me");
        registry.state().faults.clear();
    }
    assert!(stranger.log().is_empty(), "{:?}", stranger.log());
}

fn with_secret(project: Project, name: &str) -> Project {
    let file = project.user().new_dir().join("token");
    fs::write(&file, "geheim").expect("a file");
    project.arg(&format!("--secret=id={name},src={}", file.display()))
}

fn adding(url: &str) -> Project {
    Project::of(&User::new()).dockerfile(&format!("# escape=`\nFROM scratch\nADD {url} /c/\n")).arg("--retry=0")
}

#[test]
fn a_token_for_git_stays_with_its_host() {
    if !support::require_tool("git") {
        return;
    }
    let stranger = Web::new(|_| Answer::status(404));
    let there = stranger.url("");
    let web = Web::new(move |asked| match asked.path.strip_prefix("/old.git") {
        Some(rest) => Answer::redirect(&format!("/new.git{rest}")),
        None if asked.path.starts_with("/new.git") => Answer::status(404),
        None => Answer::redirect(&format!("{there}{}", asked.path)),
    });
    for name in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_HEADER.{}", web.host())] {
        let before = stranger.log().len();
        with_secret(adding(&web.url("/lib.git#main")), &name).build().fails(4).stderr_has_no("geheim");
        assert!(stranger.log().len() > before);
        nobody_is_named(&stranger);
    }
    adding(&web.url("/lib.git#main").replace("//", "//ann:geheim@")).build().fails(4);
    nobody_is_named(&stranger);
    assert!(web.log().iter().all(|asked| asked.header("authorization").is_some()), "{:?}", web.log());
    // On the same host it may go on; and who has one for the other host, shows that.
    with_secret(adding(&web.url("/old.git#main")), "GIT_AUTH_TOKEN").build().fails(4);
    let new: Vec<_> = web.log().into_iter().filter(|asked| asked.path.starts_with("/new.git")).collect();
    assert!(new.len() > 1 && new.iter().all(|asked| asked.header("authorization").is_some()), "{new:?}");
    let name = format!("GIT_AUTH_HEADER.{}", stranger.host());
    let both = with_secret(with_secret(adding(&web.url("/lib.git#main")), "GIT_AUTH_TOKEN"), &name);
    both.build().fails(4);
    assert_eq!(
        stranger.log().last().and_then(|asked| asked.header("authorization").map(str::to_owned)),
        Some("geheim".into())
    );
}

#[test]
fn a_token_for_files_goes_to_the_host_that_is_asked() {
    let web = Web::new(|_| Answer::ok("x"));
    let (host, good) = (web.host(), "HTTP_AUTH_TOKEN_good.example");
    for url in [format!("http://{host}\\@good.example/file"), format!("http://{host}\\@good.example/lib.git")] {
        with_secret(adding(&url), good).build().fails(3).stderr_has("its host is written in a way");
    }
    assert!(web.log().is_empty(), "{:?}", web.log());
    let token = format!("HTTP_AUTH_TOKEN_{host}");
    with_secret(adding(&web.url("/file")), &token).build().succeeds();
    assert_eq!(web.log()[0].header("authorization"), Some("Bearer geheim"));
}
