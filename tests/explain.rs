//! `build --explain`: for each step that is not in the cache, what changed against the nearest earlier result.

mod support;

use std::fs;

use support::{Outcome, Project};

const DOCKERFILE: &str = "
    FROM busybox
    ARG V=1
    COPY dir /d
    RUN echo $V >/v
    RUN true
";

fn project() -> Project {
    Project::new().file("dir/a", "a").file("dir/b", "b").dockerfile(DOCKERFILE).arg("--explain")
}

/// Builds, changes, builds again: what the second build says.
fn changed(before: Project, change: impl Fn(Project) -> Project) -> Outcome {
    before.build().succeeds();
    change(before).call().run().succeeds()
}

#[test]
fn a_first_build_knows_nothing_earlier_and_a_cached_one_says_nothing() {
    let project = project();
    let first = project.call().run().succeeds();
    assert_eq!(first.count("MISS nothing is known of an earlier result of this step"), 3, "{first}");
    let second = project.call().run().succeeds();
    assert_eq!(second.count("MISS"), 0, "{second}");
}

#[test]
fn a_changed_an_added_and_a_removed_file_are_named() {
    let change = |project: Project| project.file("dir/a", "x").without("dir/b").file("dir/c", "c");
    changed(project(), change)
        .stderr_has("#2 MISS file changed: dir/a\n")
        .stderr_has("#2 MISS file added: dir/c\n")
        .stderr_has("#2 MISS file removed: dir/b\n")
        .stderr_has("#3 MISS the step above it has another result: COPY dir /d\n");
}

#[test]
fn a_mode_is_a_change_of_its_file() {
    changed(project(), |project| project.mode("dir/a", 0o755)).stderr_has("#2 MISS file changed: dir/a\n");
}

#[test]
fn an_argument_is_named_and_its_value_is_nowhere() {
    let project = project();
    project.build().succeeds();
    let second = project.clone().arg("--build-arg=V=hunter2").call().run().succeeds();
    let second = second.stderr_has("#3 MISS variable changed: V\n").stderr_has_no("#2 MISS");
    assert_eq!(second.count("hunter2"), 0, "{second}");
    let why = project.user().store().join("cache/why");
    let records: Vec<String> = fs::read_dir(&why)
        .unwrap()
        .flatten()
        .flat_map(|place| fs::read_to_string(place.path()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(records.len() >= 4 && records.iter().all(|record| !record.contains("hunter2")), "{records:?}");
}

#[test]
fn a_command_a_user_and_a_working_directory_are_told_apart() {
    let with = |text: &str| Project::new().arg("--explain").dockerfile(text);
    let rewritten = |text: &'static str| move |project: Project| project.dockerfile(text);
    changed(with("FROM busybox\nRUN true"), rewritten("FROM busybox\nRUN true 2"))
        .stderr_has("#1 MISS the command changed\n");
    changed(with("FROM busybox\nRUN true"), rewritten("FROM busybox\nUSER 1\nRUN true"))
        .stderr_has("MISS the user changed\n");
    changed(with("FROM busybox\nENV A=1\nRUN true"), rewritten("FROM busybox\nENV A=1 B=2\nRUN true"))
        .stderr_has("MISS variable added: B\n");
}

#[test]
fn a_new_base_image_is_named_with_its_digests() {
    let base = Project::new().named("base:1").dockerfile("FROM busybox\nRUN echo 1 >/1");
    base.build().succeeds();
    let top = Project::of(base.user()).dockerfile("FROM base:1\nRUN true").arg("--explain");
    top.build().succeeds();
    base.dockerfile("FROM busybox\nRUN echo 2 >/1").build().succeeds();
    top.call().run().succeeds().stderr_has("#1 MISS the base image `base:1` is another one: sha256:");
}

#[test]
fn a_stage_that_is_copied_from_has_its_files_named() {
    let text = |content: &str| {
        format!(
            "FROM busybox AS make\nRUN mkdir /o && echo {content} >/o/x && echo y >/o/y\nFROM busybox\nCOPY --from=make /o /o"
        )
    };
    let project = Project::new().dockerfile(&text("1")).arg("--explain");
    changed(project, |project| project.dockerfile(&text("2"))).stderr_has("MISS file changed: o/x\n");
}

#[test]
fn the_nearest_record_counts_not_the_latest() {
    let project = project();
    project.build().succeeds();
    let project = project.file("dir/a", "2").file("dir/b", "2");
    project.build().succeeds();
    // One file away from the first build, two from the second.
    project.file("dir/a", "a").file("dir/b", "3").call().run().succeeds().stderr_has("#2 MISS file changed: dir/b\n");
}

#[test]
fn without_the_cache_that_is_the_reason() {
    changed(project(), |project| project.arg("--no-cache")).stderr_has("#2 MISS the cache is not used: --no-cache\n");
}

#[test]
fn a_prune_takes_the_records_of_steps_that_are_gone() {
    let project = project();
    project.build().succeeds();
    project.user().coracle(["rmi", "test"]).run().succeeds();
    project.user().coracle(["prune", "--all"]).run().succeeds();
    assert_eq!(fs::read_dir(project.user().store().join("cache/why")).unwrap().count(), 0);
}
