//! A registry in this process that can be told to misbehave: enough of the distribution specification for pulls and pushes, and a
//! fault for everything that goes wrong with real ones.

mod answers;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use coracle::oci::Digest;
use serde_json::{Value, json};

/// A registry on 127.0.0.1, until it is dropped.
#[derive(Clone)]
pub struct Registry {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    port: u16,
    state: Mutex<State>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// What it has, and what it does.
#[derive(Default)]
pub struct State {
    /// Blobs by repository and digest.
    pub blobs: HashMap<(String, String), Vec<u8>>,
    /// Manifests by repository and tag or digest: media type and bytes.
    pub manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    serial: u64,
    /// Requests so far.
    pub log: Vec<Seen>,
    /// What it does to requests, each time the first that fits.
    pub faults: Vec<Fault>,
    /// Who may come in, and how.
    pub auth: Auth,
    tokens: BTreeMap<String, u32>,
    /// It does not know ranges.
    pub no_ranges: bool,
    /// It does not take a blob in one request.
    pub no_monolithic: bool,
    /// Host and port to which blobs are redirected for download; a scheme may be before it.
    pub blobs_elsewhere: Option<String>,
    /// Host and port at which uploads go on.
    pub uploads_elsewhere: Option<String>,
    /// It lists so many tags at once; 0 for as many as are asked for.
    pub tags_at_once: usize,
    /// It mounts nothing, and begins an upload instead.
    pub no_mounts: bool,
    /// It has no list of what refers to an image.
    pub no_referrers: bool,
    released: bool,
}

/// Who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// Who shows this name and password.
    Basic(&'static str, &'static str),
    /// Who has a token. The token server wants this name and password, or none; a token is good for so many requests.
    Bearer {
        /// Name and password.
        login: Option<(&'static str, &'static str)>,
        /// A token that is changed for others, in place of them.
        identity: Option<&'static str>,
        /// Requests that a token is good for.
        uses: u32,
    },
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// GET, PUT, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The head, in small letters but for the values.
    pub head: BTreeMap<String, String>,
    /// Bytes of the body that came.
    pub body: usize,
}

