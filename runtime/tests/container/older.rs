//! The same cases as on older kernels, which no machine with a current one is: what is tried there first fails, and the older way is taken.

use std::process::{Command, ExitCode};

use crate::kernels::{self, Kernel, Users};
use crate::place::Place;
use crate::{Case, basics, calls, chroot, emulation, isolation, lifetime, links, mounts, place};

const AS_ON: &str = ", as on ";

/// Where each is played: users with all ids and with one, and where there are no namespaces for steps.
const PLACES: &[(&str, &Kernel)] = &[
    ("user", &kernels::LINUX_5_14),
    ("user, single id", &kernels::LINUX_5_14),
    ("user, masked proc", &kernels::LINUX_5_14),
    ("user, single id, masked proc", &kernels::LINUX_5_14),
    ("docker-default", &kernels::LINUX_5_14),
    ("user, single id", &kernels::LINUX_6_12),
    ("user", &kernels::SANDBOX),
    ("user, followed", &kernels::SANDBOX),
    ("user, followed", &kernels::LINUX_6_12),
    ("user", &kernels::INITRAMFS),
    ("user, single id", &kernels::INITRAMFS),
    ("docker-default", &kernels::SANDBOX),
];

/// Cases that say nothing about kernels and take long, or want a process that has just been started; and one that has no remedy before
/// Linux 5.19: a call that a signal interrupts is made again.
const LEFT_OUT: &[&str] = &[
    "open files",
    "takes about two milliseconds",
    "at any moment",
    "five hundred layers",
    "are out of reach",
    "what calls cost",
    "makes calls all the time",
    "a thousand forks",
    "many at once",
    "signals while calls wait",
    "names that change",
    "who sees what of a process",
];

/// Cases in which a step makes a call that a sandbox refuses it.
const BY_OPENAT2: &[&str] = &["whom new files belong to", "arguments that make no sense"];

/// What takes seconds, because the kernel unmounts them slowly; and where it is done nevertheless.
const MANY_LAYERS: &[&str] = &["a hundred layers"];
const MANY_LAYERS_IN: &str = "user, as on an initramfs";

/// Returns the names of the places.
pub fn places() -> Vec<String> {
    if !kernels::is_possible() {
        println!("older kernels: not tested: they are played on x86-64 only");
        assert!(std::env::var_os("CI").is_none(), "CI needs x86-64");
        return vec![];
    }
    PLACES.iter().map(|(place, kernel)| format!("{place}{AS_ON}{}", kernel.name)).collect()
}

/// Whether nobody has to be root outside to make the place.
pub fn is_for_everybody(place: &str) -> bool {
    !place::is_chroot(place) && !place.contains("masked")
}

/// Returns the kernel of a place.
pub fn kernel_of(place: &str) -> Option<&'static Kernel> {
    let (_, name) = place.split_once(AS_ON)?;
    PLACES.iter().map(|(_, kernel)| *kernel).find(|kernel| kernel.name == name)
}

/// Returns the cases for a place.
pub fn cases(place: &str) -> Vec<Case> {
    let is_on = |kernel: &Kernel| place.ends_with(kernel.name);
    let all: &[&[Case]] = match place {
        place if place::is_chroot(place) => &[calls::CASES, chroot::CASES],
        place if place.contains("masked") => &[isolation::CASES],
        _ if is_on(&kernels::LINUX_6_12) => &[basics::CASES, isolation::CASES, mounts::CASES],
        _ if is_on(&kernels::SANDBOX) => &[isolation::CASES, links::CASES, mounts::CASES],
        _ if is_on(&kernels::INITRAMFS) => {
            &[basics::CASES, isolation::CASES, links::CASES, mounts::CASES, calls::CASES, emulation::CASES]
        }
        _ => &[
            basics::CASES,
            isolation::CASES,
            links::CASES,
            mounts::CASES,
            lifetime::CASES,
            calls::CASES,
            emulation::CASES,
        ],
    };
    let by_openat2 = if kernel_of(place).is_some_and(Kernel::hides_openat2) { BY_OPENAT2 } else { &[] };
    let many = if place == MANY_LAYERS_IN { &[] } else { MANY_LAYERS };
    let is_wanted = |(name, _): &Case| !LEFT_OUT.iter().chain(by_openat2).chain(many).any(|part| name.contains(part));
    let mut cases: Vec<Case> = all.concat().into_iter().filter(is_wanted).collect();
    cases.push(("what a step sees is what it sees on the kernel of now", same_sight));
    cases
}

