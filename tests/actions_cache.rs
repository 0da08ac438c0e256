//! Results of steps in the cache of GitHub's Actions: an empty store replays a build from it.

mod support;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::actions::{Actions, refusal, token};
use support::service::Reply;
use support::{Built, Project};

/// Two stages: the first one's result is only copied from.
const DOCKERFILE: &str = "
    FROM busybox AS construct
    RUN head -c 8000000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/made
    FROM busybox
    COPY --from=construct /made /made
    RUN cat /proc/sys/kernel/random/uuid >/id
";

fn project() -> Project {
    Project::new().dockerfile(DOCKERFILE)
}

fn small() -> Project {
    Project::new().dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n")
}

fn on_main() -> String {
    token(&[("refs/heads/main", 3)])
}

/// Builds as a step of a job.
fn build(actions: &Actions, token: &str, project: &Project) -> Built {
    let call =
        project.call().arg("--retry-delay=10ms").env("ACTIONS_RESULTS_URL", &format!("{}/", actions.service.url()));
    project.built(call.env("ACTIONS_RUNTIME_TOKEN", token).run()).stderr_has_no(token).stderr_has_no("sig=")
}

#[test]
fn an_empty_store_replays_a_whole_build() {
    let actions = Actions::new();
    let job = |project: &Project| build(&actions, &on_main(), project);
    let image = job(&project().arg("--cache-to=type=gha,mode=max,scope=web")).stderr_has_no("warning").succeeds();
    let keys = actions.keys();
    // For each of three layers its files and its index, a list, and the manifest.
    assert_eq!(keys.len(), 3 * 2 + 1 + 1, "{keys:#?}");
    let list = keys.iter().find(|key| key.starts_with("coracle-cache-1-web-")).expect("a manifest");
    assert!(list.ends_with("#1"), "{list}");
    actions.service.taken();
    let both = project().arg("--cache-from=type=gha,scope=web").arg("--cache-to=type=gha,mode=max,scope=web");
    let again = job(&both).stderr_has_no("warning").cached(3).succeeds();
    assert_eq!(image.digest(), again.digest());
    // The layer of the other stage does not move, in neither direction.
    let calls = actions.service.taken();
    assert!(calls.iter().all(|call| call.body.len() < 100_000), "it is not sent again");
    let entries = actions.entries.lock().expect("no panic");
    let heavy = entries.iter().position(|entry| entry.bytes.len() > 7_000_000).expect("a layer");
    assert!(calls.iter().all(|call| call.path != format!("/store/blob{heavy}")), "nobody needs it");
    drop(entries);
    // Another number for another list.
    assert!(actions.keys().iter().any(|key| *key == list.replace("#1", "#2")));
    job(&project().arg("--cache-from=type=gha"))
        .stderr_has("there is no cache in the cache of GitHub Actions")
        .cached(0);
}

#[test]
fn a_branch_sees_the_cache_of_main_and_main_not_that_of_a_branch() {
    let actions = Actions::new();
    let topic = token(&[("refs/heads/topic", 3), ("refs/heads/main", 1)]);
    let (to, from) = ("--cache-to=type=gha", "--cache-from=type=gha");
    build(&actions, &on_main(), &small().arg(to)).succeeds();
    let changed = || Project::new().dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id # changed\n");
    build(&actions, &topic, &small().arg(from)).cached(1).succeeds();
    build(&actions, &topic, &changed().arg(from).arg(to)).cached(0).succeeds();
    build(&actions, &topic, &changed().arg(from)).cached(1).succeeds();
    build(&actions, &topic, &small().arg(from)).cached(1).succeeds();
    build(&actions, &on_main(), &changed().arg(from)).cached(0).succeeds();
    // Who may only read is told so.
    let reader = token(&[("refs/heads/main", 1)]);
    build(&actions, &reader, &small().arg(from).arg(to)).stderr_has("is not written").cached(1).succeeds();
}

#[test]
fn a_large_layer_goes_in_blocks() {
    let actions = Actions::new();
    let dockerfile = "FROM busybox\nRUN head -c 70000000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/made\n";
    let first = Project::new().dockerfile(dockerfile).arg("--compression=none").arg("--cache-to=type=gha");
    let before = build(&actions, &on_main(), &first).stderr_has_no("warning").succeeds();
    let calls = actions.service.taken();
    assert_eq!(calls.iter().filter(|call| call.value("comp").as_deref() == Some("block")).count(), 3);
    let second = format!("{dockerfile}RUN head -c 8 /heavy | base64 >/again && rm /heavy\n");
    let second = Project::new().dockerfile(&second).arg("--cache-from=type=gha");
    let after = build(&actions, &on_main(), &second).cached(1).succeeds();
    assert_eq!(before.text("made"), after.text("again"));
}

#[test]
fn steps_before_a_failure_are_written_too() {
    let actions = Actions::new();
    let fails = || Project::new().dockerfile("FROM busybox\nRUN echo a >/a\nRUN exit 7\n");
    build(&actions, &on_main(), &fails().arg("--cache-to=type=gha")).fails(1);
    build(&actions, &on_main(), &fails().arg("--cache-from=type=gha")).cached(1).fails(1);
}

