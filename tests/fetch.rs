//! ADD of URLs, and contexts and Dockerfiles behind them, from a server with faults.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::web::{Answer, Web};
use support::{Image, Project, User};

const MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// A project that adds what is behind `url`, in this form.
fn adding(flags: &str, url: &str, destination: &str) -> Project {
    Project::of(&User::new()).dockerfile(&format!("FROM scratch\nADD {flags} {url} {destination}\n"))
}

// Rule 15.
#[test]
fn a_file_belongs_to_root_is_private_and_is_named_by_the_path() {
    let web = Web::new(|_| Answer::ok("hello").header("Last-Modified", MODIFIED));
    let cases = [
        ("/a/b.txt?c=/d", "/x/", "x/b.txt"),
        ("/a/b.txt", "/x", "x"),
        ("/", "/x/", "x/__unnamed__"),
        ("/a%20b", "/x/", "x/a b"),
    ];
    for (path, destination, there) in cases {
        let image = adding("", &web.url(path), destination).build().succeeds();
        image.has_file(there, "hello").has_owner(there, "0:0", 0o600);
        assert_eq!(image.node(there).mtime, 1_445_412_480, "{path}");
    }
    adding("--chmod=755 --chown=5:6", &web.url("/a"), "/x").build().succeeds().has_owner("x", "5:6", 0o755);
}

// Rule 15.
#[test]
fn an_archive_stays_one_unless_it_is_to_be_unpacked() {
    let user = User::new();
    let dir = user.new_dir();
    std::fs::write(dir.join("inner"), "text").expect("a file");
    let tar = Command::new("tar").args(["--create", "--gzip", "inner"]).current_dir(&dir).output().expect("tar");
    let bytes = tar.stdout.clone();
    let web = Web::new(move |_| Answer::ok(bytes.clone()));
    let image = adding("", &web.url("/a.tar.gz"), "/x/").build().succeeds();
    image.has_owner("x/a.tar.gz", "0:0", 0o600).has_no("x/inner");
    adding("--unpack=true", &web.url("/a.tar.gz"), "/x/").build().succeeds().has_file("x/inner", "text");
}

#[test]
fn an_unchanged_file_costs_one_question() {
    for (name, value, condition) in
        [("ETag", "\"one\"", "if-none-match"), ("Last-Modified", MODIFIED, "if-modified-since")]
    {
        let changed = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&changed);
        let web = Web::new(move |asked| match (now.load(Ordering::Relaxed), asked.header(condition)) {
            (false, Some(known)) if known == value => Answer::status(304),
            (false, _) => Answer::ok("one").header(name, value),
            (true, _) => Answer::ok("two").header(name, "\"two\""),
        });
        let project = adding("", &web.url("/a"), "/a");
        project.build().cached(0).succeeds();
        project.build().cached(1).succeeds().has_file("a", "one");
        assert_eq!(web.log().len(), 2, "{:?}", web.log());
        assert_eq!(web.log()[1].header(condition), Some(value));
        changed.store(true, Ordering::Relaxed);
        project.build().cached(0).succeeds().has_file("a", "two");
    }
}

#[test]
fn two_steps_that_want_the_same_file_ask_once() {
    let web = Web::new(|_| Answer::ok("hello"));
    let url = web.url("/a");
    let project = Project::of(&User::new())
        .dockerfile(&format!("FROM scratch AS one\nADD {url} /x\nFROM scratch\nADD {url} /y\nCOPY --from=one /x /x\n"));
    project.build().succeeds().has_file("x", "hello").has_file("y", "hello");
    assert_eq!(web.log().len(), 1);
}

#[test]
fn the_time_of_a_file_is_no_part_of_the_key() {
    let web = Web::new(|asked| {
        let day = 1 + asked.before;
        Answer::ok("same").header("Last-Modified", &format!("Thu, 0{day} Jan 2015 00:00:00 GMT"))
    });
    let project = adding("", &web.url("/a"), "/a");
    project.build().cached(0).succeeds();
    project.build().cached(1).succeeds();
}

#[test]
fn a_checksum_that_fits_saves_the_question_and_one_that_does_not_is_an_error_with_both() {
    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let web = Web::new(|_| Answer::ok("hello"));
    let good = adding(&format!("--checksum={HELLO}"), &web.url("/a"), "/a");
    good.build().succeeds();
    good.clone().arg("--no-cache").build().succeeds().has_file("a", "hello");
    assert_eq!(web.log().len(), 1);
    let other = HELLO.replace("2cf2", "2cf3");
    let bad = adding(&format!("--checksum={other}"), &web.url("/a"), "/a");
    bad.build().fails(3).stderr_has(HELLO).stderr_has(&other).stderr_has("--> Dockerfile:2");
    bad.build().fails(3);
}

