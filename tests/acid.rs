//! What RUN steps count on: tests/environments/acid, in each mode. acid1 installs packages with demanding scripts, acid2 checks 27
//! behaviours of users, owners, modes and devices.
//!
//! Needs root, runc and a network that reaches the archive of Debian.

mod support;

use std::collections::BTreeSet;
use std::fs;

use support::environment::{Environment, Visit, can_be_made, can_install, in_each};
use support::{base, root, set_mode};

/// Places, one for each way in which a mode works, with what may fail there, and why.
const MAY_FAIL: &[(&str, &[(&str, &str)])] = &[
    ("host-subuid", &[]),
    ("host-nosubuid", &[]),
    ("k8s-nonroot-nnp-unconfined", &[]),
    ("docker-default", &[]),
    ("k8s-hostusers-false", &[]),
];

const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
COPY acid /acid
RUN /acid/acid1.sh || true
RUN ACID_NOT=mknod-null /acid/acid2.sh || true
";

/// By itself: where ids are real, a build that makes a device begins again with emulated ones.
const DEVICE: &str = "\
FROM debian:bookworm-slim
COPY acid /acid
RUN ACID_ONLY=mknod-null /acid/acid2.sh || true
";

/// Checks of acid1 and acid2 together, without that one.
const CHECKS: usize = 12 + 26;

#[test]
fn steps_find_what_they_count_on_in_every_mode() {
    if !can_be_made() || !can_install() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    let acid = context.path().join("acid");
    fs::create_dir(&acid).expect("a folder");
    for name in ["acid1.sh", "acid2.sh", "lib.sh"] {
        fs::copy(root().join("tests/environments/acid").join(name), acid.join(name)).expect("a script");
    }
    fs::write(context.path().join("Dockerfile"), DOCKERFILE).expect("a file");
    fs::write(context.path().join("Dockerfile.device"), DEVICE).expect("a file");
    set_mode(context.path(), 0o755);
    let places: Vec<Environment> = MAY_FAIL.iter().map(|(name, _)| Environment::named(name)).collect();
    let wrong: Vec<String> = in_each(&places, |place| {
        let visit = Visit { base: base::debian(), ..Visit::with_busybox(context.path()) };
        let found = place.visit(
            &visit
                .call("pull", "coracle pull oci:/base")
                .call("build", "coracle build --progress plain /context")
                .call("device", "coracle build --progress plain -f /context/Dockerfile.device /context"),
        );
        let built = &found["build"];
        if built.status != 0 {
            return vec![format!("{}: {built}", place.name)];
        }
        let device = &found["device"];
        let mut wrong = verdicts(place, &built.stderr);
        if !device.stderr.contains("ok   mknod-null") {
            wrong.push(format!("{}: mknod-null fails: {device}", place.name));
        }
        wrong
    })
    .into_iter()
    .flat_map(|(_, wrong)| wrong)
    .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns what is not as the table says.
fn verdicts(place: Environment, said: &str) -> Vec<String> {
    // "#2 12.345 ok   useradd", "#2 12.345 FAIL su-denied: why"
    let lines = || said.lines().filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2));
    let passed: BTreeSet<&str> = lines().filter_map(|line| line.strip_prefix("ok ")).map(str::trim).collect();
    let failed: Vec<(&str, &str)> = lines().filter_map(|line| line.strip_prefix("FAIL ")?.split_once(": ")).collect();
    let (_, allowed) = MAY_FAIL.iter().find(|(name, _)| *name == place.name).expect("a place of the table");
    let mut wrong = Vec::new();
    for (name, why) in &failed {
        if !allowed.iter().any(|(allowed, _)| allowed == name) {
            wrong.push(format!("{}: {name} fails: {why}", place.name));
        }
    }
    for (name, _) in allowed.iter().filter(|(name, _)| passed.contains(name)) {
        wrong.push(format!("{}: {name} now passes: take it off the list", place.name));
    }
    let seen = passed.len() + failed.len();
    if seen != CHECKS {
        wrong.push(format!("{}: {seen} checks of {CHECKS} were made:\n{said}", place.name));
    }
    wrong
}
