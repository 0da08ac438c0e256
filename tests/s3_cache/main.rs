//! Results of steps in a bucket: an empty store replays a build from it. Against a service in this process that misbehaves, and against
//! moto, with signatures checked by botocore.

#[path = "../support/mod.rs"]
mod support;

mod moto;
mod refusals;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::bucket::{Buckets, ID, SECRET, TOKEN};
use support::service::{Call, Reply};
use support::{Built, Project};

/// Two stages: the first one's result is only copied from.
const DOCKERFILE: &str = "
    FROM busybox AS construct
    COPY source /source
    RUN cat /source /proc/sys/kernel/random/uuid >/made
    FROM busybox
    COPY --from=construct /made /made
    RUN cat /proc/sys/kernel/random/uuid >/id && mkdir -p /d/e && ln -s x /d/l && chmod 4755 /bin/busybox
";

fn project() -> Project {
    Project::new().file("source", "source").dockerfile(DOCKERFILE)
}

/// The result of one stage is copied from, and far smaller than it.
fn heavy(last: &str, megabytes: u32) -> Project {
    Project::new().dockerfile(&format!(
        "FROM busybox AS heavy\nRUN head -c {megabytes}000000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/light\n\
         FROM busybox\nCOPY --from=heavy /light /light\nRUN echo {last} >/last\n"
    ))
}

/// Goes on where [`heavy`] was heavy.
fn on_heavy(megabytes: u32) -> String {
    format!(
        "FROM busybox\nRUN head -c {megabytes}000000 /dev/urandom >/heavy && head -c 8 /heavy | base64 >/light\n\
         RUN head -c 8 /heavy | base64 >/again && rm /heavy\n"
    )
}

/// Builds with the keys in the environment.
fn build(project: &Project) -> Built {
    let call = project.call().arg("--retry-delay=10ms");
    let call = call.env("AWS_ACCESS_KEY_ID", ID).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_SESSION_TOKEN", TOKEN);
    let built = project.built(call.run());
    built.stderr_has_no(SECRET).stderr_has_no(TOKEN).stderr_has_no("X-Amz")
}

fn to(buckets: &Buckets, more: &str) -> String {
    format!("--cache-to={}", buckets.spec(more))
}

fn from(buckets: &Buckets, more: &str) -> String {
    format!("--cache-from={}", buckets.spec(more))
}