#[test]
fn redirects_are_followed_to_an_end() {
    let web = Web::new(|asked| match asked.path.as_str() {
        "/a" => Answer::redirect("/b/../c"),
        "/c" => Answer::redirect("d?x=1"),
        "/d?x=1" => Answer::ok("there"),
        _ => Answer::redirect("/loop"),
    });
    adding("", &web.url("/a"), "/x/").build().succeeds().has_file("x/a", "there");
    adding("", &web.url("/loop"), "/x/").build().fails(4).stderr_has("redirects");
}

#[test]
fn a_token_goes_to_its_host_and_nowhere_else() {
    let other = Web::new(|_| Answer::ok("moved"));
    let to = other.url("/moved");
    let web = Web::new(move |asked| match asked.header("authorization") {
        Some("Bearer s3cret-token-of-the-test") if asked.path == "/moved" => Answer::redirect(&to),
        Some("Bearer s3cret-token-of-the-test") => Answer::ok("for you"),
        _ => Answer::status(401),
    });
    let token = |project: Project| {
        let file = project.user().new_dir().join("token");
        std::fs::write(&file, "s3cret-token-of-the-test\n").expect("a file");
        project.arg(&format!("--secret=id=HTTP_AUTH_TOKEN_{},src={}", web.host(), file.display()))
    };
    adding("", &web.url("/a"), "/a").build().fails(4).stderr_has("401");
    let built = token(adding("", &web.url("/a"), "/a")).build().stderr_has_no("s3cret");
    built.succeeds().has_file("a", "for you");
    token(adding("", &web.url("/moved"), "/a")).build().succeeds().has_file("a", "moved");
    assert_eq!(other.log().len(), 1);
    assert_eq!(other.log()[0].header("authorization"), None);
    let own = web.url("/a").replace("http://", "http://ann:hidden@");
    // The Dockerfile is shown as it is, and nothing else tells the password.
    let said = adding("", &own, "/a").build().fails(4).stderr_has("***").stderr.clone();
    assert_eq!(said.lines().filter(|line| line.contains("hidden")).count(), 1, "{said}");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_an_error_that_names_it() {
    let web = Web::new(|asked| match (asked.path.as_str(), asked.before) {
        ("/500", 0) => Answer::status(500),
        ("/cut", 0) => Answer::ok("all of it").cut(3),
        ("/500" | "/cut", _) => Answer::ok("all of it"),
        ("/huge", _) => Answer::ok("x").length(1 << 50),
        _ => Answer::status(404),
    });
    adding("", &web.url("/500"), "/a").build().succeeds().has_file("a", "all of it");
    adding("", &web.url("/cut"), "/a").build().succeeds().has_file("a", "all of it");
    adding("", &web.url("/missing"), "/a").build().fails(4).stderr_has("/missing").stderr_has("404");
    adding("", &web.url("/huge"), "/a").build().fails(4).stderr_has("has more than");
    let nobody = format!("http://127.0.0.1:1/{}", "a");
    adding("", &nobody, "/a").build().fails(4).stderr_has("127.0.0.1:1");
}

#[test]
fn a_context_and_a_dockerfile_can_be_behind_a_url() {
    let user = User::new();
    let project = Project::of(&user).file("a", "text").dockerfile("FROM scratch\nCOPY . /c/\n");
    let tar = Command::new("tar").args(["--create", "--gzip", "."]).current_dir(project.dir()).output().expect("tar");
    let bytes = tar.stdout;
    let web = Web::new(move |asked| match asked.path.as_str() {
        "/context.tar.gz" => Answer::ok(bytes.clone()),
        "/Dockerfile" => Answer::ok("FROM scratch\nCOPY a /other\n"),
        "/alone" => Answer::ok("FROM scratch\nLABEL a=b\n"),
        "/image" => Answer::ok(b"\x89PNG\xff".to_vec()),
        _ => Answer::status(404),
    });
    let build = |context: &str, args: &[&str]| {
        let call = user.coracle(["build", "--progress", "plain", "--timestamp", "0", "-t", "web"]);
        args.iter().fold(call, |call, arg| call.arg(arg)).arg(context).run()
    };
    let folder = build(project.dir().to_str().expect("UTF-8"), &[]).succeeds().stdout;
    assert_eq!(build(&web.url("/context.tar.gz"), &[]).succeeds().stdout, folder);
    build(&web.url("/alone"), &[]).succeeds();
    for context in [project.dir().to_str().expect("UTF-8"), &web.url("/context.tar.gz")] {
        build(context, &["-f", &web.url("/Dockerfile")]).succeeds();
        Image::named(&user.layout(), "web:latest", Some(user.clone())).has_file("other", "text");
    }
    build(&web.url("/image"), &[]).fails(3).stderr_has("no Dockerfile either");
    build(&web.url("/nothing"), &[]).fails(4).stderr_has("404");
}

#[test]
fn one_budget_of_retries_is_for_asking_and_for_reading() {
    let web = Web::new(|asked| match asked.before % 3 {
        2 => Answer::ok("hello").cut(2),
        _ => Answer::status(503),
    });
    let project = adding("", &web.url("/a"), "/x").arg("--retry=3").arg("--retry-delay=10ms");
    project.build().fails(4);
    assert_eq!(web.log().len(), 4);
}
