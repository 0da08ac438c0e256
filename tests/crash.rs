//! Signals and sudden death: nothing of the step survives, nothing is half done, and the next build works.

mod support;

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Image, Project, User, gone};

/// A project whose step says "ready" and then sleeps in several processes; and what is in their command lines.
fn sleeper() -> (Project, String) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mark = format!("9{}{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let lines = format!(
        "FROM busybox\nRUN echo one >/one\nRUN (sleep {mark} &) ; echo rea''dy; trap '' TERM INT; sleep {mark}\n"
    );
    (Project::new().file("Dockerfile", lines), format!("sleep {mark}"))
}

fn works_again(project: Project) {
    let project = project.dockerfile("FROM busybox\nRUN echo one >/one\nRUN echo two >/two");
    project.build().cached(1).succeeds().has_file("two", "two\n");
}

#[test]
fn sigint_and_sigterm_end_a_step_within_two_seconds() {
    for signal in [Signal::INT, Signal::TERM] {
        let (project, mark) = sleeper();
        let mut running = project.start();
        running.wait_for("ready");
        let sent = Instant::now();
        running.signal(signal);
        let outcome = running.wait();
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
        assert_eq!(outcome.code(), Some(130), "{outcome}");
        project.user().has_nothing_left_of(&mark);
        works_again(project);
    }
}

/// Runs a shell script in busybox, sends `signal` when it has said "ready", and returns its exit code.
fn run_and_signal(user: &User, script: &str, signal: Signal) -> Option<i32> {
    let mut running = user.coracle(["run", "-i", "busybox", "sh", "-c", script]).start();
    running.wait_for("ready");
    let sent = Instant::now();
    running.signal(signal);
    let outcome = running.wait();
    assert!(sent.elapsed() < Duration::from_secs(10), "{outcome}");
    outcome.code()
}

#[test]
fn a_signal_ends_a_command_that_does_nothing_about_it() {
    let user = User::with_busybox();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        assert_eq!(run_and_signal(&user, "echo ready; exec sleep 60", signal), Some(code));
    }
    // The shell waits for its child when it gets SIGINT, of its own accord.
    assert_eq!(run_and_signal(&user, "echo ready; sleep 60; true", Signal::TERM), Some(143), "nor its children");
}

#[test]
fn a_signal_that_a_command_handles_or_ignores_is_left_to_it() {
    let user = User::with_busybox();
    let handles = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    assert_eq!(run_and_signal(&user, handles, Signal::TERM), Some(9));
    assert_eq!(run_and_signal(&user, "trap '' INT; echo ready; sleep 1; exit 4", Signal::INT), Some(4));
    assert_eq!(run_and_signal(&user, "echo ready; sleep 1; exit 5", Signal::WINCH), Some(5));
}

#[test]
fn sigkill_of_the_builder_ends_the_step() {
    let (project, mark) = sleeper();
    let mut running = project.start();
    running.wait_for("ready");
    running.signal(Signal::KILL);
    running.wait();
    gone(&mark);
    works_again(project);
}

#[test]
fn sigint_while_prune_waits_ends_it_and_removes_nothing() {
    let (project, mark) = sleeper();
    let mut building = project.start();
    building.wait_for("ready");
    let mut pruning = project.user().coracle(["prune", "--all"]).start();
    pruning.wait_for("waiting for other processes");
    pruning.signal(Signal::INT);
    let outcome = pruning.wait();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(130), ""), "{outcome}");
    building.signal(Signal::TERM);
    building.wait();
    project.user().has_nothing_left_of(&mark);
    works_again(project);
}

#[test]
fn sigint_while_prune_removes_leaves_a_cache_mount_whole_or_none() {
    let user = User::with_busybox();
    // All that there is, or nothing; and then all.
    let step = "RUN --mount=type=cache,target=/c n=$(ls /c | wc -l); case $n in 0|2000) ;; *) echo $n; exit 1;; esac; \
        [ $n != 0 ] || seq 2000 | sed 's,^,/c/,' | xargs touch";
    let project = Project::of(&user).arg("--no-cache").dockerfile(&format!("FROM busybox\n{step}\n"));
    for round in 0..16 {
        project.build().succeeds();
        let pruning = user.coracle(["prune", "--all"]).start();
        thread::sleep(Duration::from_millis(4 * round));
        pruning.signal(if round % 2 == 0 { Signal::INT } else { Signal::KILL });
        pruning.wait();
    }
    project.build().succeeds();
}

