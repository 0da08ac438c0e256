//! Files, folders and devices of the host in RUN steps, and what the cache makes of them.

mod support;

use std::fs;
use std::path::Path;

use support::environment::{Environment, Visit, can_be_made};
use support::{Project, User, base, set_mode};

fn seen() -> (Project, std::path::PathBuf) {
    let project = Project::new().dockerfile("FROM busybox\nRUN cat /in/f >/seen");
    let dir = project.user().new_dir().join("in");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "1").unwrap();
    // No ignore file counts.
    fs::write(dir.join(".dockerignore"), "*").unwrap();
    set_mode(&dir, 0o777);
    (project, dir)
}

fn volume(dir: &Path, rest: &str) -> String {
    format!("--volume={}:{rest}", dir.display())
}

#[test]
fn what_is_only_read_counts_for_the_cache() {
    let (project, dir) = seen();
    let with = |rest: &str| project.clone().arg(&volume(&dir, rest));
    let image = with("/in:ro").build().succeeds();
    image.has_file("seen", "1").has_no("in");
    with("/in:ro").build().cached(1).succeeds();
    fs::write(dir.join("f"), "2").unwrap();
    with("/in:ro").build().cached(0).succeeds().has_file("seen", "2");
    // A file alone, and only that counts.
    let file = || project.clone().arg(&volume(&dir.join("f"), "/in/f:ro,Z"));
    file().build().cached(0).succeeds().has_file("seen", "2");
    fs::write(dir.join("other"), "x").unwrap();
    file().build().cached(1).succeeds();
    with("/in:ro").arg("--plan").call().run().succeeds().stdout_has("1 miss");
    project.build().fails(1);
}

#[test]
fn what_is_written_over_a_folder_is_dropped_and_what_is_written_to_it_stays() {
    let (project, dir) = seen();
    let project = project.dockerfile("FROM busybox\nRUN cat /in/f >/seen && echo new >/in/f && echo x >/in/made");
    project.clone().arg(&volume(&dir, "/in:ro")).build().fails(1);
    project.clone().arg(&volume(&dir, "/in:O")).build().succeeds().has_file("seen", "1");
    assert!(fs::read_to_string(dir.join("f")).unwrap() == "1" && !dir.join("made").exists());
    project.clone().arg(&volume(&dir, "/in:O")).build().cached(1).succeeds();
    fs::remove_file(dir.join("f")).unwrap();
    fs::write(dir.join("f"), "1").unwrap();
    set_mode(&dir.join("f"), 0o666);
    // What may change at any time is never in the cache, and those without it do not find its results.
    for text in ["1", "new\n"] {
        project.clone().arg(&volume(&dir, "/in")).build().cached(0).succeeds().has_file("seen", text);
    }
    assert_eq!(fs::read_to_string(dir.join("made")).unwrap(), "x\n");
    project.build().fails(1);
}

#[test]
fn volumes_are_seen_with_one_id_too() {
    let user = User::without_subids();
    user.pull(&base::busybox());
    let project = Project::of(&user).dockerfile("FROM busybox\nRUN cat /in/f >/seen && echo x >/out/made");
    let (input, out) = (user.new_dir(), user.new_dir());
    fs::write(input.join("f"), "1").unwrap();
    let project = project.arg(&volume(&input, "/in:ro")).arg(&volume(&out, "/out"));
    project.build().succeeds().has_file("seen", "1").has_no("out");
    assert_eq!(fs::read_to_string(out.join("made")).unwrap(), "x\n");
}

#[test]
fn what_is_not_there_or_cannot_be_is_said_before_anything_is_done() {
    let project = Project::new().dockerfile("FROM busybox\nRUN true");
    let build = |flag: &str| project.clone().arg(flag).build();
    build("--volume=/no/such/folder:/in").fails_cleanly().stderr_has("/no/such/folder");
    build("--volume=name:/in").fails(2).stderr_has("./name");
    build("--volume=/tmp:/in:U").fails(2).stderr_has("ro, rw or O");
    build("--volume=/tmp:/").fails(2);
    build("--device=/dev/no-such").fails_cleanly().stderr_has("/dev/no-such");
    build("--device=/dev/pts").fails_cleanly().stderr_has("no device");
    build("--device=vendor.example/d=1").fails(2);
}

#[test]
fn a_device_is_seen_under_its_name_or_another() {
    let project =
        Project::new().dockerfile("FROM busybox\nRUN test -c /dev/mine && head -c 3 /dev/mine | wc -c >/seen");
    let image = project.clone().arg("--device=/dev/zero:/dev/mine").build().succeeds();
    image.has_file("seen", "3\n").has_no("dev/mine");
    project.clone().arg("--device=/dev/zero:/dev/mine").build().cached(0).succeeds();
    project.build().fails(1);
}

#[test]
fn proxies_of_here_are_handed_on_where_that_is_wanted_and_are_in_no_key() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo \"$http_proxy $HTTP_PROXY $no_proxy\" >/seen");
    let build = |flag: &str, proxy: &str| {
        let project = project.clone().arg(flag);
        project.built(project.call().env("HTTP_PROXY", proxy).env("no_proxy", "a").run())
    };
    build("--http-proxy=false", "http://127.0.0.1:9").succeeds().has_file("seen", "  \n");
    let with = build("--no-cache", "http://127.0.0.1:9");
    with.succeeds().has_file("seen", "  \n");
    let project = project.clone().arg("--no-cache").arg("--build-arg=no_proxy=b");
    let outcome =
        project.clone().arg("--http-proxy").call().env("HTTP_PROXY", "http://127.0.0.1:9").env("no_proxy", "a");
    let image = project.built(outcome.run()).succeeds();
    image.has_file("seen", "http://127.0.0.1:9 http://127.0.0.1:9 b\n");
    assert!(image.env("HTTP_PROXY").is_none() && !image.last_step().contains("127.0.0.1"));
}

/// Without namespaces nothing can be mounted: what is only read is copied, all else is refused before anything is done.
#[test]
fn a_chroot_has_copies_of_what_is_only_read_and_nothing_else() {
    if !can_be_made() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("coracle-test-").tempdir_in("/var/tmp").unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM busybox\nRUN cat /v/f >/seen\nRUN cp /seen /again\n").unwrap();
    fs::write(dir.path().join("f"), "1").unwrap();
    set_mode(dir.path(), 0o755);
    let build = |flags: &str| format!("coracle build --progress plain {flags} /context");
    let visit = Visit::with_busybox(dir.path()).call("pull", "coracle pull oci:/base");
    let visit = visit.call("read", &build("--volume /context:/v:ro"));
    let visit = visit.call("write", &build("--volume /context:/v")).call("device", &build("--device /dev/null:/dev/x"));
    let found = Environment::named("docker-default").visit(&visit);
    assert_eq!(found["read"].status, 0, "{}", found["read"]);
    for refused in ["write", "device"] {
        let call = &found[refused];
        assert!(call.status == 6 && call.stderr.contains("no volume for a container in a chroot"), "{call}");
        assert!(!call.stderr.contains("#1 "), "{call}");
    }
}
