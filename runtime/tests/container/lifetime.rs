//! Nothing of a step outlives it, however it ends and whoever is killed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use coracle_runtime::RuntimeError;
use coracle_runtime::container::{ContainerSpec, Control, Exit, Io, run};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("processes left behind end with the step", left_behind),
    ("kill ends a step at once, and those to come", control_kill),
    ("a step without output is killed as well", silent_kill),
    ("killing the builder leaves no process", builder_killed),
    ("killing a process between builder and command leaves no process", between_killed),
    ("a panic in the reader of the output leaves no process", panic_in_output),
    ("a step can be killed at any moment", any_moment),
    ("steps that follow each other come from one process", one_nursery),
    ("what can not be made ahead of a step is made when it comes", scarce_processes),
];

/// Process numbers whose command line holds `text`.
fn found(text: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("reads /proc");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
        })
        .collect()
}

/// The processes of this one from which steps come that follow others, in the order of their numbers.
pub fn nurseries() -> Vec<u32> {
    let mut found = found("coracle-step\0nursery");
    found.retain(|pid| parent(*pid) == Some(std::process::id()));
    found.sort_unstable();
    found
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Waits until `done`; fails after two seconds.
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within two seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A step with processes that nobody else has, and the text to find them by.
fn sleeper(place: &Place) -> (Step, String) {
    let mark = place.dir("mark").file_name().expect("has a name").to_string_lossy().into_owned();
    let mark = format!("{mark}-{}", std::process::id());
    let script = format!(": {mark}; setsid sh -c ': {mark}; sleep 1000; :' & sh -c ': {mark}; sleep 1000; :'; :");
    (place.shell(&script), mark)
}

/// The command, process 1 of its namespace: the one of those found whose parent is a process of ours.
fn command_of(mark: &str) -> Option<u32> {
    let all = found(mark);
    all.iter().copied().find(|pid| {
        // Not the builder, which holds the mark in its spec only.
        parent(*pid).is_some_and(|parent| !all.contains(&parent) && name(parent).contains("coracle-step"))
    })
}

fn name(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline")).map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default()
}

fn left_behind(place: &Place) {
    let (mut step, mark) = sleeper(place);
    step.spec.args = place.shell(&format!("sh -c ': {mark}; sleep 1000; :' >/dev/null 2>&1 & echo done")).spec.args;
    let start = Instant::now();
    assert_eq!(step.prints(), "done");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(found(&mark), [0; 0], "none, at the very moment that the step has ended");
    // With its output still open.
    step.spec.args = place.shell(&format!("sh -c ': {mark}; sleep 1000; :' & echo done")).spec.args;
    assert_eq!(step.prints(), "done");
    assert_eq!(found(&mark), [0; 0]);
}

fn control_kill(place: &Place) {
    let (step, mark) = sleeper(place);
    let control = Control::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| step.try_run(&control).map(|done| done.exit()));
        soon("the step starts", || found(&mark).len() == 3);
        let start = Instant::now();
        control.kill();
        assert_eq!(running.join().expect("ends"), Err(RuntimeError::Interrupted));
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(found(&mark), [0; 0], "none, at the very moment that run returns");
    });
    assert!(control.cancelled());
    assert_eq!(step.try_run(&control).map(|done| done.exit()), Err(RuntimeError::Interrupted));
}

fn silent_kill(place: &Place) {
    let (step, mark) = sleeper(place);
    let control = Control::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&step.spec, Io::Inherit, &control).map(|done| done.exit));
        soon("the step starts", || found(&mark).len() == 3);
        control.kill();
        assert_eq!(running.join().expect("ends"), Err(RuntimeError::Interrupted));
        assert_eq!(found(&mark), [0; 0]);
    });
}

/// The builder of [`builder_killed`]: runs the step whose spec is in `file`.
pub fn victim(file: &Path) -> ! {
    let spec: ContainerSpec = serde_json::from_slice(&fs::read(file).expect("reads the spec")).expect("a spec");
    let ended = run(&spec, Io::Inherit, &Control::new());
    std::process::exit(i32::from(ended.is_err()));
}

fn start_victim(place: &Place, step: &Step) -> Child {
    let file = place.dir("victim").join("spec");
    fs::write(&file, serde_json::to_vec(&step.spec).expect("serializes")).expect("writes");
    Command::new("/proc/self/exe").arg("--victim").arg(file).stdin(Stdio::null()).spawn().expect("starts")
}

fn builder_killed(place: &Place) {
    let (step, mark) = sleeper(place);
    let mut victim = start_victim(place, &step);
    soon("the step starts", || found(&mark).len() == 3);
    victim.kill().expect("kills");
    victim.wait().expect("ends");
    soon("all of the step end", || found(&mark).is_empty());
    soon("S0 ends", || !found("coracle-step").iter().any(|pid| parent(*pid) == Some(victim.id())));
    place.step(&["true"]).prints();
}

