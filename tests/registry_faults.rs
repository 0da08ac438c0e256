//! Registries and networks that misbehave: success, or one clear line, in bounded time; and never a wrong image.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::config::{Credentials, Places};
use coracle::net::{Agent, AgentOptions, Cancel, RetryPolicy, Timeouts};
use coracle::oci::{Digest, Platform, Reference};
use coracle::output::remote::IntoStore;
use coracle::progress::Silent;
use coracle::registry::{Client, ClientOptions, Manifest, Outgoing, Pulled, PushOptions, Pushed, RegistryError};
use coracle::store::Store;
use support::registry::{Act, Auth, Registry, tar_with};
use support::{User, run};

const CONTENT: &[u8] = &[7; 300_000];

fn registry() -> Registry {
    let registry = Registry::new();
    registry.image("base", "1", &format!("linux/{}", Platform::host().architecture), CONTENT);
    registry
}

fn layer() -> String {
    Digest::of(&tar_with("file", CONTENT)).to_string()
}

/// Pulls in this process, with limits that are small enough for a test.
#[allow(clippy::result_large_err)] // What it looks at is the error.
fn pull(registry: &Registry, cancel: Cancel) -> Result<Pulled, RegistryError> {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    let name: Reference = registry.name("base:1").parse().expect("a name");
    client(cancel).pull(&name, &Platform::host(), &IntoStore(&store), &Silent)
}

/// Returns a client whose limits are small enough for a test.
fn client(cancel: Cancel) -> Client {
    let millis = Duration::from_millis;
    let agent = Agent::new(AgentOptions {
        timeouts: Timeouts { connect: millis(1000), answer: millis(1500), stall: millis(1000) },
        retry: RetryPolicy { retries: 2, delay: millis(10), max_delay: millis(100), total: millis(5000) },
        cancel,
        ..AgentOptions::default()
    });
    let places = Places { etc: "/nonexistent".into(), ..Places::default() };
    Client::new(agent, places, None, ClientOptions::default()).expect("no files")
}

/// As [`pull`], in the other direction: an image with a blob that is larger than what lies between us and the registry.
#[allow(clippy::result_large_err)]
fn push(registry: &Registry, cancel: Cancel) -> Result<Pushed, RegistryError> {
    let blob = vec![7; 24 << 20];
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let manifest =
        Manifest { media_type: "application/vnd.oci.image.manifest.v1+json", bytes: b"{\"schemaVersion\":2}" };
    let image = Outgoing { manifests: &[manifest], blobs: &[(digest, size)] };
    let name: Reference = registry.name("base:1").parse().expect("a name");
    let client = client(cancel);
    let (repository, _) = client.target(&name)?;
    repository.push(image, &["1"], &Bytes(blob), PushOptions::default(), &Silent)
}

struct Bytes(Vec<u8>);

impl coracle::registry::Origin for Bytes {
    fn open(&self, _: &Digest, _: u64, offset: u64) -> std::io::Result<Box<dyn std::io::Read + Send + '_>> {
        Ok(Box::new(&self.0[offset as usize..]))
    }
}