#[test]
fn an_empty_store_replays_a_whole_build() {
    let buckets = Buckets::new();
    let image = build(&project().arg(&to(&buckets, ",mode=max,prefix=ci/,name=topic;main"))).cached(0).succeeds();
    let names = buckets.names();
    // For each of four layers its files and its index, a list, and two names of the manifest.
    assert_eq!(names.len(), 4 * 2 + 1 + 2, "{names:#?}");
    assert!(names.iter().any(|name| name == "/demo/ci/manifests/topic"), "{names:#?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("/demo/ci/blobs/sha256:")).count(), 9);
    let again = build(&project().arg(&from(&buckets, ",prefix=ci/,name=main"))).cached(4).succeeds();
    assert_eq!(image.digest(), again.digest());
    // Of several names it is enough that one is there.
    build(&project().arg(&from(&buckets, ",prefix=ci/,name=new;main"))).cached(4).succeeds();
    build(&project().arg(&from(&buckets, ",prefix=other/"))).stderr_has("there is no cache in bucket demo").cached(0);
}

#[test]
fn what_is_there_is_not_sent_again_and_is_made_new() {
    let buckets = Buckets::new();
    build(&project().arg(&to(&buckets, ",mode=max"))).succeeds();
    buckets.service.taken();
    let both = project().arg(&from(&buckets, "")).arg(&to(&buckets, ",mode=max,touch_refresh=90000h"));
    build(&both).cached(4).succeeds();
    let calls = buckets.service.taken();
    // The list of steps may say more than before; no layer goes again.
    let sent = calls.iter().filter(|call| call.method == "PUT").map(|call| call.body.len());
    assert!(sent.clone().count() <= 2 && sent.sum::<usize>() < 8000, "{calls:#?}");
    assert!(calls.iter().all(|call| call.header("x-amz-copy-source").is_empty()));
    // What was not written for a day is copied onto itself: whoever removes old objects leaves it.
    build(&project().arg(&from(&buckets, "")).arg(&to(&buckets, ",mode=max"))).cached(4).succeeds();
    let calls = buckets.service.taken();
    let copied: Vec<&Call> = calls.iter().filter(|call| !call.header("x-amz-copy-source").is_empty()).collect();
    assert!(copied.len() >= 8, "{calls:#?}");
    assert!(copied.iter().all(|call| call.header("x-amz-copy-source") == call.path), "each onto itself");
}

#[test]
fn what_comes_from_another_cache_is_written_whole() {
    let buckets = Buckets::new();
    let before = build(&heavy("one", 8).arg(&to(&buckets, ",mode=max"))).succeeds();
    let other = Buckets::new();
    // Here nobody needs the heavy layer; the other cache would not be one without it.
    build(&heavy("one", 8).arg(&from(&buckets, "")).arg(&to(&other, ",mode=max"))).cached(3).succeeds();
    let after = build(&Project::new().dockerfile(&on_heavy(8)).arg(&from(&other, ""))).cached(1).succeeds();
    assert_eq!(before.text("light"), after.text("again"));
}

#[test]
fn the_mode_min_has_the_layers_of_the_image_only_and_never_those_of_the_base() {
    let (least, most) = (Buckets::new(), Buckets::new());
    let project = project().arg(&to(&least, "")).arg(&to(&most, ",mode=max"));
    let image = build(&project).succeeds();
    assert_eq!(least.names().len(), 2 * 2 + 2);
    let base = image.manifest()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    assert!(!most.names().iter().any(|name| name.ends_with(&base)), "the base is there");
}

#[test]
fn steps_before_a_failure_are_written_too() {
    let buckets = Buckets::new();
    let fails = || Project::new().dockerfile("FROM busybox\nRUN echo a >/a\nRUN exit 7\n");
    build(&fails().arg(&to(&buckets, ",mode=max"))).fails(1);
    build(&fails().arg(&from(&buckets, ""))).cached(1).fails(1);
}

#[test]
fn layers_that_no_step_reads_stay_there() {
    let buckets = Buckets::new();
    let before = build(&heavy("one", 8).arg(&to(&buckets, ",mode=max"))).succeeds();
    let largest = |objects: &std::collections::BTreeMap<String, Vec<u8>>| {
        let (name, bytes) = objects.iter().max_by_key(|(_, bytes)| bytes.len()).expect("an object");
        assert!(bytes.len() > 7_000_000);
        name.clone()
    };
    let largest = largest(&buckets.objects.lock().expect("no panic"));
    buckets.service.taken();
    let second = heavy("two", 8).arg(&from(&buckets, "")).arg(&to(&buckets, ",mode=max"));
    let after = build(&second).cached(2).succeeds();
    assert_eq!(before.text("light"), after.text("light"));
    let calls = buckets.service.taken();
    assert!(!calls.iter().any(|call| call.method == "GET" && call.decoded() == largest), "nobody needed it");
    // It is gone, and no store has it: the step is left out, and the next who wants it runs it again.
    buckets.objects.lock().expect("no panic").remove(&largest);
    let third = heavy("three", 8).arg(&from(&buckets, "")).arg(&to(&buckets, ",mode=max"));
    build(&third).stderr_has_no("is not written").cached(2).succeeds();
    build(&heavy("four", 8).arg(&from(&buckets, ",name=coracle")).arg(&to(&buckets, ",mode=max"))).cached(0).succeeds();
    build(&heavy("five", 8).arg(&from(&buckets, ""))).cached(2).succeeds();
}

#[test]
fn a_large_layer_goes_in_parts() {
    let buckets = Buckets::new();
    let first = heavy("one", 70).arg("--compression=none").arg(&to(&buckets, ",mode=max,upload_parallelism=3"));
    let before = build(&first).succeeds();
    let calls = buckets.service.taken();
    let parts: Vec<_> = calls.iter().filter_map(|call| call.value("partNumber")).collect();
    assert_eq!(parts.len(), 3, "{parts:?}");
    assert!(calls.iter().all(|call| call.body.len() <= 32 << 20));
    let third = Project::new().dockerfile(&on_heavy(70)).arg(&from(&buckets, ""));
    let after = build(&third).stderr_has_no("cannot be had").cached(1).succeeds();
    assert_eq!(before.text("light"), after.text("again"));
}

#[test]
fn an_upload_that_does_not_come_to_its_end_is_taken_back() {
    let buckets = Buckets::with(|call| (call.value("partNumber")? == "2").then(|| Reply::new(500, "")));
    let project = heavy("one", 70).arg("--compression=none").arg(&to(&buckets, ",mode=max"));
    build(&project).stderr_has("cache s3://demo/manifests/coracle is not written").succeeds();
    let calls = buckets.service.taken();
    assert_eq!(calls.iter().filter(|call| call.method == "DELETE").count(), 1);
    assert!(!buckets.names().iter().any(|name| name.contains("manifests")), "who is half written is not there");
}

#[test]
fn where_the_connection_breaks_it_goes_on() {
    let buckets = Buckets::new();
    build(&project().arg(&to(&buckets, ",mode=max"))).succeeds();
    let objects = buckets.objects.lock().expect("no panic").clone();
    let broken = Buckets::with({
        let (objects, manifests) = (objects.clone(), AtomicUsize::new(0));
        move |call| {
            if call.path.contains("manifests") && manifests.fetch_add(1, Ordering::SeqCst) == 0 {
                return Some(Reply { cut: Some(50), ..Reply::new(200, objects[&call.decoded()].clone()) });
            }
            let bytes = objects.get(&call.decoded()).filter(|bytes| bytes.len() > 100_000)?;
            let is_first = call.method == "GET" && call.header("range").is_empty();
            is_first.then(|| Reply { cut: Some(50_000), ..Reply::new(200, bytes.clone()) })
        }
    });
    *broken.objects.lock().expect("no panic") = objects;
    let built = build(&project().arg(&from(&broken, ""))).stderr_has_no("cannot be had").cached(4);
    built.succeeds();
    let ranges = broken.service.taken().iter().filter(|call| call.header("range") == "bytes=50000-").count();
    assert!(ranges > 0);
}

#[test]
fn a_blob_that_never_comes_whole_or_is_another_one_is_a_miss() {
    for cut in [Some(50_000), None] {
        let buckets = Buckets::with(move |call| {
            let is_blob = call.method == "GET" && call.path.contains("blobs");
            // The largest is the layer with busybox, which chmod copied up; the rest of it never comes.
            (is_blob && call.header("x-test").is_empty() && cut.is_some() && !call.header("range").is_empty())
                .then(|| Reply::new(206, "").header("Content-Range", "bytes 50000-50000/50000"))
        });
        let image = build(&project().arg(&to(&buckets, ",mode=max"))).succeeds();
        let mut objects = buckets.objects.lock().expect("no panic");
        let largest = objects.values_mut().max_by_key(|bytes| bytes.len()).expect("an object");
        match cut {
            Some(length) => largest.truncate(length),
            None => largest[40_000] ^= 1,
        }
        drop(objects);
        let again = build(&project().arg(&from(&buckets, ""))).stderr_has("a layer cannot be had").succeeds();
        assert_ne!(image.text("id"), again.text("id"), "the step ran again");
        assert_eq!(image.text("made"), again.text("made"), "the others did not");
    }
}
