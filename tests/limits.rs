//! Limits of what a step may use: --memory, --cpus, --pids-limit, --ulimit, --shm-size. The user of these tests has no control
//! group, so this is how they are kept without one; how one keeps them is tested in runtime/src/cgroup.

mod support;

use support::{Built, Project, User};

/// Builds `FROM busybox`, `RUN command`, with more flags.
fn build(command: &str, flags: &[&str]) -> Built {
    let project = Project::new().dockerfile(&format!("FROM busybox\nRUN {command}\n"));
    flags.iter().fold(project, |project, flag| project.arg(flag)).build()
}

#[test]
fn memory_is_that_of_each_process_where_there_is_no_control_group() {
    let image = build("ulimit -v >/limit", &["--memory=64m"]);
    image.succeeds().has_file("limit", "65536\n");
    build("true", &["-m", "64m"]).stderr_has("address space of each process").stderr_has("control group");
    // What a shell takes is more than a limit of 6 MiB allows to be filled with.
    let failed = build("head -c 100m /dev/zero | sort >/sorted", &["--memory=32m"]).fails(1);
    failed.stderr_has("emory");
}

#[test]
fn what_cannot_be_kept_is_said_once() {
    let project =
        Project::new().dockerfile("FROM busybox\nRUN true\nRUN echo two\n").arg("--memory=64m").arg("--cpus=0.5");
    let built = project.build();
    assert_eq!(built.count("address space"), 1, "{}", built.stderr);
    built.stderr_has("one processor");
    build("false", &["--memory=64m"]).fails(1).stderr_has("address space");
}

#[test]
fn a_control_group_that_is_not_there_is_said() {
    let built = build("true", &["--cgroup-parent=/there/is/none"]);
    built
        .stderr_has("the step is not in the control group that was asked for")
        .stderr_has("there is no control group \"/there/is/none\" in sight")
        .succeeds();
}

#[test]
fn a_step_without_limits_warns_of_nothing() {
    build("true", &[]).stderr_has_no("control group");
    build("true", &["--ulimit=nofile=64", "--shm-size=1m", "--cpus=0", "--pids-limit=-1"])
        .stderr_has_no("control group");
}

#[test]
fn processors_are_whole_ones() {
    let image = build("nproc >/count", &["--cpus=0.5"]);
    image.succeeds().has_file("count", "1\n");
    let image = build("nproc >/count", &["--cpus=1000"]);
    let all = std::thread::available_parallelism().expect("a number").get();
    image.succeeds().has_file("count", &format!("{all}\n"));
}

#[test]
fn too_many_processes_are_refused() {
    let script = "for i in $(seq 200); do sleep 100 & done; echo all >/all";
    build(script, &["--pids-limit=100"]).fails(1).stderr_has("fork").stderr_has("of each user");
    build(script, &["--pids-limit=300"]).succeeds().has_file("all", "all\n");
}

#[test]
fn ulimits_have_dockers_names() {
    let script = "ulimit -Sn >/soft; ulimit -Hn >/hard; ulimit -c >/core; ulimit -f >/size";
    let image = build(script, &["--ulimit=nofile=100:200", "--ulimit=core=0", "--ulimit=fsize=1048576:-1"]).succeeds();
    image.has_file("soft", "100\n").has_file("hard", "200\n").has_file("core", "0\n").has_file("size", "2048\n");
}

#[test]
fn of_two_limits_of_one_kind_the_last_counts() {
    build("ulimit -n >/n", &["--ulimit=nofile=100", "--ulimit=nofile=50"]).succeeds().has_file("n", "50\n");
}

#[test]
fn a_limit_over_the_hard_one_is_an_error_that_names_it() {
    let failed = build("true", &["--ulimit=nofile=1000000000000"]).fails(6);
    failed.stderr_has("nofile").stderr_has("hard limit").stderr_has("--ulimit nofile=");
}

#[test]
fn values_are_checked_before_anything_is_done() {
    for (flag, word) in [
        ("--ulimit=files=1", "there is no ulimit \"files\""),
        ("--ulimit=nofile", "NAME=SOFT"),
        ("--ulimit=nofile=2:1", "soft limit of nofile"),
        ("--memory=lots", "512m"),
        ("--memory=5m", "6m"),
        ("--memory-swap=1g", "needs --memory"),
        ("--cpus=0.001", "0.01"),
        ("--pids-limit=-2", "1 or more"),
        ("--shm-size=-1", "size"),
    ] {
        build("true", &[flag]).fails(2).stderr_has(word);
    }
    build("true", &["--memory=64m", "--memory-swap=32m"]).fails(2).stderr_has("less than --memory");
}

#[test]
fn shared_memory_has_the_size_that_was_asked_for() {
    let script = "df -k /dev/shm | tail -n 1 | awk '{print $2}' >/kib";
    build(script, &["--shm-size=1m"]).succeeds().has_file("kib", "1024\n");
    build(script, &[]).succeeds().has_file("kib", "65536\n");
}

#[test]
fn limits_are_no_part_of_the_cache_key() {
    let project = Project::new().dockerfile("FROM busybox\nRUN ulimit -n >/n\n");
    let first = project.clone().arg("--ulimit=nofile=50").build().succeeds();
    let again = project.arg("--ulimit=nofile=60").build().succeeds();
    assert_eq!(first.text("n"), again.text("n"));
}

#[test]
fn run_has_the_same_flags() {
    let user = User::with_busybox();
    let call = user.coracle(["run", "--ulimit=nofile=50", "--memory=64m", "--shm-size=1m", "busybox", "sh", "-c"]);
    let outcome = call.arg("ulimit -n; ulimit -v; df -k /dev/shm | tail -n 1 | awk '{print $2}'").run().succeeds();
    assert_eq!(outcome.stdout, "50\n65536\n1024\n");
    outcome.stderr_has("warning: the memory limit counts the address space of each process");
}
