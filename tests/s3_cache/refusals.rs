//! What goes wrong with a bucket is said, names it, and never breaks a build.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::bucket::{Buckets, ID, SECRET, TOKEN, refusal};
use super::support::service::Reply;
use super::support::{Built, Project};
use super::{build, from, to};

fn small() -> Project {
    Project::new().dockerfile("FROM busybox\nRUN echo a >/a\n")
}

fn both(buckets: &Buckets, more: &str) -> Built {
    build(&small().arg(&from(buckets, more)).arg(&to(buckets, more)))
}

#[test]
fn another_secret() {
    let buckets = Buckets::new();
    let built = both(&buckets, &format!(",access_key_id={ID},secret_access_key=hunter2"));
    let place = format!("bucket demo at {} refuses: SignatureDoesNotMatch", buckets.service.host());
    let built = built.stderr_has(&place).stderr_has("is not used").stderr_has("is not written");
    built.stderr_has("Look at secret_access_key=, or AWS_SECRET_ACCESS_KEY").stderr_has_no("hunter2").succeeds();
}

#[test]
fn another_key_and_a_token_that_is_over() {
    let buckets = Buckets::new();
    let built = both(&buckets, ",access_key_id=other,secret_access_key=x");
    built.stderr_has("InvalidAccessKeyId").stderr_has("look at access_key_id=, or AWS_ACCESS_KEY_ID").succeeds();
    let built = both(&buckets, &format!(",access_key_id={ID},secret_access_key={SECRET},session_token=old"));
    built.stderr_has("InvalidToken").stderr_has("AWS_SESSION_TOKEN").succeeds();
}

#[test]
fn no_bucket() {
    let buckets = Buckets::new();
    let spec = buckets.spec("").replace("bucket=demo", "bucket=nowhere");
    let project = small().arg(&format!("--cache-from={spec}")).arg(&format!("--cache-to={spec}"));
    let built = build(&project).stderr_has(&format!("bucket nowhere at {}", buckets.service.host()));
    built.stderr_has("NoSuchBucket").stderr_has("make the bucket, or look at bucket=").succeeds();
}

#[test]
fn no_permission_to_write() {
    let buckets = Buckets::with(|call| (call.method == "PUT").then(|| refusal(403, "AccessDenied", "Access Denied.")));
    let built = build(&small().arg(&to(&buckets, "")));
    built.stderr_has("AccessDenied, Access Denied (403)").stderr_has("s3:PutObject").succeeds();
    // Who may not list hears the same of what is not there.
    let buckets = Buckets::with(|call| (call.method == "HEAD").then(|| Reply::new(403, "")));
    build(&small().arg(&to(&buckets, ""))).stderr_has_no("is not written").succeeds();
}

#[test]
fn another_region() {
    let buckets = Buckets::with(|_| {
        let answer = refusal(301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint");
        Some(answer.header("x-amz-bucket-region", "eu-west-3").header("Location", "http://127.0.0.1:1/"))
    });
    both(&buckets, "").stderr_has("region=eu-west-3").succeeds();
}

#[test]
fn an_error_that_comes_with_a_success() {
    let buckets = Buckets::with(|call| {
        let is_end = call.method == "POST" && call.value("uploadId").is_some();
        is_end.then(|| Reply { status: 200, ..refusal(200, "InternalError", "We encountered an internal error.") })
    });
    let project = super::heavy("one", 40).arg("--compression=none").arg(&to(&buckets, ",mode=max"));
    build(&project).stderr_has("InternalError").stderr_has("is not written").succeeds();
}

#[test]
fn a_busy_service_is_asked_again() {
    let busy = AtomicUsize::new(0);
    let buckets = Buckets::with(move |_| {
        let slow = busy.fetch_add(1, Ordering::SeqCst) % 3 < 2;
        slow.then(|| refusal(503, "SlowDown", "Please reduce your request rate."))
    });
    build(&small().arg(&to(&buckets, ",upload_parallelism=1"))).stderr_has_no("is not written").succeeds();
    build(&small().arg(&from(&buckets, ""))).cached(1).succeeds();
    let always = Buckets::with(|_| Some(refusal(503, "SlowDown", "Please reduce your request rate.")));
    let built = both(&always, "").stderr_has("SlowDown, Please reduce your request rate (503)");
    built.stderr_has("upload_parallelism= asks for less").succeeds();
}

#[test]
fn no_keys_at_all() {
    let buckets = Buckets::new();
    let project = small().arg(&from(&buckets, "")).arg(&to(&buckets, ""));
    let built = project.build().stderr_has("is not used").stderr_has("is not written");
    built.stderr_has(
        "access_key_id= (or AWS_ACCESS_KEY_ID) and secret_access_key= (or AWS_SECRET_ACCESS_KEY) are not set",
    );
    assert!(buckets.service.taken().is_empty(), "nobody is asked");
}

#[test]
fn with_ignore_error_false_it_fails_the_build() {
    let buckets = Buckets::with(|_| Some(Reply::new(403, "")));
    build(&small().arg(&to(&buckets, ",ignore-error=false"))).fails(4);
}

#[test]
fn what_is_secret_in_a_flag_that_is_refused_is_not_shown() {
    let outcome = small().arg("--cache-to=type=s3,bucket=b,secret_access_key=hunter2,nothing=x").build().fails(2);
    outcome.stderr_has("type=s3 has no key \"nothing\"").stderr_has("secret_access_key=…").stderr_has_no("hunter2");
}

#[test]
fn a_manifest_of_another_builder_is_none() {
    let buckets = Buckets::new();
    let other = br#"{"layers":[{"blob":"sha256:00","parent":-1}],"records":[]}"#.to_vec();
    buckets.objects.lock().expect("no panic").insert("/demo/manifests/coracle".into(), other);
    build(&small().arg(&from(&buckets, ""))).stderr_has("is no cache of coracle").succeeds();
}

#[test]
fn through_a_proxy_with_the_bucket_in_the_host() {
    let buckets = Buckets::new();
    let spec = "type=s3,bucket=demo,endpoint_url=http://s3.example.test";
    let project = |flag: &str| small().arg(&format!("{flag}={spec}"));
    let run = |project: &Project| {
        let call = project.call().env("http_proxy", &buckets.service.url()).env("AWS_ACCESS_KEY_ID", ID);
        project.built(call.env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_SESSION_TOKEN", TOKEN).run())
    };
    run(&project("--cache-to")).stderr_has_no("is not written").succeeds();
    let calls = buckets.service.taken();
    assert!(calls.iter().all(|call| call.header("host") == "demo.s3.example.test"), "{calls:#?}");
    run(&project("--cache-from")).cached(1).succeeds();
}