fn between_killed(place: &Place) {
    // How far above the command: I, the nursery (in a chroot S1, S0); and the command itself.
    for above in [1, 2, 0] {
        let (step, mark) = sleeper(place);
        let control = Control::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| step.try_run(&control).map(|done| done.exit()));
            soon("the step starts", || found(&mark).len() == 3);
            let command = command_of(&mark).expect("the command");
            let target = (0..above).fold(command, |pid, _| parent(pid).expect("a parent"));
            assert_eq!(above > 0, name(target).contains("coracle-step"), "{above}: {}", name(target));
            let pid = Pid::from_raw(target.cast_signed()).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kills");
            let ended = running.join().expect("ends");
            assert_eq!(found(&mark), [0; 0], "{above}");
            match above {
                0 => assert_eq!(ended, Ok(Exit::Signal(libc::SIGKILL))),
                _ => {
                    let text = ended.err().map(|error| error.to_string());
                    let role = ["process 1 of the step", "coracle-step"][above - 1];
                    assert_eq!(text, Some(format!("{role} was killed (signal 9)")));
                }
            }
        });
    }
}

fn panic_in_output(place: &Place) {
    let (mut step, mark) = sleeper(place);
    step.spec.args = place.shell(&format!("echo; : {mark}; sleep 1000; :")).spec.args;
    let result = std::panic::catch_unwind(|| {
        let mut on_output = |_, _: &[u8]| std::panic::resume_unwind(Box::new("on purpose"));
        run(&step.spec, Io::Capture { on_output: &mut on_output, following: 0 }, &Control::new())
    });
    assert!(result.is_err());
    soon("the step ends", || found(&mark).is_empty());
}

fn any_moment(place: &Place) {
    for microseconds in (0..6000).step_by(150) {
        let (step, mark) = sleeper(place);
        let control = Control::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| step.try_run(&control).map(|done| done.exit()));
            std::thread::sleep(Duration::from_micros(microseconds));
            control.kill();
            assert_eq!(running.join().expect("ends"), Err(RuntimeError::Interrupted));
        });
        assert_eq!(found(&mark), [0; 0]);
    }
    let ours = |pid: &u32| parent(*pid) == Some(std::process::id());
    let mut left = found("coracle-step").into_iter().filter(ours);
    // Where steps follow, this thread has a process from which they come.
    let nursery = if place.step(&[]).following > 0 { left.next() } else { None };
    assert_eq!(left.next(), None, "no zombie either; {nursery:?}");
}

fn one_nursery(place: &Place) {
    let step = |following| Step { following, ..place.shell("echo fine") };
    let others = nurseries();
    assert_eq!(step(3).prints(), "fine");
    let first = nurseries();
    for following in [2, 1] {
        assert_eq!(step(following).prints(), "fine");
        assert_eq!(nurseries(), first);
    }
    assert_eq!(step(0).prints(), "fine");
    let left = nurseries();
    assert!(left.len() < first.len() && left.iter().all(|pid| others.contains(pid)), "{others:?}, {first:?}, {left:?}");
}

/// Where a user may have no more processes for a while, which is when the next steps get ready, no step fails for it.
fn scarce_processes(place: &Place) {
    let step = |following| Step { following, ..place.shell("echo fine") };
    for limit in 1..=14 {
        assert_eq!(step(3).prints(), "fine");
        // From it supervisors come, from I commands.
        let nursery = nurseries().last().copied().expect("a nursery");
        let init = found("coracle-step\0nursery").into_iter().filter(|pid| parent(*pid) == Some(nursery)).min();
        let makers = [nursery, init.expect("its first child")];
        let makers = makers.map(|pid| Pid::from_raw(pid.cast_signed()).expect("a pid"));
        let old = makers.map(|maker| set_processes(maker, Some(limit), None));
        // Those that get ready beside it can not, at one point or another.
        assert_eq!(step(2).prints(), "fine", "{limit}");
        for (maker, old) in makers.into_iter().zip(old) {
            // Where one was of no use any more, there is another one.
            let _ = prlimit(Some(maker), Resource::Nproc, old);
        }
        for following in [2, 1, 0] {
            assert_eq!(step(following).prints(), "fine", "{limit}, {following} before the last one");
        }
    }
}

/// Sets how many processes the user of a process may have for it to start one more; the hard limit stays.
fn set_processes(pid: Pid, soft: Option<u64>, hard: Option<u64>) -> Rlimit {
    let hard = hard.or(getrlimit(Resource::Nproc).maximum);
    prlimit(Some(pid), Resource::Nproc, Rlimit { current: soft, maximum: hard }).expect("prlimit")
}
