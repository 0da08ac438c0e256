use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;

/// A server that gives each connection to a function, with the request's head and body as text.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(usize, &str, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        Server::over(|stream| Some(Box::new(stream)), answer)
    }

    fn over(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + 'static,
        answer: impl Fn(usize, &str, &mut dyn Stream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, count) = (Arc::clone(&seen), AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(mut stream) = wrap(stream) else { continue };
                let Some(text) = request(stream.as_mut()) else { continue };
                log.lock().expect("no panic").push(text.clone());
                answer(count.fetch_add(1, Ordering::SeqCst), &text, stream.as_mut());
            }
        });
        Server { port, seen }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).expect("a URL")
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One request, head and body, as text. The head comes in small letters.
fn request(stream: &mut dyn Stream) -> Option<String> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).ok()?.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).map(|text| text.parse());
    if head.contains("expect: 100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = vec![0; length.unwrap_or(Ok(0)).ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

fn say(stream: &mut dyn Stream, head: &str, body: &str) {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}

fn options() -> AgentOptions {
    let millis = Duration::from_millis;
    AgentOptions {
        timeouts: Timeouts { connect: millis(2000), answer: millis(1000), stall: millis(400) },
        retry: RetryPolicy { delay: millis(20), max_delay: millis(200), ..RetryPolicy::default() },
        ..AgentOptions::default()
    }
}

fn agent() -> Agent {
    Agent::new(options())
}

fn plain() -> Arc<Security> {
    Arc::new(Security { plain: Plain::Allowed, ..Security::default() })
}

fn get(url: Url) -> Request<'static> {
    Request::new(Method::GET, url).security(plain())
}

fn text(response: Response) -> String {
    String::from_utf8(response.bytes(1 << 20).expect("a body")).expect("UTF-8")
}

#[test]
fn a_request_and_its_answer() {
    let server = Server::new(|_, _, stream| say(stream, "200 OK\r\nX-Word: yes", "hello"));
    let response = agent().send(get(server.url("/a?b=c")).header("Accept", "text/plain")).expect("an answer");
    assert_eq!((response.status(), response.header("x-word"), response.length()), (200, Some("yes"), Some(5)));
    assert_eq!(text(response), "hello");
    let seen = server.seen().remove(0);
    assert!(seen.starts_with("get /a?b=c http/1.1\r\n") && seen.contains("accept: text/plain"), "{seen}");
    assert!(seen.contains("user-agent: coracle/"), "{seen}");
}

#[test]
fn plain_http_only_where_it_is_allowed() {
    let server = Server::new(|_, _, stream| say(stream, "200 OK", ""));
    let error = agent().send(Request::new(Method::GET, server.url("/"))).expect_err("refused");
    assert!(matches!(error, NetError::PlainRefused { .. }), "{error}");
    assert!(server.seen().is_empty());
}

#[test]
fn credentials_stay_with_their_host() {
    let other = Server::new(|_, _, stream| say(stream, "200 OK", "blob"));
    let target = other.url("/blob?signature=s");
    let server = Server::new(move |count, _, stream| match count {
        0 => say(stream, "307 Temporary Redirect\r\nLocation: /here", ""),
        _ => say(stream, &format!("302 Found\r\nLocation: {target}"), ""),
    });
    let request = get(server.url("/x")).header("Authorization", "Bearer geheim").header("X-Other", "1");
    assert_eq!(text(agent().send(request).expect("an answer")), "blob");
    assert!(server.seen().iter().all(|seen| seen.contains("bearer geheim")), "{:?}", server.seen());
    let seen = other.seen().remove(0);
    assert!(!seen.contains("geheim") && seen.contains("x-other: 1"), "{seen}");
}