#[test]
fn outside_of_github_the_missing_variables_are_named() {
    let project = small().arg("--cache-from=type=gha").arg("--cache-to=type=gha");
    let built =
        project.build().stderr_has("cache gha:coracle is not used").stderr_has("cache gha:coracle is not written");
    let built = built.stderr_has("url_v2= (or ACTIONS_RESULTS_URL) and token= (or ACTIONS_RUNTIME_TOKEN) are not set");
    built.succeeds();
    small().arg("--cache-to=type=gha,version=1,token=hunter2").build().fails(2).stderr_has_no("hunter2");
}

#[test]
fn what_another_job_writes_is_left_to_it() {
    let actions = Actions::with({
        let first = AtomicUsize::new(0);
        move |call| {
            let creates = call.path.ends_with("/CreateCacheEntry");
            // The list is the first, and two more jobs write theirs at the same moment.
            let is_list = String::from_utf8_lossy(&call.body).contains("coracle-cache-1");
            let taken = creates && is_list && first.fetch_add(1, Ordering::SeqCst) < 2;
            taken.then(|| Reply::new(200, "{}"))
        }
    });
    build(&actions, &on_main(), &small().arg("--cache-to=type=gha")).stderr_has_no("warning").succeeds();
    assert!(actions.keys().iter().any(|key| key.ends_with("#3")), "{:#?}", actions.keys());
    build(&actions, &on_main(), &small().arg("--cache-from=type=gha")).cached(1).succeeds();
}

#[test]
fn a_number_behind_which_there_is_none_is_a_warning() {
    let actions = Actions::new();
    let project = small().arg("--cache-to=type=gha");
    build(&actions, &on_main(), &project).stderr_has_no("is not written").succeeds();
    let last = format!("#{}", u64::MAX);
    for entry in actions.entries.lock().expect("no panic").iter_mut() {
        entry.key = entry.key.replace("#1", &last);
    }
    assert!(actions.keys().iter().any(|key| key.ends_with(&last)), "{:#?}", actions.keys());
    build(&actions, &on_main(), &project).stderr_has("no free name").succeeds();
}

#[test]
fn who_asks_too_often_waits() {
    let asked: Mutex<HashMap<(String, Vec<u8>), usize>> = Mutex::default();
    let actions = Actions::with(move |call| {
        let mut asked = asked.lock().expect("no panic");
        let times = asked.entry((call.path.clone(), call.body.clone())).or_default();
        *times += 1;
        (*times < 3).then(|| refusal(429, "resource_exhausted", "Request was throttled."))
    });
    let project = small().arg("--cache-to=type=gha");
    build(&actions, &on_main(), &project).stderr_has_no("is not written").succeeds();
}

#[test]
fn a_token_that_is_over_and_a_service_that_is_gone() {
    let actions = Actions::with(|_| Some(refusal(401, "unauthenticated", "token has expired")));
    let project = small().arg("--cache-from=type=gha").arg("--cache-to=type=gha");
    let built = build(&actions, &on_main(), &project).stderr_has("is not used").stderr_has("is not written");
    let built = built.stderr_has("refuses: unauthenticated, token has expired (401)");
    built.stderr_has("is the token that of this job").succeeds();
    let project = small().arg("--cache-to=type=gha,ignore-error=false");
    build(&actions, &on_main(), &project).fails(4);
}

#[test]
fn a_service_that_takes_too_long_is_left_alone() {
    let actions = Actions::with(|_| Some(Reply { late: Duration::from_secs(20), ..Reply::new(200, "{}") }));
    let project = small().arg("--cache-from=type=gha,timeout=1s").arg("--cache-to=type=gha,timeout=1s");
    let built = build(&actions, &on_main(), &project).takes_at_most(Duration::from_secs(15));
    built.stderr_has("took longer than 1 s: timeout= says how long it may take").succeeds();
}

#[test]
fn where_the_connection_breaks_it_goes_on() {
    let actions = Actions::with(|_| None);
    build(&actions, &on_main(), &project().arg("--cache-to=type=gha,mode=max")).succeeds();
    let entries = actions.entries.lock().expect("no panic").clone();
    let bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.bytes.clone()).collect();
    let broken = Actions::with(move |call| {
        let number: usize = call.path.strip_prefix("/store/blob")?.parse().ok()?;
        let cuts = call.method == "GET"
            && call.header("range").is_empty()
            && bytes[number].len() > 200
            && bytes[number][0] != b'{';
        cuts.then(|| Reply { cut: Some(100), ..Reply::new(200, bytes[number].clone()) })
    });
    *broken.entries.lock().expect("no panic") = entries;
    let third = Project::new().dockerfile(&format!("{DOCKERFILE}    COPY --from=construct /heavy /\n"));
    let built = build(&broken, &on_main(), &third.arg("--cache-from=type=gha"));
    built.stderr_has_no("cannot be had").cached(3).succeeds();
    assert!(broken.service.taken().iter().any(|call| call.header("range") == "bytes=100-"));
}
