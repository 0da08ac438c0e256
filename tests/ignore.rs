//! Ignore files.

mod support;

use support::Project;

fn project() -> Project {
    Project::new()
        .file("a.md", "")
        .file("README.md", "")
        .file("src/a.rs", "")
        .file("src/bin/b.rs", "")
        .file("target/x", "")
        .dockerfile("FROM scratch\nCOPY . /c/")
}

/// The files below /c with this ignore file.
fn copied(ignore: &str) -> Vec<String> {
    let image = project().file(".dockerignore", ignore).build().succeeds();
    let paths = image.tree().paths().filter_map(|path| path.strip_prefix("c/"));
    paths.filter(|path| !matches!(*path, "Dockerfile" | ".dockerignore")).map(String::from).collect()
}

// Rule 18.
#[test]
fn patterns_are_those_of_docker() {
    let all = ["README.md", "a.md", "src", "src/a.rs", "src/bin", "src/bin/b.rs", "target", "target/x"];
    let without =
        |gone: &[&str]| all.iter().filter(|path| !gone.contains(path)).map(|path| path.to_string()).collect::<Vec<_>>();
    let cases: [(&str, &[&str]); 8] = [
        ("", &[]),
        ("# target\n", &[]),
        ("target\n", &["target", "target/x"]),
        ("/target/\n", &["target", "target/x"]),
        ("*.md\n", &["README.md", "a.md"]),
        ("*.md\n!README.md\n", &["a.md"]),
        ("*.rs\n", &[]),
        ("**/*.rs\n", &["src/a.rs", "src/bin/b.rs"]),
    ];
    for (ignore, gone) in cases {
        assert_eq!(copied(ignore), without(gone), "{ignore:?}");
    }
}

// Rule 18, the last half: a child can come back.
#[test]
fn a_child_of_an_ignored_folder_can_be_taken_back() {
    assert_eq!(copied("*\n!src/bin\n"), ["src", "src/bin", "src/bin/b.rs"]);
}

// Rule 19.
#[test]
fn an_ignore_file_beside_the_dockerfile_wins_and_is_not_merged() {
    let image = project().file(".dockerignore", "*.md\n").file("Dockerfile.dockerignore", "src\n").build().succeeds();
    image.has_file("c/a.md", "").has_no("c/src");
}

#[test]
fn containerignore_is_a_name_for_it_too() {
    project().file(".containerignore", "src\n").build().succeeds().has_no("c/src");
}

// Rule 19.
#[test]
fn the_dockerfile_itself_can_be_left_out_and_is_still_read() {
    let image = project().file(".dockerignore", "Dockerfile\n.dockerignore\n").build().succeeds();
    image.has_no("c/Dockerfile").has_no("c/.dockerignore").has_file("c/a.md", "");
}

// Rule 19.
#[test]
fn rules_do_not_hold_for_stages() {
    let image = project()
        .file(".dockerignore", "*.md\n")
        .dockerfile("FROM busybox AS a\nRUN echo >/a.md\nFROM scratch\nCOPY --from=a /a.md /")
        .build()
        .succeeds();
    image.has_file("a.md", "\n");
}

// Rule 20.
#[test]
fn a_file_that_is_named_but_ignored_is_not_found() {
    let project = project().file(".dockerignore", "a.md\n").dockerfile("FROM scratch\nCOPY a.md /");
    project.build().fails_cleanly().stderr_has("a.md");
}
