//! The stale-cache table: what must miss when it changes, and what must hit whatever happens to it. A wrong hit is a wrong
//! image; a wrong miss is minutes of somebody's life.

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use support::environment::{Environment, Visit, can_be_made};
use support::registry::Registry;
use support::web::{Answer, Web};
use support::{Project, User, set_mode};

/// The last step of every row: it writes something else each time that it is run.
const LAST: &str = "RUN cat /proc/sys/kernel/random/uuid >/id\n";

/// A row: what changes, the Dockerfile (without its last step), and the change.
type Row = (&'static str, &'static str, fn(Project) -> Project);

fn project(user: &User, dockerfile: &str) -> Project {
    let project = Project::of(user).file("dir/a", "a").file("dir/b", "b").file("dir/sub/c", "c").link("dir/link", "a");
    project.file("Dockerfile", format!("{dockerfile}\n{LAST}"))
}

fn rewritten(project: Project, dockerfile: &str) -> Project {
    project.file("Dockerfile", format!("{dockerfile}\n{LAST}"))
}

/// Builds, changes, builds again: whether the last step ran again.
fn runs_again(user: &User, (what, dockerfile, change): &Row) -> bool {
    let before = project(user, dockerfile).named(&format!("row:{}", what.replace([' ', '-', ','], "_").to_lowercase()));
    let first = before.build().succeeds().text("id");
    let second = change(before).build().succeeds().text("id");
    first != second
}

fn check(rows: &[Row], misses: bool) {
    // A store for each row: what one has made must not help another.
    let wrong: Vec<&str> =
        rows.iter().filter(|row| runs_again(&User::with_busybox(), row) != misses).map(|row| row.0).collect();
    let word = if misses { "miss" } else { "hit" };
    assert!(wrong.is_empty(), "these must {word}: {wrong:?}");
}

#[test]
fn a_change_of_a_file_misses() {
    let rows: &[Row] = &[
        ("the bytes of a file", "FROM busybox\nCOPY dir /d", |p| p.file("dir/a", "x")),
        ("a new file", "FROM busybox\nCOPY dir /d", |p| p.file("dir/new", "x")),
        ("a file less", "FROM busybox\nCOPY dir /d", |p| p.without("dir/b")),
        ("another name", "FROM busybox\nCOPY dir /d", |p| p.without("dir/b").file("dir/z", "b")),
        ("a mode", "FROM busybox\nCOPY dir /d", |p| p.mode("dir/a", 0o755)),
        ("where a link leads", "FROM busybox\nCOPY dir /d", |p| p.without("dir/link").link("dir/link", "b")),
        ("a link in place of a file", "FROM busybox\nCOPY dir /d", |p| p.without("dir/b").link("dir/b", "a")),
        ("an empty folder", "FROM busybox\nCOPY dir /d", |p| p.folder("dir/empty")),
        ("an ignore file", "FROM busybox\nCOPY dir /d", |p| p.file(".dockerignore", "dir/b\n")),
        ("what a glob matches", "FROM busybox\nCOPY dir/* /d/", |p| p.file("dir/new", "x")),
    ];
    check(rows, true);
}

#[test]
fn a_change_of_the_dockerfile_misses() {
    let rows: &[Row] = &[
        ("a destination", "FROM busybox\nCOPY dir /d", |p| rewritten(p, "FROM busybox\nCOPY dir /e")),
        ("a source", "FROM busybox\nCOPY dir/a /d", |p| rewritten(p, "FROM busybox\nCOPY dir/b /d")),
        ("chown", "FROM busybox\nCOPY dir /d", |p| rewritten(p, "FROM busybox\nCOPY --chown=1:2 dir /d")),
        ("chmod", "FROM busybox\nCOPY dir /d", |p| rewritten(p, "FROM busybox\nCOPY --chmod=700 dir /d")),
        ("exclude", "FROM busybox\nCOPY dir /d", |p| rewritten(p, "FROM busybox\nCOPY --exclude=b dir /d")),
        ("a here-document", "FROM busybox\nCOPY <<EOF /h\none\nEOF", |p| {
            rewritten(p, "FROM busybox\nCOPY <<EOF /h\ntwo\nEOF")
        }),
        ("the body of a RUN", "FROM busybox\nRUN <<EOF\necho 1 >/h\nEOF", |p| {
            rewritten(p, "FROM busybox\nRUN <<EOF\necho 2 >/h\nEOF")
        }),
        ("ENV", "FROM busybox\nENV A=1", |p| rewritten(p, "FROM busybox\nENV A=2")),
        ("an ARG by its default", "FROM busybox\nARG A=1", |p| rewritten(p, "FROM busybox\nARG A=2")),
        ("a build argument", "FROM busybox\nARG A=1", |p| p.arg("--build-arg=A=2")),
        ("a variable in a source", "FROM busybox\nARG A=a\nCOPY dir/$A /d", |p| p.arg("--build-arg=A=b")),
        ("the user", "FROM busybox\nRUN chmod 777 /\n", |p| rewritten(p, "FROM busybox\nRUN chmod 777 /\nUSER 7")),
        ("the working directory", "FROM busybox\nWORKDIR /a", |p| rewritten(p, "FROM busybox\nWORKDIR /b")),
        ("the shell", "FROM busybox", |p| rewritten(p, "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]")),
        ("a step above", "FROM busybox\nRUN echo 1 >/1", |p| rewritten(p, "FROM busybox\nRUN echo 2 >/1")),
        ("the name of the host in a step", "FROM busybox", |p| p.arg("--build-arg=BUILDKIT_SANDBOX_HOSTNAME=other")),
        ("a name for an address", "FROM busybox", |p| p.arg("--add-host=db:192.0.2.7")),
        ("a proxy that is declared", "FROM busybox\nARG http_proxy=a", |p| p.arg("--build-arg=http_proxy=b")),
    ];
    check(rows, true);
}