/// The error with all its causes.
fn words(error: RegistryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn what_passes_is_got_over() {
    for (path, act) in [
        ("manifests", Act::Reset),
        ("manifests", Act::Status(503, "", "")),
        ("manifests", Act::Status(429, "Retry-After: 0", "")),
        ("manifests", Act::Status(429, "Retry-After: 999999999999999999999", "")),
        ("blobs", Act::Reset),
        ("blobs", Act::Cut(10)),
        ("blobs", Act::Cut(0)),
        ("blobs", Act::Status(500, "", "")),
        ("blobs", Act::Status(429, "Retry-After: 1", "")),
        ("blobs", Act::Silence(Duration::from_millis(1300))),
    ] {
        let registry = registry();
        registry.fault("GET", path, 1, act.clone());
        pull(&registry, Cancel::default()).unwrap_or_else(|error| panic!("{path} {act:?}: {}", words(error)));
    }
}

#[test]
fn what_does_not_pass_is_told_in_time() {
    for (path, act, says) in [
        (
            "manifests",
            Act::Status(403, "", r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#),
            "does not allow this",
        ),
        ("manifests", Act::Status(404, "", ""), "tag 1 is not in"),
        ("manifests", Act::Status(500, "", ""), "500 Internal Server Error"),
        ("manifests", Act::Status(429, "Retry-After: 0", "slow down"), "429 Too Many Requests: slow down"),
        ("manifests", Act::Silence(Duration::from_secs(30)), "took longer than"),
        ("manifests", Act::Drip(Duration::from_millis(400)), "took longer than"),
        ("manifests", Act::WrongDigestHeader, "has digest"),
        ("manifests", Act::Status(401, "", ""), "asks for credentials in a way"),
        ("manifests", Act::Status(401, "WWW-Authenticate: Negotiate", ""), "asks for credentials in a way"),
        ("manifests", Act::Status(307, "Location: file:///etc/passwd", ""), "leads nowhere"),
        ("manifests", Act::Status(200, "Content-Type: text/html", "<html>log in</html>"), "is not valid"),
        ("blobs", Act::Status(404, "", ""), "is not in"),
        ("blobs", Act::Garbled, "has digest"),
        ("blobs", Act::WrongLength(5), "bytes, not"),
        ("blobs", Act::WrongLength(-5), "bytes, not"),
        ("blobs", Act::Cut(10), "the connection broke"),
        ("blobs", Act::Reset, "the connection broke"),
        ("blobs", Act::Silence(Duration::from_secs(30)), "took longer than"),
        ("blobs", Act::Drip(Duration::from_millis(300)), "took longer than"),
    ] {
        let registry = registry();
        let path = if path == "blobs" { layer() } else { path.to_owned() };
        registry.fault("GET", &path, 1000, act.clone());
        let begin = Instant::now();
        let error = words(pull(&registry, Cancel::default()).expect_err("a fault"));
        assert!(error.contains(says), "{act:?}: {error}");
        assert!(error.contains("127.0.0.1"), "it names the host: {error}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{act:?} took {:?}", begin.elapsed());
    }
}

#[test]
fn an_interruption_ends_every_wait() {
    let registry = registry();
    registry.fault("GET", &layer(), 1000, Act::Silence(Duration::from_secs(30)));
    let begin = Instant::now();
    let cancel = Cancel::new(move || begin.elapsed() > Duration::from_millis(300));
    assert!(words(pull(&registry, cancel).expect_err("interrupted")).contains("interrupted"));
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_push_waits_for_nobody_for_ever() {
    for (method, path, act) in [
        ("HEAD", "manifests", Act::Silence(Duration::from_secs(60))),
        ("HEAD", "blobs", Act::Silence(Duration::from_secs(60))),
        ("POST", "uploads", Act::Silence(Duration::from_secs(60))),
        ("PUT", "uploads", Act::Silence(Duration::from_secs(60))),
        // It takes the beginning, and then nothing more.
        ("PUT", "uploads", Act::Swallow(10_000)),
        ("PUT", "manifests", Act::Silence(Duration::from_secs(60))),
    ] {
        let registry = Registry::new();
        registry.fault(method, path, 1000, act.clone());
        if let Act::Swallow(_) = act {
            registry.fault("PATCH", path, 1000, act.clone());
        }
        let begin = Instant::now();
        let error = words(push(&registry, Cancel::default()).expect_err("a fault"));
        assert!(error.contains("127.0.0.1") && error.contains("took longer than"), "{method} {act:?}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{method} {act:?} took {:?}", begin.elapsed());
        let cancelled = Registry::new();
        cancelled.fault(method, path, 1000, act.clone());
        let begin = Instant::now();
        let cancel = Cancel::new(move || begin.elapsed() > Duration::from_millis(300));
        assert!(words(push(&cancelled, cancel).expect_err("interrupted")).contains("interrupted"), "{method} {act:?}");
        assert!(begin.elapsed() < Duration::from_secs(4), "{method} {act:?} took {:?}", begin.elapsed());
        [registry, cancelled].iter().for_each(Registry::release);
    }
}

#[test]
fn pushes_fail_with_a_clear_line() {
    let user = User::with_busybox();
    for (method, path, act, says) in [
        (
            "POST",
            "uploads",
            Act::Status(403, "", r#"{"errors":[{"code":"DENIED","message":"quota"}]}"#),
            "quota (DENIED)",
        ),
        ("POST", "uploads", Act::Status(202, "", ""), "does not say where an upload goes"),
        ("PUT", "uploads", Act::Status(400, "", r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#), "DIGEST_INVALID"),
        ("PUT", "uploads", Act::Status(500, "", ""), "500 Internal Server Error"),
        ("PUT", "uploads", Act::ForgetUpload, "404"),
        ("PUT", "manifests", Act::Status(413, "", ""), "413"),
        ("PUT", "manifests", Act::WrongDigestHeader, "has digest"),
        ("HEAD", "blobs", Act::Status(502, "", ""), "502"),
    ] {
        let registry = Registry::new();
        registry.fault(method, path, 1000, act.clone());
        let args = ["push", "--retry=1", "--retry-delay=10ms", "busybox", &registry.name("base:1")];
        let outcome = user.coracle(args).run().fails_cleanly();
        assert!(outcome.stderr.contains(says), "{method} {act:?}: {outcome}");
        assert!(outcome.stderr.contains("127.0.0.1"), "{outcome}");
        assert!(
            !registry.state().manifests.contains_key(&("base".into(), "1".into()))
                || method == "PUT" && path == "manifests"
        );
    }
}

#[test]
fn a_push_gets_over_what_passes() {
    let user = User::with_busybox();
    for (method, path, act) in [
        ("HEAD", "blobs", Act::Reset),
        ("POST", "uploads", Act::Reset),
        ("POST", "uploads", Act::Status(503, "Retry-After: 0", "")),
        ("PUT", "uploads", Act::Reset),
        ("PUT", "uploads", Act::ResetAfter(50_000)),
        ("PUT", "uploads", Act::Status(500, "", "")),
        ("PUT", "uploads", Act::Status(429, "Retry-After: 0", "")),
        ("PUT", "uploads", Act::ForgetUpload),
        ("PUT", "manifests", Act::Reset),
        ("PUT", "manifests", Act::Status(502, "", "")),
    ] {
        let registry = Registry::new();
        registry.fault(method, path, 1, act.clone());
        let name = registry.name("base:1");
        let outcome = run(&user, &["push", "--retry-delay=10ms", "busybox", &name]);
        assert!(outcome.stderr.contains("exported"), "{method} {path} {act:?}: {outcome}");
        outcome.succeeds();
    }
}

#[test]
fn a_token_server_that_is_wrong_is_told() {
    let registry = registry();
    registry.state().auth = Auth::Bearer { login: None, identity: None, uses: 100 };
    pull(&registry, Cancel::default()).unwrap_or_else(|error| panic!("{}", words(error)));
    for (act, says) in [
        (Act::Status(200, "", "{}"), "answers without a token"),
        (Act::Status(200, "", "hello"), "does not answer with a token"),
        (Act::Status(401, "", ""), "wants a login"),
        (Act::Status(500, "", ""), "500"),
        (Act::Status(302, "Location: /token", ""), "redirects"),
        (Act::Silence(Duration::from_secs(60)), "took longer than"),
    ] {
        registry.fault("GET", "/token", 1000, act);
        let error = words(pull(&registry, Cancel::default()).expect_err("no token"));
        assert!(error.contains(says), "{error}");
        registry.state().faults.clear();
    }
}

#[test]
fn a_foreign_certificate_is_not_trusted() {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret.into())
        .expect("a server");
    let registry = Registry::with_tls(config);
    registry.image("base", "1", &format!("linux/{}", Platform::host().architecture), CONTENT);
    let (user, name) = (User::new(), registry.name("base:1"));
    run(&user, &["pull", "--tls-verify", &name]).fails(4).stderr_has("no trusted connection").stderr_has("--cert-dir");
    run(&user, &["pull", "--tls-verify=false", &name]).succeeds();
    let certs = user.new_dir();
    std::fs::write(certs.join("ca.crt"), key.cert.pem()).expect("written");
    run(&user, &["pull", "--tls-verify", "--cert-dir", certs.to_str().unwrap(), &name]).succeeds();
    let file = certs.join("ca.crt");
    user.coracle(["pull", "--tls-verify", &name]).env("SSL_CERT_FILE", file.to_str().unwrap()).run().succeeds();
    let plain = self::registry();
    let outcome = run(&user, &["pull", "--tls-verify", "--retry=0", &plain.name("base:1")]).fails(4);
    outcome.stderr_has("127.0.0.1");
}

#[test]
fn nothing_secret_is_told() {
    let registry = registry();
    registry.state().auth = Auth::Basic("ann", "right");
    let user = User::new();
    let outcome = run(&user, &["pull", "--creds=ann:geheim", &registry.name("base:1")]).fails(4);
    assert!(!outcome.stderr.contains("geheim") && !outcome.stdout.contains("geheim"), "{outcome}");
    let creds = Credentials::parse("ann:geheim").expect("a pair");
    assert!(!format!("{creds:?}").contains("geheim"));
}

#[test]
fn an_upload_that_goes_nowhere_ends() {
    for range in ["Range: 0-0", "Range: 0-99", "Range: 0-4000"] {
        let registry = Registry::new();
        registry.state().no_monolithic = true;
        let answer = format!("Location: /v2/base/blobs/uploads/upload-1\n{range}").leak();
        registry.fault("PATCH", "uploads", 100_000, Act::Status(202, answer, ""));
        let error = words(push(&registry, Cancel::default()).expect_err("it has nothing"));
        assert!(error.contains("next to nothing"), "{error}");
        assert!(registry.seen("PATCH", "uploads").len() <= 6, "{}", registry.seen("PATCH", "uploads").len());
    }
}

#[test]
fn one_budget_of_retries_is_for_asking_and_for_reading() {
    let registry = registry();
    for _ in 0..5 {
        registry.fault("GET", "manifests", 2, Act::Status(503, "", ""));
        registry.fault("GET", "manifests", 1, Act::Cut(10));
    }
    pull(&registry, Cancel::default()).expect_err("too many failures");
    // The client has two retries.
    assert_eq!(registry.seen("GET", "manifests").len(), 3);
    // A token is part of it.
    let registry = self::registry();
    registry.state().auth = Auth::Bearer { login: None, identity: None, uses: 1 };
    for _ in 0..5 {
        registry.fault("GET", "/token", 1, Act::Status(503, "", ""));
        registry.fault("GET", "/token", 1, Act::Drip(Duration::ZERO));
    }
    registry.fault("GET", "manifests/1", 1, Act::Status(503, "", ""));
    registry.fault("GET", "manifests/1", 100, Act::Reset);
    pull(&registry, Cancel::default()).expect_err("too many failures");
    assert!(registry.seen("GET", "/token").len() + registry.seen("GET", "manifests").len() <= 6);
}

#[test]
fn a_length_that_no_number_holds_is_wrong_and_nothing_else() {
    let registry = registry();
    let size = i64::try_from(tar_with("file", CONTENT).len()).expect("small");
    let path = format!("blobs/{}", layer());
    registry.fault("GET", &path, 1, Act::Cut(200_000));
    registry.fault("GET", &path, 1, Act::WrongLength(-size));
    let error = words(pull(&registry, Cancel::default()).expect_err("a wrong length"));
    assert!(error.contains("has 18446744073709551615 bytes"), "{error}");
    assert_eq!(registry.seen("GET", &path).len(), 2);
}