/// Something that happens to requests.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of this method.
    pub method: &'static str,
    /// With this in their path.
    pub path: String,
    /// So often; then it is over.
    pub times: u32,
    /// What happens.
    pub act: Act,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// It is answered with this status, and these headers and body.
    Status(u16, &'static str, &'static str),
    /// The connection is closed without an answer.
    Reset,
    /// The connection is closed after so many bytes of the request's body.
    ResetAfter(usize),
    /// So many bytes of the request's body are taken; then nothing happens until [`Registry::release`], when the connection is closed.
    Swallow(usize),
    /// The body of the answer ends after so many bytes, and the connection with it.
    Cut(usize),
    /// The answer says another length than it has; one below zero is one near 2^64.
    WrongLength(i64),
    /// The body is another one of the same length.
    Garbled,
    /// The body comes a byte at a time, with so long in between.
    Drip(Duration),
    /// So many bytes of the body come now; the rest is somebody else's.
    Pieces(usize),
    /// The body stops after so many bytes, until [`Registry::release`].
    Hold(usize),
    /// The body comes in pieces of so many bytes, with so long in between.
    Slow(usize, Duration),
    /// Nothing is said for so long, and then nothing more.
    Silence(Duration),
    /// The upload session is forgotten.
    ForgetUpload,
    /// The answer has another digest in its header.
    WrongDigestHeader,
    /// What was asked for is done, and the answer waits until another request got as far.
    Meet(Arc<std::sync::Barrier>),
    /// What was put is replaced at once by a manifest of this type with these bytes.
    Overwrite(&'static str, Vec<u8>),
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    fn error(status: u16, code: &str) -> Self {
        Answer::new(status).body(json!({"errors": [{"code": code, "message": code.to_lowercase()}]}).to_string())
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Registry {
    /// Starts a registry without TLS, to which everybody may come.
    pub fn new() -> Self {
        Self::start(None)
    }

    /// Starts a registry with TLS.
    pub fn with_tls(config: rustls::ServerConfig) -> Self {
        Self::start(Some(Arc::new(config)))
    }

    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { port, state: Mutex::default(), tls });
        let served = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(shared) = served.upgrade() else { break };
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Registry { port, shared }
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// Returns what it has and does, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic while locked")
    }

    /// Makes it do something to the next requests of a method with a text in their path.
    pub fn fault(&self, method: &'static str, path: &str, times: u32, act: Act) {
        self.state().faults.push(Fault { method, path: path.into(), times, act });
    }

    /// Lets go on what is held, and holds nothing any more.
    pub fn release(&self) {
        self.state().released = true;
    }

    /// Changes what has come of the uploads that were begun.
    pub fn spoil_uploads(&self) {
        self.state().uploads.values_mut().flatten().for_each(|byte| *byte ^= 1);
    }

    /// Forgets the uploads that were begun.
    pub fn forget_uploads(&self) {
        self.state().uploads.clear();
    }

    /// Returns the requests of a method with a text in their path.
    pub fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let state = self.state();
        state.log.iter().filter(|seen| seen.method == method && seen.path.contains(path)).cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state().log.clear();
    }

    /// Puts a blob in, and returns its digest and a descriptor of it.
    pub fn blob(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.state().blobs.insert((repository.into(), digest.clone()), bytes.to_vec());
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest or an index in, by its digest and a tag, and returns a descriptor of it.
    pub fn manifest(&self, repository: &str, tag: &str, kind: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).expect("JSON");
        let digest = Digest::of(&bytes).to_string();
        let mut state = self.state();
        for name in [tag, &digest] {
            state.manifests.insert((repository.into(), name.into()), (kind.into(), bytes.clone()));
        }
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Puts an image for a platform in: one layer, a tar with a file whose content is `text`. Returns a descriptor of its manifest.
    pub fn image(&self, repository: &str, tag: &str, platform: &str, text: &[u8]) -> Value {
        let (os, architecture) = platform.split_once('/').expect("OS/ARCHITECTURE");
        let layer = tar_with("file", text);
        let config = json!({
            "architecture": architecture, "os": os, "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
            "history": [{"created_by": "test"}]
        });
        let layer = self.blob(repository, "application/vnd.oci.image.layer.v1.tar", &layer);
        let config = config.to_string();
        let config = self.blob(repository, "application/vnd.oci.image.config.v1+json", config.as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let mut descriptor = self.manifest(repository, tag, kind, &manifest);
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
        descriptor
    }

    /// Puts an index of images in. Returns a descriptor of it.
    pub fn index(&self, repository: &str, tag: &str, images: &[Value]) -> Value {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": images});
        self.manifest(repository, tag, kind, &index)
    }
}

/// Returns a tar with one file.
pub fn tar_with(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).expect("in memory");
    archive.into_inner().expect("in memory")
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    head: BTreeMap<String, String>,
    length: usize,
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => match rustls::ServerConnection::new(Arc::clone(config)) {
                Ok(session) => Box::new(rustls::StreamOwned::new(session, stream)),
                Err(_) => return,
            },
        };
        while self.one(stream.as_mut()).is_some() {}
    }

    /// Answers one request; `None` ends the connection.
    fn one(&self, stream: &mut dyn Stream) -> Option<()> {
        let request = read_head(stream)?;
        let act = {
            let mut state = self.state.lock().expect("no panic");
            let full = request.full();
            let fault = state.faults.iter_mut().find(|fault| {
                // A body that is shorter is not cut.
                let cut =
                    |act: &Act| matches!(act, Act::ResetAfter(limit) | Act::Swallow(limit) if request.length <= *limit);
                let long = !cut(&fault.act);
                fault.times > 0 && fault.method == request.method && full.contains(&fault.path) && long
            });
            fault.map(|fault| {
                fault.times -= 1;
                fault.act.clone()
            })
        };
        if let Some(Act::Reset) = act {
            self.log(&request, 0);
            return None;
        }
        if let Some(Act::Silence(time)) = act {
            self.log(&request, 0);
            std::thread::sleep(time);
            return None;
        }
        if let Some(Act::Status(..)) = act {
            // Before the body: so a server that wants none of it does.
        } else if request.head.get("expect").is_some_and(|value| value == "100-continue") && self.welcome(&request) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let expects = request.head.contains_key("expect");
        let unwanted = expects && (matches!(act, Some(Act::Status(..))) || !self.welcome(&request));
        let mut body = Vec::new();
        if !unwanted {
            body.resize(request.length, 0);
            let limit = match act {
                Some(Act::ResetAfter(limit) | Act::Swallow(limit)) => limit.min(request.length),
                _ => request.length,
            };
            stream.read_exact(&mut body[..limit]).ok()?;
            if let Some(Act::ResetAfter(limit) | Act::Swallow(limit)) = act {
                self.state.lock().expect("no panic").keep(&request, &body[..limit]);
                self.log(&request, limit);
                while matches!(act, Some(Act::Swallow(_))) && !self.state.lock().expect("no panic").released {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return None;
            }
        }
        self.log(&request, body.len());
        let answer = match &act {
            Some(Act::Status(status, headers, text)) => {
                let mut answer = Answer::new(*status).body(*text);
                for line in headers.lines() {
                    let (name, value) = line.split_once(": ").expect("a header");
                    answer = answer.header(name, value);
                }
                answer
            }
            Some(Act::ForgetUpload) => {
                self.state.lock().expect("no panic").uploads.clear();
                Answer::error(404, "BLOB_UPLOAD_UNKNOWN")
            }
            _ => self.state.lock().expect("no panic").answer(self.port, &request, body),
        };
        match &act {
            Some(Act::Meet(barrier)) => drop(barrier.wait()),
            Some(Act::Overwrite(kind, bytes)) => {
                let (repository, _, name) = request.parts().expect("something in a repository");
                let new = ((*kind).to_owned(), bytes.clone());
                self.state.lock().expect("no panic").manifests.insert((repository, name), new);
            }
            _ => {}
        }
        if let Some(Act::Hold(limit)) = act {
            return self.send_held(stream, &request, answer, limit);
        }
        send(stream, &request, answer, act.as_ref(), unwanted)
    }

    fn send_held(&self, stream: &mut dyn Stream, request: &Request, answer: Answer, limit: usize) -> Option<()> {
        let rest = answer.body.get(limit..).unwrap_or_default().to_vec();
        // With all of the body, so that its length is right.
        let act = Act::Pieces(limit.min(answer.body.len()));
        send(stream, request, answer, Some(&act), false)?;
        while !self.state.lock().expect("no panic").released {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(&rest).ok()
    }

    fn welcome(&self, request: &Request) -> bool {
        self.state.lock().expect("no panic").allowed(self.port, request, false).is_ok()
    }

    fn log(&self, request: &Request, body: usize) {
        let (method, path, head) = (request.method.clone(), request.full(), request.head.clone());
        self.state.lock().expect("no panic").log.push(Seen { method, path, head, body });
    }
}

fn read_head(stream: &mut dyn Stream) -> Option<Request> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        // Somebody who tries TLS.
        if text.is_empty() && byte[0] == 0x16 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let head: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    Some(Request { method, path: path.to_owned(), query, head, length })
}