#[test]
fn a_change_of_what_a_step_mounts_misses() {
    let bind = "FROM busybox\nRUN --mount=type=bind,source=dir,target=/m cat /m/a >/x";
    let rows: &[Row] = &[
        ("a file that is mounted", bind, |p| p.file("dir/a", "other")),
        ("where it is mounted", bind, |p| {
            // With the same file in the same second it would be the same layer, and the step upon it a hit.
            rewritten(p, "FROM busybox\nRUN --mount=type=bind,source=dir,target=/n cat /n/a >/x; date +%N >/y")
        }),
        ("a cache mount", "FROM busybox\nRUN --mount=type=cache,target=/c true >/x", |p| {
            rewritten(p, "FROM busybox\nRUN --mount=type=cache,target=/c,id=other true >/x; date >/y")
        }),
        ("the network", "FROM busybox\nRUN date >/x", |p| {
            rewritten(p, "FROM busybox\nRUN --network=none date >/x; date +%N >/y")
        }),
    ];
    check(rows, true);
}

#[test]
fn a_change_of_another_stage_or_image_misses() {
    let rows: &[Row] = &[
        ("COPY --from", "FROM busybox AS a\nRUN echo 1 >/f\nFROM busybox\nCOPY --from=a /f /f", |p| {
            rewritten(p, "FROM busybox AS a\nRUN echo 2 >/f\nFROM busybox\nCOPY --from=a /f /f")
        }),
        (
            "a stage that is mounted",
            "FROM busybox AS a\nRUN echo 1 >/f\nFROM busybox\nRUN --mount=from=a,target=/a cat /a/f >/f",
            |p| {
                rewritten(
                    p,
                    "FROM busybox AS a\nRUN echo 2 >/f\nFROM busybox\nRUN --mount=from=a,target=/a cat /a/f >/f",
                )
            },
        ),
    ];
    check(rows, true);
}

/// The tag of a base image moves: to one with other files, and to one that differs in its configuration alone.
#[test]
fn a_base_image_with_other_layers_misses_and_one_with_the_same_hits() {
    let user = User::with_busybox();
    let made = |lines: &str| {
        Project::of(&user).dockerfile(&format!("FROM busybox\n{lines}")).named("base:1").build().succeeds();
    };
    let project = Project::of(&user).file("Dockerfile", format!("FROM base:1\nCOPY dir /d\n{LAST}")).file("dir/a", "a");
    let id = || project.build().succeeds().text("id");
    made("RUN echo 1 >/f");
    let first = id();
    made("RUN echo 1 >/f\nLABEL a=b");
    assert_eq!(id(), first);
    made("RUN echo 1 >/f\nENV A=B");
    let with_variable = id();
    assert_ne!(with_variable, first, "RUN has another environment");
    made("RUN echo 2 >/f");
    assert!(![first, with_variable].contains(&id()));
}

#[test]
fn what_comes_from_a_url_counts_by_its_bytes() {
    let body = Arc::new(Mutex::new((String::from("one"), 0)));
    let served = Arc::clone(&body);
    let web = Web::new(move |_| {
        let (body, version) = &*served.lock().unwrap();
        Answer::ok(body.as_str())
            .header("ETag", &format!("\"{version}\""))
            .header("Last-Modified", &format!("Wed, 0{} Jan 2025 00:00:00 GMT", 1 + version))
    });
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile(&format!("FROM busybox\nADD {} /f\n{LAST}", web.url("/file")));
    let id = || project.build().succeeds().text("id");
    let first = id();
    assert_eq!(id(), first, "nothing changed");
    *body.lock().unwrap() = ("one".into(), 1);
    assert_eq!(id(), first, "the same bytes, with another time and tag");
    *body.lock().unwrap() = ("two".into(), 2);
    let second = id();
    assert_ne!(second, first, "other bytes");
    *body.lock().unwrap() = ("one".into(), 3);
    assert_eq!(id(), first, "the bytes of before");
}