// Any of the processes between the builder and the step.
#[test]
fn sigkill_of_any_process_ends_the_step() {
    let (project, mark) = sleeper();
    for victim in 0.. {
        let mut running = project.start();
        running.wait_for("ready");
        let ours = ours(running.id());
        let Some(&pid) = ours.get(victim) else {
            running.signal(Signal::KILL);
            running.wait();
            break;
        };
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, Signal::KILL).expect("a process of ours");
        assert_ne!(running.wait().code(), Some(0));
        gone(&mark);
    }
    works_again(project);
}

#[test]
fn sigkill_at_any_time_leaves_a_store_that_works() {
    let project = Project::new().file("a", vec![b'x'; 300_000]).dockerfile(
        "
        FROM busybox AS a
        COPY a /a
        RUN cp /a /b && rm /a
        FROM busybox
        COPY --from=a /b /
        RUN echo $((6 * 7)) >/answer
        ",
    );
    for step in 0..20 {
        let running = project.clone().arg("--no-cache").start();
        thread::sleep(Duration::from_millis(30 + 17 * step));
        running.signal(Signal::KILL);
        running.wait();
    }
    project.build().succeeds().has_file("answer", "42\n");
    project.user().coracle(["prune"]).run().succeeds();
    project.arg("--no-cache").build().succeeds().has_file("answer", "42\n");
}

/// Waits for the processes with `mark` to end; the kernel kills them, but not before our call returns.
/// The processes below `pid` but for the step's two sleeps, nearest first: without those, the step goes on.
fn ours(pid: u32) -> Vec<i32> {
    let begin = Instant::now();
    loop {
        // A shell that has said "ready" may not have become its sleep yet.
        let (sleeps, ours): (Vec<_>, Vec<_>) = descendants(pid).into_iter().partition(|pid| is_sleep(*pid));
        if sleeps.len() == 2 {
            return ours;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "sleeps: {sleeps:?}, others: {ours:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process is one of the sleeps in the step.
fn is_sleep(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
}

/// The processes below `pid`, nearest first.
fn descendants(pid: u32) -> Vec<i32> {
    let children = |pid: i32| -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    };
    let mut found = children(i32::try_from(pid).expect("a process id"));
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

// Not only RUN: what is copied or packed at the moment.
#[test]
fn an_interrupted_copy_or_packing_tags_nothing() {
    for wait in ["[0 1/1] COPY", "#1 DONE"] {
        let project = Project::new().dockerfile("FROM scratch\nCOPY big /big");
        let big = std::fs::File::create(project.path("big")).unwrap();
        big.set_len(2 << 30).unwrap();
        let mut running = project.start();
        running.wait_for(wait);
        let sent = Instant::now();
        running.signal(Signal::INT);
        let outcome = running.wait();
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
        assert_eq!(outcome.code(), Some(130), "{outcome}");
        let images = project.user().coracle(["images"]).run().succeeds();
        assert!(!images.stdout.contains("test:latest"), "{wait}: {}", images.stdout);
    }
}

#[test]
fn a_killed_prune_leaves_a_store_that_works() {
    let user = User::with_busybox();
    let project = Project::of(&user).dockerfile("FROM busybox\nRUN echo one >/one");
    for delay in [0, 2, 5, 10, 20, 40] {
        project.build().succeeds();
        user.coracle(["rmi", "busybox", "test"]).run().succeeds();
        let running = user.coracle(["prune", "--all"]).start();
        thread::sleep(Duration::from_millis(delay));
        running.signal(Signal::KILL);
        running.wait();
        user.pull(&support::base::busybox());
        project.build().succeeds().has_file("one", "one\n").has_file("etc/passwd", &passwd());
    }
}

fn passwd() -> String {
    Image::only(&support::base::busybox()).text("etc/passwd")
}
