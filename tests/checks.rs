//! `build --check`, `--call` and the warnings behind a build.

mod support;

use serde_json::Value;
use support::{Outcome, Project};

/// A Dockerfile with one thing that a check finds, in line 3.
const CASUAL: &str = "FROM busybox\nRUN true\nCMD true\n";

fn call(project: &Project, flag: &str) -> Outcome {
    project.user().coracle(["build", "--progress", "plain", flag]).arg(project.dir()).run()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

#[test]
fn a_check_shows_the_place_names_the_rule_builds_nothing_and_exits_with_1() {
    let project = Project::new().file("Dockerfile", CASUAL);
    let outcome = call(&project, "--check");
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    let outcome = outcome
        .stdout_has("warning[JSONArgsRecommended]: CMD is run by a shell")
        .stdout_has(" --> Dockerfile:3:1\n")
        .stdout_has("3 | CMD true\n")
        .stdout_has("1 finding\n");
    assert_eq!(outcome.stderr, "");
    assert_eq!(call(&project, "--call=check").stdout, outcome.stdout);
    // Nothing was run: the first build misses.
    project.build().cached(0).succeeds();
}

#[test]
fn a_clean_file_exits_with_0() {
    let project = Project::new().dockerfile("FROM busybox\nCMD [\"true\"]");
    call(&project, "--check").succeeds().stdout_has("no check found anything\n");
}

#[test]
fn a_check_needs_no_store_and_no_base_image() {
    let project = Project::new().dockerfile("FROM nobody/has:this AS A\nLABEL x=$y");
    let root = project.user().new_dir().join("none");
    let outcome =
        project.user().coracle(["--root", root.to_str().unwrap(), "build", "--check"]).arg(project.dir()).run();
    let outcome =
        outcome.stdout_has("warning[StageNameCasing]").stdout_has("note: nobody/has:this is not in the store");
    assert!(!outcome.stdout.contains("UndefinedVar") && !root.exists(), "{outcome}");
}

#[test]
fn a_check_as_json_has_the_shape_that_tools_know() {
    let project = Project::new().file("Dockerfile", CASUAL);
    let outcome = call(&project, "--call=check,format=json");
    assert_eq!(outcome.code(), Some(1));
    let found = json(&outcome);
    assert_eq!(found["warnings"][0]["ruleName"], "JSONArgsRecommended");
    assert_eq!(found["warnings"][0]["location"]["ranges"][0]["start"]["line"], 3);
    assert!(found["warnings"][0]["description"].is_string() && found["warnings"][0]["detail"].is_string());
    assert_eq!(found["sources"][0]["filename"], "Dockerfile");
    assert!(found.get("buildError").is_none());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_in_both_forms() {
    let project = Project::new().dockerfile("FROM busybox\nRNU x");
    call(&project, "--check").fails(3).stderr_has("did you mean `RUN`?");
    let outcome = call(&project, "--call=check,format=json");
    assert_eq!(outcome.code(), Some(3));
    let found = json(&outcome);
    assert!(found["buildError"]["message"].as_str().unwrap().contains("RNU"));
    assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn after_a_build_the_findings_are_told_once_behind_all_output() {
    let project = Project::new().dockerfile("FROM busybox\nENV A=$B\nRUN echo over\nCMD true");
    let built = project.build();
    let text = built.stderr.clone();
    assert_eq!(
        built.count("warning: UndefinedVar: the variable `B` is not defined here, so it is empty (Dockerfile:2)"),
        1,
        "{text}"
    );
    assert_eq!(built.count("warning: JSONArgsRecommended"), 1, "{text}");
    assert!(text.find("warning:").unwrap() > text.find(" over").unwrap(), "{text}");
    built.succeeds();
}

#[test]
fn findings_are_told_behind_a_failure_too() {
    let project = Project::new().dockerfile("FROM busybox\nRUN false\nCMD true");
    project.build().fails(1).stderr_has("warning: JSONArgsRecommended");
}

#[test]
fn with_error_a_finding_fails_the_build_before_any_step() {
    let project = Project::new().file("Dockerfile", format!("# check=error=true\n{CASUAL}"));
    let outcome = project.build().fails(1).stderr_has("error: the checks found something: JSONArgsRecommended");
    assert_eq!(outcome.count("RUN true"), 0, "{outcome}");
    let skipped = Project::of(project.user())
        .file("Dockerfile", format!("# check=skip=JSONArgsRecommended;error=true\n{CASUAL}"));
    skipped.build().stderr_has_no("JSONArgsRecommended").succeeds();
}

#[test]
fn the_build_argument_says_what_the_directive_says() {
    let project = Project::new().file("Dockerfile", CASUAL).arg("--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true");
    project.build().fails(1).stderr_has("the checks found something: JSONArgsRecommended");
    let project = project.arg("--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all");
    project.build().stderr_has_no("warning").succeeds();
}

#[test]
fn a_source_that_the_ignore_file_leaves_out_is_a_finding_with_its_line() {
    let project = Project::new()
        .file("kept/a", "a")
        .file("secret/b", "b")
        .file(".dockerignore", "# no\nsecret\n")
        .dockerfile("FROM busybox\nCOPY kept /k\nCOPY secret /s");
    let outcome = call(&project, "--check");
    assert_eq!(outcome.code(), Some(1));
    outcome
        .stdout_has("warning[CopyIgnoredFile]: COPY names `secret`")
        .stdout_has("line 2 of ")
        .stdout_has("1 finding\n");
    // And a build says why the file is not there.
    project.build().fails(1).stderr_has("line 2 of ").stderr_has("leaves it out");
}

#[test]
fn what_an_ignore_file_takes_back_in_is_no_finding() {
    let project = Project::new()
        .file("dir/a", "a")
        .file(".dockerignore", "*\n!dir/a\n")
        .dockerfile("FROM busybox\nCOPY dir *.md dir/a /k/");
    call(&project, "--check").succeeds();
}

#[test]
fn targets_and_the_outline_of_one() {
    let project = Project::new().dockerfile(
        "
        # VERSION which one
        ARG VERSION=1
        # make builds it
        FROM busybox AS make
        ARG VERSION
        RUN --mount=type=secret,id=token,required --mount=type=cache,target=/c true
        FROM make
        ",
    );
    let outcome = call(&project, "--call=targets").succeeds();
    assert_eq!(
        outcome.stdout,
        "TARGET      BASE      DESCRIPTION\nmake        busybox   builds it\n(default)   make\n"
    );
    let outcome = call(&project, "--call=outline").succeeds();
    assert_eq!(
        outcome.stdout,
        "TARGET:      (default)\n\nBUILD ARG   VALUE   DESCRIPTION\nVERSION     1       which one\n\nSECRET   REQUIRED\ntoken    true\n\nCACHE\n/c\n"
    );
    let found = json(&call(&project, "--call=outline,format=json").succeeds());
    assert_eq!(found["args"][0]["name"], "VERSION");
    assert_eq!(found["secrets"][0]["required"], true);
    let found = json(&call(&project, "--call=targets,format=json").succeeds());
    assert_eq!(found["targets"][0]["name"], "make");
    assert_eq!(found["targets"][1]["default"], true);
    call(&project, "--call=tests").fails(2).stderr_has("there is no method");
}
