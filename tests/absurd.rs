//! Dockerfiles that a stranger made to take the machine: each is refused in words, at its place, soon, and within a few hundred MiB.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use support::{Outcome, Project, User};

/// Kilobytes of address space that a plan may take here: text that grows without end takes more at once.
const ROOM: u64 = 3 << 20;

/// Asks for a plan of the Dockerfile in `dir`, with little memory.
fn plan(user: &User, dir: &Path) -> Outcome {
    let program = env!("CARGO_BIN_EXE_coracle");
    let line = format!("ulimit -v {ROOM}; exec {program} build --plan {}", dir.display());
    user.tool("sh -c").arg(line).run().takes_at_most(Duration::from_secs(60))
}

fn refused(project: &Project, words: &str) {
    let outcome = plan(project.user(), project.dir()).fails(3);
    assert!(outcome.stderr.len() < 20_000, "an error is short: {} bytes", outcome.stderr.len());
    outcome.stderr_has(words);
}

#[test]
fn a_file_of_a_gigabyte_is_not_read() {
    let project = Project::new().dockerfile("FROM scratch");
    File::create(project.path("Dockerfile")).unwrap().set_len(1 << 30).unwrap();
    refused(&project, "is larger than");
    // Nor is a pipe or a device waited for.
    let outcome = project.user().coracle(["build", "--plan", "-f", "/dev/zero"]).arg(project.dir()).run();
    outcome.fails(3).stderr_has("is a character device");
    let endless =
        project.user().tool("sh -c").arg(format!("yes 'RUN x' | {} build --plan -", env!("CARGO_BIN_EXE_coracle")));
    endless.run().takes_at_most(Duration::from_secs(60)).fails(3);
    File::create(project.path(".dockerignore")).unwrap().set_len(1 << 30).unwrap();
    let project = project.dockerfile("FROM scratch\nCOPY . /");
    refused(&project, ".dockerignore");
}

#[test]
fn text_that_doubles_itself_ends() {
    let doubled = |line: &dyn Fn(u32) -> String| (0..64).map(line).collect::<String>();
    let variables = doubled(&|n| format!("ENV a{}=${{a{n}}}${{a{n}}}\n", n + 1));
    let project = Project::new().dockerfile(&format!("FROM scratch\nENV a0=0123456789\n{variables}"));
    refused(&project, "Dockerfile:19");
    let arguments = doubled(&|n| format!("ARG a{}=${{a{n}}}${{a{n}}}\n", n + 1));
    refused(&project.dockerfile(&format!("ARG a0=0123456789\n{arguments}FROM scratch\n")), "Dockerfile:18");
    // A text that is within its bounds, again and again.
    let long = "x".repeat(900_000);
    let many = "COPY <<EOF /f\n$a\nEOF\n".repeat(1000);
    refused(&Project::new().dockerfile(&format!("FROM scratch\nENV a={long}\n{many}")), "MiB");
    // Stages upon stages, each with all that the one below has.
    let stages: String =
        (1..3000).map(|n| format!("FROM s{} AS s{n}\nLABEL l{n}={}\n", n - 1, "y".repeat(500))).collect();
    refused(&Project::new().dockerfile(&format!("FROM scratch AS s0\n{stages}")), "MiB");
}

#[test]
fn what_is_nested_deeply_is_refused_or_read_without_a_crash() {
    let nested = format!("${{a:-{}x{}", "${a:-".repeat(100_000), "}".repeat(100_001));
    refused(&Project::new().dockerfile(&format!("FROM scratch\nENV b={nested}")), "Dockerfile:2");
    // As JSON that is none, it is text for the shell.
    let brackets = "[".repeat(1_000_000);
    plan(&User::new(), Project::new().dockerfile(&format!("FROM scratch\nCMD {brackets}")).dir()).succeeds();
    let pattern = format!("{}b", "*a".repeat(200));
    let project = Project::new().file(&"a".repeat(200), "").dockerfile(&format!("FROM scratch\nCOPY {pattern} /d/\n"));
    plan(project.user(), project.dir()).succeeds();
    let project = project.file(".dockerignore", format!("{}/x\n", "**/a*".repeat(100)));
    plan(project.user(), project.dir()).succeeds();
    let deep = format!("ONBUILD {}RUN x", "ONBUILD ".repeat(10_000));
    refused(&Project::new().dockerfile(&format!("FROM scratch\n{deep}")), "ONBUILD");
    let ports = "EXPOSE 1-65535 1-65535/udp 1-65535/sctp\n";
    plan(&User::new(), Project::new().dockerfile(&format!("FROM scratch\n{ports}")).dir()).succeeds();
    refused(&Project::new().dockerfile(&format!("FROM scratch\n{}", ports.repeat(50))), "MiB");
}

#[test]
fn very_many_of_anything_are_read() {
    let user = User::new();
    let mut text = String::from("FROM scratch\n");
    for number in 0..10_000 {
        text.push_str(&format!("LABEL l{number}=x\n"));
    }
    plan(&user, Project::of(&user).dockerfile(&text).dir()).succeeds();
    // Errors are not told without end.
    let wrong = format!("FROM scratch\n{}", "RNU x\n".repeat(100_000));
    let outcome = plan(&user, Project::of(&user).dockerfile(&wrong).dir()).fails(3);
    assert!(outcome.stderr.len() < 20_000, "{} bytes of errors", outcome.stderr.len());
    outcome.stderr_has("error: 99900 more errors");
    let continued = format!("FROM scratch\nRUN x{}\n", " \\\n# c\n y".repeat(200_000));
    plan(&user, Project::of(&user).dockerfile(&continued).dir()).succeeds();
    let heredocs: String = (0..2000).map(|n| format!("<<h{n} ")).collect();
    let bodies: String = (0..2000).map(|n| format!("body\nh{n}\n")).collect();
    plan(&user, Project::of(&user).dockerfile(&format!("FROM scratch\nCOPY {heredocs} /d/\n{bodies}")).dir())
        .succeeds();
    let dir = Project::of(&user).dockerfile("FROM scratch\nARG A\nCOPY <<EOF /f\n$A\nEOF\n");
    let mut file = File::create(dir.path("argument")).unwrap();
    file.write_all("x".repeat(100_000).as_bytes()).unwrap();
    let argument = format!("--build-arg=A={}", fs::read_to_string(dir.path("argument")).unwrap());
    user.coracle(["build", "--plan"]).arg(argument).arg(dir.dir()).run().succeeds();
}