#[test]
fn another_platform_misses_where_the_base_or_an_argument_differs() {
    let registry = Registry::new();
    let platforms = ["linux/amd64", "linux/arm64"];
    registry.index(
        "base",
        "1",
        &platforms.map(|name| registry.image("base", name.split_once('/').unwrap().1, name, name.as_bytes())),
    );
    let user = User::new();
    let keys_of = |lines: &str, platform: &str| {
        let project = Project::of(&user).file("f", "f").arg("--tls-verify=false");
        let dockerfile = format!("FROM {}\n{lines}", registry.name("base:1"));
        let project = project.dockerfile(&dockerfile).arg(&format!("--platform={platform}"));
        project.call().run().succeeds();
        keys(&project, &[], &["--tls-verify=false", &format!("--platform={platform}")])
    };
    let [amd64, arm64] = platforms.map(|platform| keys_of("COPY f /f", platform));
    assert_eq!((amd64.len(), arm64.len()), (1, 1));
    assert_ne!(amd64, arm64);
    // On nothing at all, what is copied is the same for all platforms, unless it says the platform.
    let on_nothing = |lines: &str, platform: &str| {
        let project = Project::of(&user).file("f", "f").dockerfile(&format!("FROM scratch\n{lines}"));
        keys(&project, &[], &[&format!("--platform={platform}")])
    };
    let [amd64, arm64] = platforms.map(|platform| on_nothing("COPY f /f", platform));
    assert_eq!(amd64, arm64);
    let [amd64, arm64] = platforms.map(|platform| on_nothing("ARG TARGETARCH\nCOPY f /$TARGETARCH/", platform));
    assert_ne!(amd64, arm64);
    let [amd64, arm64] = platforms.map(|platform| on_nothing("ARG TARGETARCH\nRUN true", platform));
    assert_ne!(amd64, arm64);
    assert_eq!((amd64.len(), arm64.len()), (1, 1));
}

#[test]
fn what_must_hit_whatever_happens() {
    let rows: &[Row] = &[
        ("the time of a file", "FROM busybox\nCOPY dir /d", |p| p.touch("dir/a")),
        ("a file that is not copied", "FROM busybox\nCOPY dir /d", |p| p.file("other", "x")),
        ("a file that is left out", "FROM busybox\nCOPY --exclude=b dir /d", |p| p.file("dir/b", "x")),
        ("the same bytes anew", "FROM busybox\nCOPY dir /d", |p| p.without("dir/a").file("dir/a", "a")),
        ("another name for the image", "FROM busybox\nCOPY dir /d", |p| p.named("other:2")),
        ("a proxy", "FROM busybox\nCOPY dir /d", |p| p.arg("--build-arg=http_proxy=http://proxy:3128")),
        ("a label from outside", "FROM busybox", |p| p.arg("--label=a=b")),
        ("a limit", "FROM busybox", |p| p.arg("--pids-limit=500")),
        ("a comment", "FROM busybox\nRUN true", |p| rewritten(p, "# why\nFROM busybox\n# what\nRUN true")),
        ("configuration above", "FROM busybox\nCOPY dir /d", |p| rewritten(p, "FROM busybox\nEXPOSE 80\nCOPY dir /d")),
        ("the name of a stage", "FROM busybox AS a\nCOPY dir /d", |p| rewritten(p, "FROM busybox AS b\nCOPY dir /d")),
        ("a stage that is not needed", "FROM busybox", |p| {
            rewritten(p, "FROM busybox AS unused\nRUN false\nFROM busybox")
        }),
        ("what a cache mount holds", "FROM busybox\nRUN --mount=type=cache,target=/c echo x >/c/x", |p| p),
        (
            "a stage with the same result",
            "FROM busybox AS a\nRUN echo 1 >/f; touch -d @0 /f\nFROM busybox\nCOPY --from=a /f /f",
            |p| rewritten(p, "FROM busybox AS a\nRUN echo 1 >/f && touch -d @0 /f\nFROM busybox\nCOPY --from=a /f /f"),
        ),
    ];
    check(rows, false);
}

/// Returns the keys that a plan knows, and how many steps it does not know.
fn keys(project: &Project, environment: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let mut call = project.user().coracle(["build", "--plan=json"]);
    for flag in flags {
        call = call.arg(flag);
    }
    for (name, value) in environment {
        call = call.env(name, value);
    }
    let outcome = call.arg(project.dir()).run().succeeds();
    keys_in(&outcome.stdout)
}

