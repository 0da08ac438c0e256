//! What is left when a RUN fails.

mod support;

use std::fs;

use support::environment::{Environment, Visit, can_be_made};
use support::{Project, User, set_mode};

const DOCKERFILE: &str = "
    FROM busybox
    RUN echo below >/below && mkdir /results
    WORKDIR /work
    RUN --mount=type=secret,id=s,target=/secret --mount=type=cache,target=/cache \
        for n in $(seq 30); do echo line $n; done; echo report >/results/report && chown 7:8 /results/report && \
        ln -s /etc/passwd /results/link && touch /cache/x; echo broken >&2; exit 5
";

#[test]
fn a_failure_has_line_command_status_and_the_last_lines() {
    let project = Project::new().dockerfile(DOCKERFILE);
    let failed = project.build().fails(1);
    let failed = failed.stderr_has("Dockerfile:4:").stderr_has("the command ended with exit status 5");
    let (_, report) = failed.stderr.split_once("the last lines that it wrote:").expect("a report");
    assert!(report.contains("    | line 30\n    | broken\n") || report.contains("    | broken\n"), "{report}");
    assert!(report.contains("| line 12") && !report.contains("| line 10\n"), "{report}");
}

#[test]
fn all_files_of_the_failed_step_can_be_kept() {
    for (mode, user) in User::both() {
        let kept = user.new_dir().join("kept");
        let project = Project::of(&user).dockerfile(DOCKERFILE).arg("--secret=id=s,env=S");
        let project = project.arg(&format!("--on-failure=save={}", kept.display()));
        let outcome = project.call().env("S", "the-secret-value").run();
        let failed = outcome.fails(1).stderr_has("exit status 5");
        failed.stderr_has(&format!("the files of the failed step, all yours, in {}", kept.display()));
        assert_eq!(fs::read_to_string(kept.join("results/report")).unwrap(), "report\n", "{mode}");
        assert_eq!(fs::read_to_string(kept.join("below")).unwrap(), "below\n");
        assert!(kept.join("bin/busybox").is_file() && kept.join("work").is_dir());
        assert!(!kept.join("secret").exists() && !kept.join("cache").exists());
        let outcome = project.call().env("S", "x").run();
        outcome.fails(2).stderr_has("is no empty folder");
    }
}

#[test]
fn some_files_of_the_failed_step_can_be_taken_out() {
    for (mode, user) in User::both() {
        let out = user.new_dir();
        let at = |name: &str| out.join(name).display().to_string();
        let project = Project::of(&user).dockerfile(DOCKERFILE);
        let outcome = ["/results", "results/report", "/results/link", "/not/there"]
            .iter()
            .zip(["all", "one", "linked", "none"])
            .fold(project.call(), |call, (from, to)| call.arg(format!("--on-failure=export={from}:{}", at(to))))
            .run();
        let failed = outcome.fails(1).stderr_has("the failed step left no /not/there");
        assert_eq!(fs::read_to_string(out.join("all/report")).unwrap(), "report\n", "{mode}: {failed}");
        assert_eq!(fs::read_to_string(out.join("one")).unwrap(), "report\n");
        // The link is followed in the image, not here.
        assert_eq!(fs::read_to_string(out.join("linked")).unwrap(), image_passwd(&user));
        assert!(!out.join("none").exists());
    }
}

#[test]
fn a_device_that_cannot_be_taken_out_is_told_and_takes_no_place() {
    let (_, user) = User::both().into_iter().next_back().expect("two of them");
    let file = user.new_dir().join("file");
    fs::write(&file, "precious").unwrap();
    let export = format!("--on-failure=export=/n:{}", file.display());
    let project = Project::of(&user).dockerfile("FROM busybox\nRUN mknod /n c 1 3 && [ -c /n ] && exit 7").arg(&export);
    let failed = project.build();
    failed.fails(1).stderr_has("/n of the failed step could not be written").stderr_has("a character device");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

fn image_passwd(user: &User) -> String {
    user.coracle(["run", "busybox", "cat", "/etc/passwd"]).run().succeeds().stdout
}

#[test]
fn a_build_that_works_keeps_nothing() {
    let user = User::with_busybox();
    let dir = user.new_dir().join("kept");
    let project =
        Project::of(&user).dockerfile("FROM busybox\nRUN true").arg(&format!("--on-failure=save={}", dir.display()));
    project.build().succeeds();
    assert!(!dir.exists());
}

#[test]
fn a_shell_needs_a_terminal_and_is_in_the_failed_step() {
    let project = Project::new().dockerfile(DOCKERFILE).arg("--on-failure=shell");
    project.build().fails(2).stderr_has("--on-failure=shell needs a terminal");
    if !support::require_tool("script") {
        return;
    }
    // script(1) makes one.
    let line = project.call().line();
    let typed = "pwd; cat /results/report; test -f /cache/x && echo cache; exit\n";
    let outcome = project.user().tool("script -qec").arg(line).arg("/dev/null").typing(typed).run();
    let said = &outcome.stdout;
    assert!(said.contains("/work") && said.contains("report") && said.contains("cache"), "{outcome}");
    assert!(said.contains("exit status 5"), "{outcome}");
    assert_eq!(outcome.code(), Some(1), "{outcome}");
}

#[test]
fn files_of_a_failed_step_are_kept_in_a_chroot_too() {
    if !can_be_made() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    set_mode(context.path(), 0o755);
    fs::write(context.path().join("Dockerfile"), support::dedent(DOCKERFILE)).unwrap();
    let visit = Visit::with_busybox(context.path())
        .call("pull", "coracle pull oci:/base")
        .call("build", "coracle build --on-failure=save=/work/kept --on-failure=export=/results/report:/work/report --progress plain /context")
        .call("kept", "cat /work/kept/results/report /work/report /work/kept/below")
        .call("again", "coracle build --progress plain /context");
    let found = Environment::named("docker-default").visit(&visit);
    assert_eq!(found["build"].status, 1, "{}", found["build"]);
    assert_eq!(found["kept"].stdout.trim(), "report\nreport\nbelow", "{}", found["build"]);
    assert_eq!(found["again"].status, 1, "{}", found["again"]);
}
