//! `coracle context ls`: what a build can see, and what is left out.

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Project, User};

fn project() -> Project {
    Project::of(&User::new())
        .file("Dockerfile", "FROM scratch\n")
        .file("src/main.rs", "0123456789")
        .file("src/deep/a", "01234")
        .file("target/big", vec![b'x'; 5000])
        .file("target/keep", "kept")
        .file("a.log", "log")
        .file(".dockerignore", "# what is made\ntarget\n!target/keep\n\n*.log\n")
}

fn ls(project: &Project, args: &[&str]) -> String {
    let call = project.user().coracle(["context", "ls"]);
    args.iter().fold(call, |call, arg| call.arg(arg)).arg(project.dir()).run().succeeds().stdout
}

#[test]
fn folders_are_listed_by_size_and_what_is_left_out_is_told() {
    let said = ls(&project(), &[]);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SIZE", "FILES", "FOLDER"]);
    assert_eq!(lines[1].last(), Some(&"."));
    assert!(said.contains("src/deep") && said.contains("leaves out 2 files, 4.9 KiB: see --ignored"), "{said}");
}

#[test]
fn each_path_that_is_left_out_has_its_rule_with_file_and_line() {
    let said = ls(&project(), &["--ignored"]);
    assert!(said.contains(".dockerignore:5") && said.contains("*.log") && said.contains("a.log"), "{said}");
    assert!(said.contains(".dockerignore:2") && said.contains("target/big") && !said.contains("target/keep"), "{said}");
}

#[test]
fn all_files_and_json() {
    let said = ls(&project(), &["--all"]);
    assert!(said.contains("src/main.rs") && said.contains("target/keep") && !said.contains("target/big"), "{said}");
    let json: Value = serde_json::from_str(&ls(&project(), &["--json"])).expect("JSON");
    assert_eq!(json["left_out"]["bytes"], 5003);
    assert_eq!(json["ignored"][0]["rule"], "*.log");
    assert_eq!(json["ignored"][0]["line"], 5);
    let files = json["files"].as_array().expect("a list");
    assert!(files.iter().any(|file| file["path"] == "src/main.rs" && file["bytes"] == 10 && file["type"] == "file"));
    let folders = json["folders"].as_array().expect("a list");
    assert!(folders.iter().any(|folder| folder["path"] == "src" && folder["bytes"] == 15 && folder["files"] == 2));
}

#[test]
fn the_ignore_file_is_the_one_that_a_build_takes() {
    let project = project().file("Dockerfile.dockerignore", "src\n").file("own", "target\n");
    assert!(ls(&project, &["--ignored"]).contains("Dockerfile.dockerignore:1"));
    let own = project.path("own");
    assert!(ls(&project, &["--ignored", "--ignorefile", own.to_str().expect("UTF-8")]).contains("own:1"));
    let part = ls(&project, &["--all", "--context-sub-path", "src"]);
    assert!(part.contains("main.rs") && !part.contains("src/main.rs"), "{part}");
}

#[test]
fn an_archive_can_be_listed_and_nothing_is_left_of_it() {
    let project = project();
    let file = project.user().new_dir().join("a.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&file).arg("--directory").arg(project.dir()).arg(".");
    assert!(tar.status().expect("tar").success());
    let outcome = project.user().coracle(["context", "ls", "--all", "-"]).stdin(&file).run().succeeds();
    outcome.stdout_has("src/main.rs");
    project.user().has_nothing_left_of("coracle-no-such-mark");
    project.user().coracle(["context", "ls", "no/such"]).run().fails(2).stderr_has("cannot open the build context");
}