fn keys_in(plan: &str) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(plan).expect("a plan");
    let stages = document["stages"].as_array().expect("stages").iter();
    stages
        .flat_map(|stage| stage["steps"].as_array().expect("steps"))
        .filter_map(|step| step["key"].as_str().map(str::to_owned))
        .collect()
}

/// The key of `FROM scratch`, `COPY dir /d` with the files of [`project`]: on every machine, for every user, at any time. A change
/// voids all caches.
const EVERYWHERE: &str = "a3ba9620b33a399a14c019e43e350c8ade0d9a9f889b07a7f9ccc7f2933133ca";

#[test]
fn another_user_folder_clone_host_name_clock_umask_or_locale_has_the_same_keys() {
    const DOCKERFILE: &str = "FROM scratch\nCOPY dir /d";
    let user = User::new();
    let first = project(&user, DOCKERFILE);
    let plain = |project: &Project| keys(project, &[], &[])[0].clone();
    assert_eq!(plain(&first), EVERYWHERE);
    // A clone has other times, and lies elsewhere; another user has another store, and here another map of ids.
    assert_eq!(plain(&project(&user, DOCKERFILE).touch("dir/a").touch("dir/b")), EVERYWHERE);
    assert_eq!(plain(&project(&User::new(), DOCKERFILE)), EVERYWHERE);
    assert_eq!(plain(&project(&User::without_subids(), DOCKERFILE)), EVERYWHERE);
    let environment = [
        ("HOSTNAME", "other"),
        ("TZ", "Asia/Tokyo"),
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("USER", "x"),
    ];
    assert_eq!(keys(&first, &environment, &[])[0], EVERYWHERE);
    assert_eq!(keys(&first, &[("SOURCE_DATE_EPOCH", "1000000000")], &[])[0], EVERYWHERE);
    let program = env!("CARGO_BIN_EXE_coracle");
    for line in ["umask 077", "umask 000", "ulimit -n 256", "cd /"] {
        let line = format!("{line}; {program} build --plan=json {}", first.dir().display());
        let outcome = user.tool("sh -c").arg(line).run().succeeds();
        assert_eq!(keys_in(&outcome.stdout)[0], EVERYWHERE);
    }
}

/// A clone that was made with another umask has other bits for the group and for others: these are the modes of the files.
#[test]
fn a_clone_with_another_umask_has_other_modes_and_misses_unless_chmod_says_them() {
    let rows: &[Row] = &[("a clone by another umask", "FROM busybox\nCOPY dir /d", |p| p.mode("dir/a", 0o664))];
    check(rows, true);
    let rows: &[Row] = &[("a clone by another umask, and --chmod", "FROM busybox\nCOPY --chmod=644 dir/a /d", |p| {
        p.mode("dir/a", 0o664)
    })];
    check(rows, false);
}

/// Other machines: with other users, host names, limits and ways to run a step. What one has built is a hit in all others, also where
/// the step could not be run.
#[test]
fn another_host_hits() {
    if !can_be_made() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    let out = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    fs::create_dir(context.path().join("dir")).unwrap();
    fs::write(context.path().join("dir/a"), "a").unwrap();
    fs::write(context.path().join("Dockerfile"), format!("FROM busybox\nCOPY dir /d\n{LAST}")).unwrap();
    for (path, mode) in [("", 0o755), ("dir", 0o755), ("dir/a", 0o644)] {
        set_mode(&context.path().join(path), mode);
    }
    set_mode(out.path(), 0o777);
    let visit = |cache: &str, name: &str| {
        let build = format!("coracle build --progress plain {cache} /context");
        let visit = Visit::with_busybox(context.path()).call("pull", "coracle pull oci:/base");
        let visit = Visit { out: Some(out.path()), ..visit.call("build", &build) };
        // What came from a cache elsewhere counts for those who name it.
        let visit = visit.call("plan", &format!("coracle build --plan=json {cache} /context"));
        let mut found = Environment::named(name).visit(&visit);
        assert_eq!((found["build"].status, found["plan"].status), (0, 0), "{name}: {}", found["build"]);
        (found.remove("build").expect("a call"), keys_in(&found["plan"].stdout))
    };
    let (first, keys) = visit("--cache-to type=local,dest=/out/cache", "host-subuid");
    assert_eq!(keys.len(), 2);
    for name in ["host-nosubuid", "docker-default", "k8s-restricted", "k8s-nonroot-unconfined", "airgap"] {
        let (built, there) = visit("--cache-from type=local,src=/out/cache", name);
        assert_eq!(built.stderr.matches("CACHED").count(), 2, "{name}: {built}");
        assert_eq!(built.digest(), first.digest(), "{name}");
        assert_eq!(there, keys, "{name}");
    }
}