#[test]
fn credentials_of_a_url_become_a_header_and_are_never_shown() {
    let server = Server::new(|_, _, stream| say(stream, "403 Forbidden", "no"));
    let mut url = server.url("/secret?token=geheim");
    url.set_username("ann").and(url.set_password(Some("p%40ss"))).expect("a host");
    let error = agent().send(get(url)).expect("an answer").success().expect_err("403");
    assert_eq!(error.to_string(), format!("GET 127.0.0.1:{}/secret: 403 Forbidden: no", server.port));
    assert!(server.seen()[0].contains("authorization: basic yw5uonbac3m="), "{:?}", server.seen());
    for bad in ["ftp://ann:geheim@host/x", "ann:geheim@host", "http://ann:geheim@:x/?geheim"] {
        let error = Request::get(bad).expect_err("no URL").to_string();
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn redirects_end() {
    let server = Server::new(|_, _, stream| say(stream, "302 Found\r\nLocation: /again", ""));
    let error = agent().send(get(server.url("/"))).expect_err("a loop");
    assert!(matches!(error, NetError::TooManyRedirects { limit: 10, .. }), "{error}");
    let server = Server::new(|_, _, stream| say(stream, "302 Found\r\nLocation: file:///etc/passwd", ""));
    let error = agent().send(get(server.url("/"))).expect_err("a file");
    assert!(matches!(error, NetError::BadRedirect { .. }), "{error}");
    let server = Server::new(|_, _, stream| say(stream, "307 Temporary Redirect\r\nLocation: /x", ""));
    let response = agent().send(get(server.url("/")).without_redirects()).expect("an answer");
    assert_eq!((response.status(), response.header("location")), (307, Some("/x")));
}

#[test]
fn a_stream_is_sent_and_sent_again_after_a_redirect() {
    let server = Server::new(|count, _, stream| match count {
        0 => say(stream, "307 Temporary Redirect\r\nLocation: /there", ""),
        _ => say(stream, "201 Created", ""),
    });
    let open = || Ok(Box::new(Cursor::new(b"content".to_vec())) as Box<dyn Read + Send>);
    let body = Body::Stream { length: 7, open: &open };
    let request = Request::new(Method::PUT, server.url("/x")).body(body).security(plain());
    assert_eq!(agent().send(request).expect("an answer").status(), 201);
    assert!(server.seen().iter().all(|seen| seen.ends_with("\r\n\r\ncontent")), "{:?}", server.seen());
    let body = Body::Stream { length: 8, open: &open };
    let error = agent().send(Request::new(Method::PUT, server.url("/x")).body(body).security(plain()));
    assert!(matches!(error.expect_err("too short"), NetError::Source { .. }));
}

#[test]
fn a_large_body_waits_until_it_is_wanted() {
    let server = Server::new(|_, _, stream| say(stream, "201 Created", ""));
    let bytes = vec![b'x'; 2 << 20];
    let request = Request::new(Method::PUT, server.url("/")).body(Body::Bytes(&bytes)).security(plain());
    assert_eq!(agent().send(request).expect("an answer").status(), 201);
    assert!(server.seen()[0].contains("expect: 100-continue"));
    assert_eq!(server.seen()[0].matches('x').count(), bytes.len() + "expect".matches('x').count());
}

#[test]
fn what_passes_is_tried_again() {
    let server = Server::new(|count, _, stream| match count {
        0 => say(stream, "503 Service Unavailable", ""),
        1 => say(stream, "429 Too Many Requests\r\nRetry-After: 99999999", ""),
        2 => {}
        _ => say(stream, "200 OK", "at last"),
    });
    assert_eq!(text(agent().send(get(server.url("/"))).expect("an answer")), "at last");
    assert_eq!(server.seen().len(), 4);
    let server = Server::new(|_, _, stream| say(stream, "500 Internal Server Error", ""));
    let request = Request::new(Method::POST, server.url("/")).security(plain());
    assert_eq!(agent().send(request.clone()).expect("an answer").status(), 500);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(agent().send(request.repeatable()).expect("an answer").status(), 500);
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_cut_body_is_an_error() {
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    let error = agent().send(get(server.url("/x"))).expect("a head").bytes(1000).expect_err("cut");
    assert!(matches!(&error, NetError::Broken { place, .. } if place.ends_with("/x")), "{error}");
    let error = agent().send(get(server.url("/x"))).expect("a head").bytes(50).expect_err("large");
    assert!(matches!(error, NetError::TooLarge { limit: 50, .. }), "{error}");
}

#[test]
fn silence_and_drips_end() {
    let start = Instant::now();
    let server = Server::new(|_, _, _| std::thread::sleep(Duration::from_secs(3)));
    let error = agent().send(get(server.url("/")).once()).expect_err("silence");
    assert!(matches!(error, NetError::Timeout { .. }), "{error}");
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            if stream.write_all(b"x").is_err() {
                break;
            }
        }
    });
    let patient = Timeouts { stall: Duration::from_secs(1), ..options().timeouts };
    let agent = Agent::new(AgentOptions { timeouts: patient, ..options() });
    let error = agent.send(get(server.url("/"))).expect("a head").bytes(1000).expect_err("drips");
    assert!(matches!(error, NetError::Timeout { wait: Wait::Data, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_wait_ends_when_it_is_cancelled() {
    let flag = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&flag);
    let cancel = Cancel::new(move || asked.load(Ordering::SeqCst));
    let agent = Agent::new(AgentOptions { cancel, ..AgentOptions::default() });
    let server = Server::new(|_, _, _| std::thread::sleep(Duration::from_secs(5)));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| agent.send(get(server.url("/"))).expect_err("cancelled"));
        std::thread::sleep(Duration::from_millis(100));
        flag.store(true, Ordering::SeqCst);
        assert!(matches!(waiting.join().expect("no panic"), NetError::Cancelled));
    });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(matches!(agent.wait(Duration::from_secs(60)), Err(NetError::Cancelled)));
}

