//! What a RUN step that means harm can do: tests/security/probe.pl, in each mode. What is promised, and what is not, is in
//! docs/security.md.
//!
//! Needs root and runc.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use support::environment::{Call, Environment, Mode, Visit, can_be_made, in_each};
use support::{base, root, set_mode};

/// Places: each mode, with a /proc of its own and with the one of outside (a container gets no other).
const PLACES: [&str; 6] = [
    "host-subuid",
    "host-nosubuid",
    "masked-proc",
    "k8s-root-unconfined",
    "k8s-nonroot-nnp-unconfined",
    "docker-default",
];

/// Two stages at the same time: one has secrets in its environment and in a file, the other one looks for them; and once more
/// afterwards.
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim AS other
ARG TOKEN
RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=SECRET TOKEN=$TOKEN sleep 4
FROM debian:bookworm-slim
COPY probe.pl /probe.pl
RUN perl /probe.pl MODE && touch /done
RUN test ! -e /run/secrets && test -z \"$SECRET\" && ! grep -rs canary-s[e]cret /proc/[0-9]*/environ /run /tmp /var/tmp
COPY --from=other /etc/passwd /other
";

/// A victim of the same user, and the user's files.
const BEFORE: &str = "\
mkdir -p home/.docker; HOME=/work/home; export HOME
echo canary-auth >home/.docker/config.json
echo canary-home >home/secret-of-the-user
echo canary-work >secret-of-the-user
VICTIM=canary-victim sleep 1000 &
victim=$!
CANARY=canary-builder; export CANARY
";

/// System calls that are answered in this way in every mode that has a user namespace.
const CALLS: [(&str, &str); 14] = [
    ("keyctl", "EPERM"),
    ("add_key", "EPERM"),
    ("request_key", "EPERM"),
    ("io_uring_setup", "ENOSYS"),
    ("userfaultfd", "EPERM"),
    ("bpf", "EPERM"),
    ("perf_event_open", "EPERM"),
    ("open_by_handle_at", "EPERM"),
    ("unshare", "EPERM"),
    ("mount", "EPERM"),
    ("setns", "EPERM"),
    ("clone3", "ENOSYS"),
    ("init_module", "EPERM"),
    ("tiocsti", "EPERM"),
];

fn probe(place: Environment, context: &Path) -> BTreeMap<String, Call> {
    let visit = Visit { base: base::debian(), before: BEFORE, ..Visit::with_busybox(context) };
    place.visit(
        &visit
            .call("pull", "coracle pull oci:/base")
            .call(
                "context",
                "sh -c 'mkdir ctx; cp /context/probe.pl ctx; sed s/MODE/attack/ /context/Dockerfile >ctx/Dockerfile'",
            )
            .call("build", "env SECRET=canary-secret coracle build --secret id=s,env=SECRET --jobs 2 --build-arg TOKEN=canary-step --progress plain ctx")
            .call("victim", "kill -0 $victim")
            .call("kept", "grep -rl canary-secret store"),
    )
}

#[test]
fn a_step_reaches_nothing_outside_of_it() {
    if !can_be_made() {
        return;
    }
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    fs::copy(root().join("tests/security/probe.pl"), context.path().join("probe.pl")).expect("a script");
    fs::write(context.path().join("Dockerfile"), DOCKERFILE).expect("a file");
    set_mode(context.path(), 0o755);
    let wrong: Vec<String> =
        in_each(&PLACES.map(Environment::named), |place| problems(place, &probe(place, context.path())))
            .into_iter()
            .flat_map(|(place, wrong)| wrong.into_iter().map(move |problem| format!("{}: {problem}", place.title())))
            .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn problems(place: Environment, found: &BTreeMap<String, Call>) -> Vec<String> {
    let build = &found["build"];
    if build.status != 0 || !build.stderr.contains(" end\n") {
        return vec![format!("the probe did not get through: {build}")];
    }
    let lines: Vec<&str> =
        build.stderr.lines().filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2)).collect();
    let mut wrong = Vec::new();
    if found["victim"].status != 0 {
        wrong.push("a process outside was killed".to_owned());
    }
    if found["kept"].status == 0 {
        wrong.push(format!("the secret is in the store: {}", found["kept"].stdout));
    }
    for (name, expected) in CALLS {
        let got = lines.iter().find_map(|line| line.strip_prefix("call ")?.strip_prefix(name)?.strip_prefix(' '));
        // Where the filter of a container comes first, its answer counts.
        let is_refused = matches!(got, Some("EPERM" | "ENOSYS"));
        if got != Some(expected) && !(is_refused && place.mode == Mode::Chroot) {
            wrong.push(format!("{name} is answered with {got:?}, not {expected}"));
        }
    }
    // Chroot mode promises none of it, because root can leave the directory; but by the way of processes it leads nowhere.
    let reached = lines.iter().filter(|line| line.starts_with("REACHED ") || line.starts_with("TOUCHED "));
    wrong.extend(reached.map(|line| (*line).to_owned()));
    wrong
}
