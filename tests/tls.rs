//! Certificates, on both sides; and hosts that speak no TLS where they are asked for it.

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use support::User;
use support::registry::Registry;

/// What a registry wants of whoever comes.
enum Wants {
    Certificate,
    Nothing,
}

/// A root, and what it vouches for.
struct Root {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Root { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// A registry with a certificate of this root, that wants one of `clients` from whoever asks.
    fn registry(&self, clients: &Root) -> Registry {
        self.registry_that(clients, Wants::Certificate)
    }

    fn registry_that(&self, clients: &Root, wants: Wants) -> Registry {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(clients.certificate.der().clone()).expect("a root");
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = match wants {
            Wants::Certificate => verifier,
            Wants::Nothing => verifier.allow_unauthenticated(),
        };
        let verifier = verifier.build().expect("a verifier");
        let (certificate, key) = self.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a server");
        Registry::with_tls(config)
    }
}

/// Puts files into the folder of certificates that the user has for the host.
fn certs_d(user: &User, host: &str, files: &[(&str, String)]) -> PathBuf {
    let dir = user.home().join(".config/containers/certs.d").join(host);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a folder");
    for dir in dir.ancestors().take(4) {
        support::set_mode(dir, 0o755);
    }
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("written");
        support::set_mode(&dir.join(name), 0o644);
    }
    dir
}

#[test]
fn a_registry_that_wants_a_certificate_gets_that_of_certs_d() {
    let (servers, clients, strangers) = (Root::new(), Root::new(), Root::new());
    let registry = servers.registry(&clients);
    let (user, name) = (User::with_busybox(), registry.name("base:1"));
    let push = || user.coracle(["push", "--tls-verify", "--retry=0", "busybox", &name]).run();
    let pair = |root: &Root| {
        let (certificate, key) = root.issue("ann", ExtendedKeyUsagePurpose::ClientAuth);
        [("client.cert", certificate.pem()), ("client.key", key.serialize_pem())]
    };
    let ca = ("ca.crt", servers.certificate.pem());
    // Neither root nor certificate; the root alone; a certificate of others; the right one.
    push().fails(4).stderr_has("no trusted connection");
    certs_d(&user, &registry.host(), std::slice::from_ref(&ca));
    push().fails(4).stderr_has("127.0.0.1");
    let [certificate, key] = pair(&strangers);
    certs_d(&user, &registry.host(), &[ca.clone(), certificate, key]);
    push().fails(4);
    assert!(registry.state().log.is_empty(), "nobody came in: {:?}", registry.state().log);
    let [certificate, key] = pair(&clients);
    let dir = certs_d(&user, &registry.host(), &[ca.clone(), certificate.clone(), key.clone()]);
    push().succeeds();
    let other = User::new();
    other.coracle(["pull", "--tls-verify", "--retry=0", &name]).run().fails(4);
    let given = ["pull", "--tls-verify", "--retry=0", "--cert-dir", dir.to_str().expect("text"), &name];
    other.coracle(given).run().succeeds();
    // Without a look at the other's certificate ours is shown all the same.
    user.coracle(["pull", "--tls-verify=false", "--policy=always", &name]).run().succeeds();
    // Half a pair, and a file that holds none, are said to be that.
    certs_d(&user, &registry.host(), &[ca.clone(), certificate.clone()]);
    push().fails_cleanly().stderr_has("client");
    certs_d(&user, &registry.host(), &[ca, certificate, ("client.key", "nothing".into())]);
    push().fails_cleanly().stderr_has("client.key");
}

#[test]
fn the_certificate_of_one_host_is_not_shown_to_another_to_which_it_redirects() {
    let (servers, clients) = (Root::new(), Root::new());
    let (certificate, key) = clients.issue("ann", ExtendedKeyUsagePurpose::ClientAuth);
    let files = [
        ("ca.crt", servers.certificate.pem()),
        ("client.cert", certificate.pem()),
        ("client.key", key.serialize_pem()),
    ];
    let content: Vec<u8> = vec![7; 100_000];
    let architecture = coracle::oci::Platform::host().architecture;
    for (wants, works) in [(Wants::Certificate, false), (Wants::Nothing, true)] {
        let (registry, storage) = (servers.registry(&clients), servers.registry_that(&clients, wants));
        for one in [&registry, &storage] {
            one.image("base", "1", &format!("linux/{architecture}"), &content);
        }
        registry.state().blobs_elsewhere = Some(format!("https://{}", storage.host()));
        let user = User::new();
        certs_d(&user, &registry.host(), &files);
        let outcome = user.coracle(["pull", "--tls-verify", "--retry=0", &registry.name("base:1")]).run();
        assert!(!registry.seen("GET", "blobs").is_empty(), "{outcome}");
        // Who wants a certificate lets nobody in who shows none: it would have been that of the registry.
        assert_eq!(storage.state().log.is_empty(), !works, "{outcome}");
        if works {
            outcome.succeeds()
        } else {
            outcome.fails(4)
        };
    }
}

#[test]
fn a_server_of_this_machine_that_never_speaks_tls_costs_two_seconds() {
    // It reads what comes as a line that does not end, and says nothing; to what it understands it answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let (mut text, mut byte) = (Vec::new(), [0]);
                while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    text.push(byte[0]);
                }
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = std::io::Write::write_all(&mut stream, answer);
            });
        }
    });
    let outcome = User::new().coracle(["pull", "--retry=0", &format!("{host}/base:1")]).run();
    outcome.fails(4).stderr_has("is not in").takes_at_most(Duration::from_secs(12));
}