fn send(stream: &mut dyn Stream, request: &Request, answer: Answer, act: Option<&Act>, close: bool) -> Option<()> {
    let Answer { status, mut headers, mut body } = answer;
    let mut length = body.len() as u64;
    match act {
        Some(Act::WrongLength(more)) => length = length.wrapping_add_signed(*more),
        Some(Act::Garbled) => body.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Act::WrongDigestHeader) => {
            headers.retain(|(name, _)| name != "Docker-Content-Digest");
            headers.push(("Docker-Content-Digest".into(), Digest::of(b"other").to_string()));
        }
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n");
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    if close {
        head += "Connection: close\r\n";
    }
    stream.write_all((head + "\r\n").as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    match act {
        Some(Act::Cut(limit)) => {
            stream.write_all(&body[..(*limit).min(body.len())]).ok()?;
            return None;
        }
        Some(Act::Drip(pause)) => {
            for byte in &body {
                stream.write_all(&[*byte]).ok()?;
                std::thread::sleep(*pause);
            }
        }
        Some(Act::Pieces(limit)) => stream.write_all(&body[..*limit]).ok()?,
        Some(Act::Slow(piece, pause)) => {
            for piece in body.chunks(*piece) {
                stream.write_all(piece).ok()?;
                std::thread::sleep(*pause);
            }
        }
        _ => stream.write_all(&body).ok()?,
    }
    stream.flush().ok()?;
    (!close && !matches!(act, Some(Act::WrongLength(_)))).then_some(())
}

impl Request {
    fn full(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let mut pairs: Vec<_> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        format!("{}?{}", self.path, pairs.join("&"))
    }

    /// Repository, kind and the rest: `/v2/a/b/blobs/sha256:…`.
    fn parts(&self) -> Option<(String, &'static str, String)> {
        let path = self.path.strip_prefix("/v2/")?;
        ["manifests", "blobs/uploads", "blobs", "referrers", "tags"].into_iter().find_map(|kind| {
            let at = path.find(&format!("/{kind}/"))?;
            Some((path[..at].to_owned(), kind, path[at + kind.len() + 2..].to_owned()))
        })
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
