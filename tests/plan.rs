//! `build --plan`: what is in the cache, without building.

mod support;

use serde_json::Value;
use support::web::{Answer, Web};
use support::{Outcome, Project, User};

const DOCKERFILE: &str = "
    FROM busybox AS make
    WORKDIR /w
    COPY dir ./
    RUN echo made >made
    FROM busybox
    COPY --from=make /w/made /made
    RUN true
";

fn project() -> Project {
    Project::new().file("dir/a", "a").dockerfile(DOCKERFILE)
}

fn plan(project: &Project, flags: &[&str]) -> Outcome {
    let mut call = project.user().coracle(["build"]);
    for flag in flags {
        call = call.arg(flag);
    }
    call.arg(project.dir()).run()
}

fn states(outcome: &Outcome) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"));
    let stages = document["stages"].as_array().unwrap();
    let steps = stages.iter().flat_map(|stage| stage["steps"].as_array().unwrap());
    steps
        .map(|step| (step["instruction"].as_str().unwrap().to_owned(), step["state"].as_str().unwrap().to_owned()))
        .collect()
}

fn words(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn before_between_and_after_builds() {
    let project = project();
    let fresh = plan(&project, &["--plan=json"]).succeeds();
    assert_eq!(fresh.stderr, "");
    assert_eq!(
        states(&fresh),
        words(&[("WORKDIR", "miss"), ("COPY", "unknown"), ("RUN", "unknown"), ("COPY", "unknown"), ("RUN", "unknown")])
    );
    project.build().succeeds();
    let all = ["WORKDIR", "COPY", "RUN", "COPY", "RUN"].map(|word| (word, "hit"));
    assert_eq!(states(&plan(&project, &["--plan=json"]).succeeds()), words(&all));
    let project = project.file("dir/a", "b");
    assert_eq!(
        states(&plan(&project, &["--plan=json"]).succeeds()),
        words(&[("WORKDIR", "hit"), ("COPY", "miss"), ("RUN", "unknown"), ("COPY", "unknown"), ("RUN", "unknown")])
    );
    // The plan has told the truth, and changed nothing.
    project.build().cached(1 + 2).succeeds();
}

#[test]
fn the_keys_of_a_plan_are_those_of_the_store() {
    let project = project();
    project.build().succeeds();
    let outcome = plan(&project, &["--plan=json"]).succeeds();
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    for step in document["stages"].as_array().unwrap().iter().flat_map(|stage| stage["steps"].as_array().unwrap()) {
        let key = step["key"].as_str().unwrap();
        let record = project.user().store().join("cache/steps").join(&key[..2]).join(format!("{key}.json"));
        assert!(record.exists(), "{step}");
    }
}

#[test]
fn the_stage_graph_has_its_needs() {
    let project = project();
    let outcome = plan(&project, &["--plan=json"]).succeeds();
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["format"], 1);
    assert_eq!(document["stages"][0]["name"], "make");
    assert_eq!(document["stages"][0]["needs"], serde_json::json!([]));
    assert_eq!(document["stages"][1]["needs"], serde_json::json!([0]));
    assert_eq!(document["stages"][1]["target"], true);
    assert!(document["stages"][0]["base"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(document["stages"][0]["steps"][1]["line"], 3);
}

#[test]
fn the_document_is_as_it_is_described() {
    let schema = support::schema::of(include_str!("../docs/plan.md"));
    let project = project();
    for outcome in [plan(&project, &["--plan=json"]), plan(&project, &["--plan=json", "--explain", "--no-cache"])] {
        let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
        support::schema::check(&schema, &document).unwrap_or_else(|error| panic!("{error}: {document}"));
    }
}

#[test]
fn a_plan_for_people() {
    let project = project();
    project.build().succeeds();
    let outcome = plan(&project.file("dir/a", "b"), &["--plan", "--explain"]).succeeds();
    let outcome = outcome
        .stdout_has("stage make on busybox\n")
        .stdout_has("  hit        1/3 WORKDIR /w ")
        .stdout_has("  miss       2/3 COPY dir ./ ")
        .stdout_has("                 file changed: dir/a\n")
        .stdout_has("stage 1 (target) on busybox\n");
    assert!(outcome.stdout.ends_with("1 hit, 1 miss, 3 unknown\n"), "{outcome}");
}

#[test]
fn the_exit_code_says_it_where_it_is_asked() {
    let project = project();
    plan(&project, &["--plan"]).succeeds();
    assert_eq!(plan(&project, &["--plan", "--plan-exit-code"]).code(), Some(10));
    project.build().succeeds();
    plan(&project, &["--plan", "--plan-exit-code"]).succeeds();
    assert_eq!(plan(&project, &["--plan", "--plan-exit-code", "--no-cache"]).code(), Some(10));
    plan(&project, &["--plan-exit-code"]).fails(2);
}

#[test]
fn a_base_image_that_is_not_there_leaves_its_stage_unknown() {
    let project =
        Project::new().dockerfile("FROM busybox AS a\nRUN true\nFROM nobody/has:this\nCOPY --from=a /x /x\nRUN true");
    let outcome = plan(&project, &["--plan=json"]).succeeds();
    assert_eq!(states(&outcome), words(&[("RUN", "miss"), ("COPY", "unknown"), ("RUN", "unknown")]));
    plan(&project, &["--plan"]).succeeds().stdout_has("on nobody/has:this, which is not in the store\n");
}

#[test]
fn what_would_have_to_be_fetched_is_unknown() {
    let project = Project::new().dockerfile("FROM busybox\nADD http://127.0.0.1:9/x /x\nRUN true");
    let outcome = plan(&project, &["--plan=json"]).succeeds();
    assert_eq!(states(&outcome), words(&[("ADD", "unknown"), ("RUN", "unknown")]));
    plan(&project, &["--plan"]).succeeds().stdout_has("http://127.0.0.1:9/x is not known without asking for it");
    let git = Project::new().dockerfile("FROM busybox\nADD git://127.0.0.1:9/x.git#main /x");
    plan(&git, &["--plan"]).succeeds().stdout_has("git://127.0.0.1:9/x.git#main is not known without asking for it");
}

#[test]
fn what_cannot_have_changed_is_known() {
    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let web = Web::new(|_| Answer::ok("hello"));
    let project = project()
        .file("a", "a")
        .dockerfile(&format!("FROM busybox\nADD --checksum={HELLO} {} /x\nCOPY a /a", web.url("/x")));
    let unknown = words(&[("ADD", "unknown"), ("COPY", "unknown")]);
    assert_eq!(states(&plan(&project, &["--plan=json"]).succeeds()), unknown);
    assert!(web.log().is_empty());
    project.build().succeeds();
    assert_eq!(web.log().len(), 1);
    assert_eq!(states(&plan(&project, &["--plan=json"]).succeeds()), words(&[("ADD", "hit"), ("COPY", "hit")]));
    let other = project.clone().dockerfile(&format!("FROM busybox\nADD --checksum={HELLO} {} /y\n", web.url("/x")));
    assert_eq!(states(&plan(&other, &["--plan=json"]).succeeds()), words(&[("ADD", "miss")]));
    assert_eq!(web.log().len(), 1, "nobody was asked");
}

#[test]
fn a_plan_makes_no_store() {
    let project = project();
    let user = User::new();
    let root = user.new_dir().join("none");
    let call = user.coracle(["--root", root.to_str().unwrap(), "build", "--plan"]).arg(project.dir());
    call.run().succeeds().stdout_has("0 hit, 0 miss, 5 unknown\n");
    assert!(!root.exists());
}