#[test]
fn nobody_there() {
    // A port that the kernel gives away another test could have by now.
    let agent = Agent::new(AgentOptions { retry: RetryPolicy::never(), ..options() });
    let error = agent.send(get(Url::parse("http://127.0.0.1:1/").expect("a URL")));
    assert!(matches!(error.expect_err("nobody"), NetError::Connect { .. }));
    let error = agent.send(get(Url::parse("http://no-such-host.invalid/").expect("a URL")));
    assert!(matches!(error.expect_err("no host"), NetError::NoSuchHost { .. }));
}

#[test]
fn a_proxy_is_gone_through() {
    let proxy = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
        if request(stream).is_some() {
            say(stream, "200 OK", "through");
        }
    });
    let url = format!("http://ann:geheim@127.0.0.1:{}", proxy.port);
    let proxies = Proxies { all: Some(url), none: Some("direct.example".into()), ..Proxies::default() };
    let agent = Agent::new(AgentOptions { proxies, ..options() });
    let response = agent.send(get(Url::parse("http://far.example/").expect("a URL"))).expect("an answer");
    assert_eq!(text(response), "through");
    assert!(proxy.seen()[0].starts_with("connect far.example:80 http/1.1"), "{:?}", proxy.seen());
    assert!(!format!("{agent:?}").contains("geheim"));
}

