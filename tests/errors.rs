//! What a user reads when something is wrong: the place, the thing, and an exit code that says whose fault it is.

mod support;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use support::registry::{Act, Registry};
use support::{Project, User, here, run};

fn fails(dockerfile: &str, code: i32, words: &[&str]) {
    let mut outcome = Project::new().dockerfile(dockerfile).build().fails(code);
    for word in words {
        outcome = outcome.stderr_has(word);
    }
}

#[test]
fn a_typing_error_is_shown_at_its_place() {
    fails("FROM busybox\nCPOY a b", 3, &["Dockerfile:2", "CPOY"]);
    fails("FROM busybox\nCOPY onlyone", 3, &["Dockerfile:2"]);
    fails("FROM busybox\nENV", 3, &["Dockerfile:2"]);
    fails("RUN true", 3, &["Dockerfile:1"]);
}

#[test]
fn all_errors_are_shown_not_only_the_first() {
    fails("FROM busybox\nCPOY a b\nENV\n", 3, &["Dockerfile:2", "Dockerfile:3"]);
}

#[test]
fn a_stage_that_is_misspelt_is_guessed() {
    let dockerfile = "FROM busybox AS construct\nFROM busybox\nCOPY --from=constuct /web/site ./";
    let outcome = Project::new().dockerfile(dockerfile).build().fails_cleanly();
    outcome.stderr_has("constuct").stderr_has("Dockerfile:3").stderr_has("did you mean `construct`?");
}

#[test]
fn what_a_step_must_not_have_is_refused_with_its_line() {
    for (line, words) in
        [("RUN --security=insecure true", "is not allowed"), ("RUN --device=vendor.example/gpu true", "is not allowed")]
    {
        let outcome = Project::new().dockerfile(&format!("FROM busybox\n{line}")).build().fails_cleanly();
        outcome.stderr_has("Dockerfile:2").stderr_has(words);
    }
}

#[test]
fn an_image_that_is_not_in_the_store_is_named() {
    let project = Project::of(&User::new()).dockerfile("FROM nowhere:1\nRUN true").arg("--pull=never");
    project.build().fails(3).stderr_has("Dockerfile:1").stderr_has("nowhere:1").stderr_has("--pull");
}

#[test]
fn wrong_flags_are_exit_code_2() {
    let user = User::new();
    user.coracle(["build", "--no-such-flag", "."]).run().fails(2).stderr_has("--no-such-flag");
    user.coracle(["no-such-verb"]).run().fails(2).stderr_has("no-such-verb");
}

#[test]
fn help_is_there_and_must_have_somewhere_to_go() {
    let user = User::new();
    user.coracle(["help", "prune"]).run().succeeds().stdout_has("Usage: coracle prune");
    let program = env!("CARGO_BIN_EXE_coracle");
    let script = user.new_dir().join("help");
    std::fs::write(&script, format!("{program} --help >/dev/full")).unwrap();
    user.tool(&format!("sh {}", script.display())).run().fails(5).stderr_has("standard output");
}

#[test]
fn a_file_without_a_folder_is_refused_before_the_build() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo ran");
    for flag in ["--iidfile=", "--metadata-file=", "--output=type=oci,dest=", "--output=type=tar,dest="] {
        let outcome = project.clone().arg(&format!("{flag}/no/such/folder/file")).build().fails(2);
        outcome.stderr_has("there is no folder \"/no/such/folder\"").stderr_has_no("echo ran");
    }
    // A folder that is there and closed: the name that was given, and no image.
    for flag in ["--iidfile=", "--metadata-file="] {
        let outcome = project.clone().arg(&format!("{flag}/proc/file")).build().fails(5);
        outcome.stderr_has("cannot write /proc/file: ").stderr_has_no("tmp");
        project.user().coracle(["inspect", "test"]).run().fails(1);
    }
}

#[test]
fn what_an_earlier_build_wrote_about_its_image_does_not_outlive_a_failure() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo one");
    let dir = project.user().new_dir();
    let id = dir.join("id");
    let with_files = |project: &Project| {
        let files = project.clone().arg(&format!("--iidfile={}", id.display()));
        files.arg(&format!("--metadata-file={}", dir.join("metadata").display()))
    };
    with_files(&project).build().succeeds();
    assert!(id.exists() && dir.join("metadata").exists());
    with_files(&project.dockerfile("FROM busybox\nRUN false")).build().fails(1);
    assert!(!id.exists() && !dir.join("metadata").exists());
}

#[test]
fn a_file_in_a_closed_folder_is_refused_before_the_build() {
    let project = Project::new().dockerfile("FROM busybox\nRUN echo ran").arg("--iidfile=/proc/file");
    project.build().fails(5).stderr_has("cannot write /proc/file: ").stderr_has_no("echo ran");
}

#[test]
fn an_input_that_is_not_there_is_exit_code_3() {
    let user = User::with_busybox();
    for (args, named) in [
        (&["load", "-i", "/no/such/file"][..], "/no/such/file"),
        (&["pull", "oci:/no/such/layout"], "/no/such/layout"),
        (&["bundle", "ls", "/no/such/bundle"], "/no/such/bundle"),
        (&["run", "-v", "/no/such/folder:/x", "busybox", "true"], "/no/such/folder"),
    ] {
        user.coracle(args).run().fails(3).stderr_has(named).stderr_has("No such file or directory");
    }
}

