//! How images and their histories are listed, and what verbs say that are asked to be quiet.

mod support;

use support::{Image, Project, User};

fn lines(user: &User, args: &[&str]) -> Vec<String> {
    let shown = user.coracle(args.iter().copied()).run().succeeds();
    shown.stdout.lines().map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect()
}

/// Images of different sizes and times.
fn listed() -> User {
    let user = User::with_busybox();
    let made = [("b:2", "x", 2_000_000_000i64), ("a:9", "xxx", 1_900_000_000), ("b:1", "xxxxx", 1_950_000_000)];
    for (name, word, time) in made {
        let text: String = (0..4000 * word.len()).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
        let project = Project::of(&user).named(name).file("f", text).dockerfile("FROM busybox\nCOPY f /");
        project.arg(&format!("--timestamp={time}")).arg("--compression=none").build().succeeds();
    }
    user
}

#[test]
fn images_are_sorted_as_it_is_asked_for() {
    let user = listed();
    let sorted = |key: &str| lines(&user, &["images", "--noheading", "--sort", key]);
    assert_eq!(sorted("name"), ["a:9", "b:1", "b:2", "busybox:latest"]);
    assert_eq!(lines(&user, &["images"]), ["NAME", "a:9", "b:1", "b:2", "busybox:latest"]);
    assert_eq!(sorted("created"), ["b:2", "b:1", "a:9", "busybox:latest"]);
    assert_eq!(sorted("size"), ["b:1", "a:9", "b:2", "busybox:latest"]);
    assert_eq!(sorted("tag"), ["b:1", "b:2", "a:9", "busybox:latest"]);
    assert_eq!(sorted("repository"), ["a:9", "b:1", "b:2", "busybox:latest"]);
    let mut ids = lines(&user, &["images", "-q", "--sort=id"]);
    let found = ids.clone();
    ids.sort();
    assert_eq!(found, ids);
    let table = user.coracle(["images", "-n", "--format", "table {{.Tag}}\t{{.Repository}}", "a"]).run().succeeds();
    assert_eq!(table.stdout, "9   a\n");
    user.coracle(["images", "--sort=colour"]).run().fails(2);
}

#[test]
fn a_history_is_a_table_of_what_is_asked_for() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo x >/x\nLABEL a=1").arg("--timestamp=0");
    project.build().succeeds();
    let table = ["history", "--format", "table {{.CreatedBy}}\t{{.Size}}", "test:latest"];
    let shown = project.user().coracle(table).run().succeeds();
    let rows: Vec<&str> = shown.stdout.lines().collect();
    assert!(rows[0].starts_with("CREATED BY") && rows[0].ends_with("SIZE"), "{shown}");
    assert!(rows[1].starts_with("LABEL a=1") && rows[1].ends_with("0 B"), "{shown}");
    assert!(rows[2].contains("echo x >/x") && rows.len() == 5, "{shown}");
    // Without the word there is no head.
    let lines = ["history", "--format", "{{.CreatedBy}}", "test:latest"];
    assert!(project.user().coracle(lines).run().succeeds().stdout.starts_with("LABEL a=1\n"));
}

#[test]
fn quiet_verbs_say_what_counts_and_nothing_else() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo x >/x");
    let digest = project.build().succeeds().digest().to_owned();
    let (user, dir) = (project.user(), project.user().new_dir());
    let archive = dir.join("a.tar").display().to_string();
    let quiet = |args: &[&str]| {
        let outcome = user.coracle(args.iter().copied()).run().succeeds();
        assert_eq!(outcome.stderr, "", "{outcome}");
        outcome.stdout.trim().to_owned()
    };
    quiet(&["save", "--quiet", "-o", &archive, "test:latest"]);
    assert!(std::path::Path::new(&archive).exists());
    let layout = format!("oci:{}", dir.join("layout").display());
    assert_eq!(quiet(&["copy", "--quiet", "test:latest", &layout]), digest);
    assert_eq!(Image::only(&dir.join("layout")).digest(), digest);
    let other = User::new();
    let loaded = other.coracle(["load", "--quiet", "-i", &archive]).run().succeeds();
    assert_eq!(loaded.stderr, "", "{loaded}");
    other.coracle(["images"]).run().succeeds().stdout_has("test:latest");
}
