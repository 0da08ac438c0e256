//! What needs no namespace works where nothing may be had: each verb, in the closed places of tests/environments, without a home
//! and without a name.
//!
//! Needs root and runc.

mod support;

use std::fs;

use support::environment::{Environment, Visit, can_be_made, in_each};
use support::registry::Registry;

const CLOSED: [&str; 3] = ["k8s-restricted", "openshift-restricted", "readonly-rootfs"];

/// The names of the verbs, as `coracle help` lists them, that have no line below, and why.
const ELSEWHERE: [(&str, &str); 3] =
    [("run", "needs an isolation"), ("unshare", "makes a user namespace"), ("help", "comes from clap")];

fn calls(registry: &str) -> Vec<(&'static str, String)> {
    let lines = [
        ("version", "coracle version"),
        ("doctor", "coracle doctor --json"),
        ("info", "coracle info"),
        ("pull", "coracle pull oci:/base"),
        ("build", "coracle build --progress plain -t made /context"),
        ("build-check", "coracle build --check /context"),
        ("build-plan", "coracle build --plan /context"),
        ("build-call", "coracle build --call=outline /context"),
        ("images", "coracle images"),
        ("inspect", "coracle inspect made"),
        ("history", "coracle history made"),
        ("diff", "coracle diff busybox made"),
        ("tag", "coracle tag made other:1"),
        ("untag", "coracle untag other:1"),
        ("save", "coracle save -o saved.tar made"),
        ("load", "coracle load -i saved.tar"),
        ("copy", "coracle copy made oci:layout:made"),
        ("copy-archive", "coracle copy oci:layout:made docker-archive:docker.tar"),
        ("inspect-place", "coracle inspect oci:layout:made"),
        ("push-place", "coracle push made dir:dir"),
        (
            "login",
            "sh -c 'echo secret | coracle login --tls-verify=false --authfile auth.json -u me --password-stdin REGISTRY'",
        ),
        ("push", "coracle push --tls-verify=false made docker://REGISTRY/made:1"),
        ("pull-again", "coracle pull --tls-verify=false docker://REGISTRY/made:1"),
        (
            "lock",
            "sh -c 'mkdir locked; echo FROM REGISTRY/made:1 >locked/Dockerfile; coracle lock --tls-verify=false locked'",
        ),
        ("bundle", "coracle bundle create --tls-verify=false --output bundle.tar locked"),
        ("bundle-ls", "coracle bundle ls bundle.tar"),
        ("build-bundle", "coracle build --progress plain --bundle bundle.tar locked"),
        ("inspect-remote", "coracle inspect --tls-verify=false docker://REGISTRY/made:1"),
        ("logout", "coracle logout --authfile auth.json REGISTRY"),
        ("manifest", "coracle manifest create list made"),
        ("manifest-inspect", "coracle manifest inspect list"),
        ("manifest-push", "coracle manifest push list oci:layout:list"),
        ("manifest-rm", "coracle manifest rm list"),
        ("cache", "coracle cache ls"),
        ("context", "coracle context ls /context"),
        ("df", "coracle df"),
        ("rmi", "coracle rmi made"),
        ("prune", "coracle prune --all"),
    ];
    lines.into_iter().map(|(name, line)| (name, line.replace("REGISTRY", registry))).collect()
}

#[test]
fn every_verb_but_run_works_where_nothing_is_allowed() {
    if !can_be_made() {
        return;
    }
    let registry = Registry::new();
    let host = registry.host();
    let context = tempfile::tempdir_in("/var/tmp").expect("a folder on the disk");
    fs::write(context.path().join("Dockerfile"), "FROM busybox\nCOPY --chown=7:8 one /one\n").expect("a file");
    fs::write(context.path().join("one"), "one").expect("a file");
    support::set_mode(context.path(), 0o755);
    let visit = |place: Environment| {
        let mut visit = Visit::with_busybox(context.path());
        visit.before = "unset HOME XDG_RUNTIME_DIR\n";
        for (name, line) in calls(&host) {
            visit = visit.call(name, &line);
        }
        place.visit(&visit)
    };
    let mut wrong = Vec::new();
    for (place, found) in in_each(&CLOSED.map(Environment::named), visit) {
        for (name, call) in found.iter().filter(|(_, call)| call.status != 0) {
            wrong.push(format!("{} {name}: {call}", place.title()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_verb_is_left_out() {
    let help = support::User::new().coracle(["help"]).run().succeeds().stdout;
    let commands = help.split_once("Commands:\n").and_then(|(_, rest)| rest.split_once("\n\n")).expect("a list").0;
    let tried: Vec<String> = calls("REGISTRY").into_iter().map(|(_, line)| line).collect();
    for verb in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        let has_line = tried.iter().any(|line| line.contains(&format!("coracle {verb}")));
        assert!(has_line || ELSEWHERE.iter().any(|(name, _)| *name == verb), "`{verb}` is tried nowhere");
    }
}