/// Runs the cases on `kernel`, from the user namespace that they want.
pub fn run(kernel: &Kernel, place: &str, filter: Option<&str>) -> ExitCode {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--older", place]).args(filter);
    if let Some(here) = Place::new(place) {
        command.env(SIGHT, sight(&here));
    }
    let (code, refused) = kernel.run(&mut command).unwrap_or_else(|error| panic!("{place}: {error}"));
    println!("{place}: refused: {refused:?}");
    // A chroot has no mounts.
    let users = if place.contains("single") { Users::Emulated } else { Users::Real };
    let unmet = if place::is_chroot(place) { vec![] } else { kernel.unmet(&refused, users) };
    if filter.is_none() && !unmet.is_empty() {
        println!("{place}: nobody tried what is not there: {unmet:?}\n");
        return ExitCode::FAILURE;
    }
    if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a step says that sees what it should see.
const SIGHT: &str = "SIGHT";

/// Returns what a step sees of the kernel: mounts, devices, what is hidden in /proc and /sys, and what it may do.
fn sight(place: &Place) -> String {
    let script = "
        cat /proc/self/mountinfo
        grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
        for file in /dev/* /dev/shm/. /proc/* /proc/bus/. /proc/sys/. /sys/* /sys/firmware/. /sys/kernel/* /sys/fs/*; do
            case $file in
                /proc/[0-9]*|/proc/self|/proc/thread-self|/proc/mounts|/proc/net) ;;
                *) stat -c 'file %n %F %t:%T %a %u:%g' $file ;;
            esac
        done
        stat -f -c 'kind %n %T %S' / /dev /dev/shm /proc /sys /sys/firmware /proc/scsi 2>/dev/null
        for dir in /proc/scsi /proc/acpi /sys/firmware /sys/fs/bpf /sys/kernel/debug; do ls -A $dir 2>/dev/null | wc -l; done
        for dir in /proc/bus /proc/sys /sys/firmware /sys/kernel; do touch $dir/made 2>&1; done
        true";
    let text = place.shell(script).prints();
    let mut lines: Vec<String> = text.lines().map(as_everywhere).collect();
    // Mounts are listed in the order in which they were made.
    lines.sort_unstable();
    lines.join("\n")
}

/// Returns a line of [`sight`] without what is another thing each time: numbers of mounts and devices, and the layers.
fn as_everywhere(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let Some(dash) = fields.iter().position(|field| *field == "-") else { return line.into() };
    assert_eq!(dash, 6, "it gets nothing of what is mounted elsewhere: {line}");
    match fields[dash + 1] {
        "overlay" => format!("mount {}", fields[3..=dash + 1].join(" ")),
        _ => format!("mount {}", fields[3..].join(" ")),
    }
}

fn same_sight(place: &Place) {
    if place::is_chroot(&place.name) {
        return;
    }
    let expected = std::env::var(SIGHT).expect("what it sees without");
    assert!(expected.lines().count() > 60, "{expected}");
    let seen = sight(place);
    let only = |these: &str, those: &str| -> Vec<String> {
        these.lines().filter(|line| !those.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    assert_eq!((only(&seen, &expected), only(&expected, &seen)), (vec![], vec![]), "more, and less");
    assert_eq!(seen, expected);
}
