//! The cache: what hits, what misses, and that a hit is never stale.

mod support;

use support::Project;

const DOCKERFILE: &str = "
    FROM busybox
    ARG V=1
    COPY dir /d
    RUN cat /proc/sys/kernel/random/uuid >/id
";

fn project() -> Project {
    Project::new().file("dir/a", "a").file("dir/b", "b").dockerfile(DOCKERFILE)
}

/// A change, and what it is called.
type Change = (&'static str, fn(Project) -> Project);

/// Builds, changes, builds again: whether the last step ran again.
fn runs_again(before: Project, change: impl Fn(Project) -> Project) -> bool {
    let first = before.build().succeeds().text("id");
    let second = change(before).build().succeeds().text("id");
    first != second
}

#[test]
fn nothing_changed_is_all_cached_and_the_same_image() {
    let project = project();
    let first = project.build().cached(0).succeeds();
    let second = project.build().cached(2).succeeds();
    assert_eq!(first.digest(), second.digest());
}

// Rule 17: the mutations that must hit.
#[test]
fn these_changes_hit() {
    let hits: [Change; 4] = [
        ("the time of a file", |project| project.touch("dir/a")),
        ("a file that is not copied", |project| project.file("other", "x")),
        ("another name for the image", |project| project.named("other:2")),
        ("the file written anew with the same bytes", |project| project.without("dir/a").file("dir/a", "a")),
    ];
    for (what, change) in hits {
        assert!(!runs_again(project(), change), "{what} must hit");
    }
}

// Rule 17: the mutations that must miss.
#[test]
fn these_changes_miss() {
    let misses: [Change; 8] = [
        ("the bytes of a file", |project| project.file("dir/a", "x")),
        ("a new file", |project| project.file("dir/c", "c")),
        ("a file less", |project| project.without("dir/b")),
        ("another name", |project| project.without("dir/b").file("dir/z", "b")),
        ("a mode", |project| project.mode("dir/a", 0o755)),
        ("a link in place of a file", |project| project.without("dir/b").link("dir/b", "a")),
        ("a build argument", |project| project.arg("--build-arg=V=2")),
        ("an ignored file", |project| project.file(".dockerignore", "dir/b\n")),
    ];
    for (what, change) in misses {
        assert!(runs_again(project(), change), "{what} must miss");
    }
}

#[test]
fn another_folder_with_the_same_files_hits() {
    let first = project();
    first.build().succeeds();
    let second = Project::of(first.user()).file("dir/a", "a").file("dir/b", "b").dockerfile(DOCKERFILE);
    second.build().cached(2).succeeds();
}

#[test]
fn same_size_changes_within_one_tick_of_the_clock_are_seen() {
    for round in 0..10 {
        let project = Project::clone(&project()).file("dir/a", "1");
        project.build().succeeds();
        let text = format!("{round}");
        let image = project.file("dir/a", &text).build().succeeds();
        image.has_file("d/a", &text);
    }
}

#[test]
fn no_cache_runs_all_again() {
    assert!(runs_again(project(), |project| project.arg("--no-cache")));
}

#[test]
fn a_new_base_misses() {
    let base = Project::new().named("base:1").dockerfile("FROM busybox\nENV A=1");
    base.build().succeeds();
    let top = Project::of(base.user()).dockerfile("FROM base:1\nRUN cat /proc/sys/kernel/random/uuid >/id");
    let first = top.build().succeeds().text("id");
    base.dockerfile("FROM busybox\nENV A=2").build().succeeds();
    assert_ne!(first, top.build().succeeds().text("id"));
}

#[test]
fn a_failed_build_keeps_the_steps_that_worked() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo 1 >/one\nRUN exit 1");
    project.build().fails(1);
    project.dockerfile("FROM busybox\nRUN echo 1 >/one\nRUN exit 0").build().cached(1).succeeds();
}

// The layer of a later step is the same whether the step below it came from the cache or not.
#[test]
fn a_cached_stage_gives_the_same_files_to_copy() {
    let dockerfile = |last: &str| {
        format!(
            "FROM busybox AS a\nRUN mkdir /o && echo x >/o/f && chown 3:4 /o/f\nFROM busybox\nCOPY --from=a /o /{last}\n"
        )
    };
    let project = Project::new().file("Dockerfile", dockerfile("one"));
    project.build().succeeds().has_owner("one/f", "3:4", 0o644);
    project.file("Dockerfile", dockerfile("two")).build().cached(1).succeeds().has_owner("two/f", "3:4", 0o644);
}

// A store that lost something makes it anew.
#[test]
fn a_damaged_layer_is_a_miss() {
    let project =
        Project::new().dockerfile("FROM busybox AS a\nRUN echo one >/one\nFROM busybox\nCOPY --from=a /one /two");
    let layers = project.user().store().join("layers");
    for spoil in ["index", "everything"] {
        project.build().succeeds();
        for layer in std::fs::read_dir(&layers).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            match spoil {
                "index" => std::fs::write(layer.path().join("index"), "half").unwrap(),
                _ => std::fs::remove_dir_all(layer.path()).unwrap(),
            }
        }
        project.build().succeeds().has_file("two", "one\n");
    }
}