#[test]
fn what_comes_on_standard_input_is_called_so() {
    let user = User::new();
    user.coracle(["load"]).typing("no archive").run().fails(3).stderr_has("error: standard input is damaged: ");
    if support::require_tool("script") {
        let line = user.coracle(["load"]).line();
        let outcome = user.tool("script -qec").arg(line).arg("/dev/null").run();
        assert_eq!(outcome.code(), Some(2), "{outcome}");
        assert!(outcome.stdout.contains("standard input is a terminal"), "{outcome}");
    }
}

#[test]
fn a_terminal_shows_what_is_typed_after_a_login_that_was_interrupted() {
    if !support::require_tool("script") {
        return;
    }
    let user = User::new();
    let script = user.new_dir().join("login");
    let login = format!("{} login -u me 127.0.0.1:9", env!("CARGO_BIN_EXE_coracle"));
    let lines = format!("sh -c '(sleep 1; kill -TERM $$) & exec {login}'\necho ended $?\nstty -a\n");
    std::fs::write(&script, lines).unwrap();
    // Nobody types, and what nobody types has no end.
    let typed = script.with_extension("typed");
    let line = format!("mkfifo {0} && exec script -qec 'sh {1}' /dev/null <>{0}", typed.display(), script.display());
    let outcome = user.tool("sh -c").arg(line).run();
    assert!(outcome.stdout.contains("Password: ") && outcome.stdout.contains("ended 130"), "{outcome}");
    assert!(outcome.stdout.contains(" echo "), "{outcome}");
}

#[test]
fn a_context_deeper_than_a_path_can_be_is_refused_at_once_and_in_few_words() {
    let project = Project::new().dockerfile("FROM busybox\nCOPY . /x/");
    let mut at = openat(CWD, project.dir(), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
    }
    let outcome = project.build().fails(1).takes_at_most(std::time::Duration::from_secs(5));
    outcome.stderr_has("more than 4096").stderr_has_no(&"d/".repeat(100));
}

#[test]
fn what_cannot_be_taken_is_named_with_what_to_do() {
    let user = User::new();
    let file = user.new_dir().join("file");
    std::fs::write(&file, "text").unwrap();
    let outcome = run(&user, &["cache", "import", file.to_str().unwrap()]).fails(3);
    outcome.stderr_has("/file is no export of cache mounts: ").stderr_has("`coracle cache export` writes one");

    let registry = Registry::new();
    registry.image("base", "1", &here(), b"text");
    registry.fault("GET", "manifests", 1000, Act::Status(403, "", r#"{"errors":[{"code":"DENIED"}]}"#));
    let outcome = run(&user, &["pull", "--tls-verify=false", &registry.name("base:1")]).fails(4);
    outcome
        .stderr_has("does not allow this")
        .stderr_has("no right to it there")
        .stderr_has("`coracle login 127.0.0.1:");

    let long = "a".repeat(256);
    let outcome = run(&user, &["build", "--context-sub-path", &long, "."]).fails(2);
    outcome.stderr_has(&format!("--context-sub-path \"{long}\" is no path"));
}

#[test]
fn a_missing_dockerfile_or_context_is_named() {
    let user = User::with_busybox();
    let outcome = Project::of(&user).arg("--file=nothere").build().fails(2);
    outcome.stderr_has("nothere").stderr_has("No such file or directory");
    Project::of(&user).build().fails_cleanly().stderr_has("Dockerfile");
    user.coracle(["build", "/no/such/folder"]).run().fails_cleanly().stderr_has("/no/such/folder");
}

#[test]
fn a_layout_with_a_damaged_blob_is_not_taken() {
    let user = User::new();
    let layout = user.new_dir().join("layout");
    let copied = std::process::Command::new("cp").arg("-r").arg(support::base::busybox()).arg(&layout).status();
    assert!(copied.unwrap().success());
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten();
    let largest = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap().path();
    let mut bytes = std::fs::read(&largest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    let outcome = user.coracle(["pull", &format!("oci:{}", layout.display())]).run().fails(3);
    outcome.stderr_has(largest.file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_failed_build_tags_nothing() {
    let project = Project::new().dockerfile("FROM busybox\nRUN exit 1");
    project.build().fails(1);
    project.user().coracle(["inspect", "test:latest"]).run().fails_cleanly();
}

#[test]
fn a_fifo_as_a_dockerfile_does_not_hang() {
    let project = Project::new();
    let made = std::process::Command::new("mkfifo").arg(project.path("Dockerfile")).status();
    assert!(made.unwrap().success());
    project.build().fails_cleanly().stderr_has("Dockerfile");
}

#[test]
fn control_bytes_of_a_dockerfile_are_not_printed() {
    let outcome = Project::new().file("Dockerfile", "FROM busybox\nCPOY \x1b]0;title\x07 b\n").build().fails(3);
    outcome.stderr_has_no("\x1b]0;title").stderr_has_no("\x07");
}
