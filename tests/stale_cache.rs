//! The stale-cache table: what must miss when it changes, and what must hit whatever happens to it. A wrong hit is a wrong
//! image; a wrong miss is minutes of somebody's life.

mod support;

use support::{Project, User};

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
    let rows: &[Row] =
        &[("COPY --from", "FROM busybox AS a\nRUN echo 1 >/f\nFROM busybox\nCOPY --from=a /f /f", |p| {
            rewritten(p, "FROM busybox AS a\nRUN echo 2 >/f\nFROM busybox\nCOPY --from=a /f /f")
        })];
    check(rows, true);
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
fn keys(project: &Project, environment: &[(&str, &str)]) -> Vec<String> {
    let mut call = project.user().coracle(["build", "--plan=json"]);
    for (name, value) in environment {
        call = call.env(name, value);
    }
    let outcome = call.arg(project.dir()).run().succeeds();
    let document: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("a plan");
    let stages = document["stages"].as_array().expect("stages").iter();
    stages
        .flat_map(|stage| stage["steps"].as_array().expect("steps"))
        .filter_map(|step| step["key"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn another_user_folder_clone_host_name_or_time_zone_has_the_same_keys() {
    const DOCKERFILE: &str = "FROM busybox\nCOPY dir /d";
    let first = project(&User::with_busybox(), DOCKERFILE);
    let want = keys(&first, &[]);
    assert_eq!(want.len(), 1);
    // A clone has other times, and lies elsewhere.
    assert_eq!(keys(&project(first.user(), DOCKERFILE).touch("dir/a").touch("dir/b"), &[]), want);
    assert_eq!(keys(&project(&User::with_busybox(), DOCKERFILE), &[]), want);
    assert_eq!(keys(&first, &[("HOSTNAME", "other"), ("TZ", "Asia/Tokyo"), ("LANG", "C"), ("USER", "x")]), want);
}