mod tls {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// A server for 127.0.0.1, and the file with the root that vouches for it.
    fn server() -> (Server, tempfile::NamedTempFile) {
        let root_key = KeyPair::generate().expect("a key");
        let mut root = CertificateParams::new(Vec::new()).expect("no names");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(root.self_signed(&root_key).expect("a certificate").pem().as_bytes()).expect("written");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["127.0.0.1".into()])
            .and_then(|params| params.signed_by(&key, &Issuer::new(root, root_key)))
            .expect("a certificate");
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .expect("a server");
        let config = Arc::new(config);
        let wrap = move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(Box::new(StreamOwned::new(session, stream)) as Box<dyn Stream>)
        };
        (Server::over(wrap, |_, _, stream| say(stream, "200 OK", "safe")), file)
    }

    fn ask(server: &Server, agent: &Agent, security: Security) -> Result<String, NetError> {
        let url = Url::parse(&format!("https://127.0.0.1:{}/", server.port)).expect("a URL");
        agent.send(Request::new(Method::GET, url).security(Arc::new(security))).map(text)
    }

    #[test]
    fn a_host_must_be_vouched_for() {
        let (server, root) = server();
        let error = ask(&server, &agent(), Security::default()).expect_err("not trusted");
        assert!(matches!(&error, NetError::Tls { .. }) && !error.is_not_tls(), "{error:?}");
        let with_root = Security { ca_files: vec![root.path().into()], ..Security::default() };
        assert_eq!(ask(&server, &agent(), with_root).expect("trusted"), "safe");
        let any = Security { verify: Verify::Skipped, ..Security::default() };
        assert_eq!(ask(&server, &agent(), any).expect("any will do"), "safe");
        let roots = Roots { file: Some(root.path().into()), ..Roots::default() };
        let agent = Agent::new(AgentOptions { roots, ..options() });
        assert_eq!(ask(&server, &agent, Security::default()).expect("trusted"), "safe");
    }

    #[test]
    fn files_that_hold_no_certificates_are_named() {
        let (server, root) = server();
        let empty = tempfile::NamedTempFile::new().expect("a file");
        let security = Security { ca_files: vec![empty.path().into()], ..Security::default() };
        let error = ask(&server, &agent(), security).expect_err("no certificate").to_string();
        assert!(error.contains(&empty.path().display().to_string()), "{error}");
        let roots = Roots { file: Some("/nonexistent/roots.pem".into()), ..Roots::default() };
        let lost = Agent::new(AgentOptions { roots, ..options() });
        let error = ask(&server, &lost, Security::default()).expect_err("no roots").to_string();
        assert!(error.contains("/nonexistent/roots.pem"), "{error}");
        let client = ClientCertificate { certificate: root.path().into(), key: empty.path().into() };
        let security = Security { client: Some(client), ..Security::default() };
        let error = ask(&server, &agent(), security).expect_err("no key").to_string();
        assert!(error.contains("private key"), "{error}");
    }

    #[test]
    fn a_host_without_tls_is_told_apart() {
        let server = Server::new(|_, _, stream| say(stream, "200 OK", ""));
        let url = Url::parse(&format!("https://127.0.0.1:{}/", server.port)).expect("a URL");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
                let _ = stream.read(&mut [0; 1000]);
            }
        });
        let mut url = url;
        url.set_port(Some(port)).expect("a host");
        let error = agent().send(Request::new(Method::GET, url)).expect_err("no TLS");
        assert!(error.is_not_tls(), "{error:?}");
    }
}

#[test]
fn a_body_stays_with_its_host_unless_it_may_travel() {
    let other = Server::new(|_, _, stream| say(stream, "200 OK", "taken"));
    let target = other.url("/there");
    for status in ["307 Temporary Redirect", "308 Permanent Redirect", "303 See Other"] {
        let head = format!("{status}\r\nLocation: {target}");
        let server = Server::new(move |_, _, stream| say(stream, &head, ""));
        let request = || Request::new(Method::POST, server.url("/")).body(Body::Bytes(b"geheim")).security(plain());
        let result = agent().send(request());
        if status.starts_with("303") {
            assert_eq!(text(result.expect("a GET without a body")), "taken");
        } else {
            assert!(matches!(result, Err(NetError::BadRedirect { .. })), "{result:?}");
        }
        assert!(other.seen().iter().all(|seen| !seen.contains("geheim")), "{:?}", other.seen());
    }
    let server = Server::new(move |_, _, stream| say(stream, &format!("307 Moved\r\nLocation: {target}"), ""));
    let request = Request::new(Method::PUT, server.url("/")).body(Body::Bytes(b"a blob")).security(plain());
    assert_eq!(text(agent().send(request.body_may_travel()).expect("an answer")), "taken");
    assert!(other.seen().last().is_some_and(|seen| seen.ends_with("a blob")));
}
