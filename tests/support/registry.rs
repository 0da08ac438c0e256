//! A registry in this process that can be told to misbehave: enough of the distribution specification for pulls and pushes, and a
//! fault for everything that goes wrong with real ones.

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
    /// Host and port to which blobs are redirected for download.
    pub blobs_elsewhere: Option<String>,
    /// Host and port at which uploads go on.
    pub uploads_elsewhere: Option<String>,
    /// It has no list of what refers to an image.
    pub no_referrers: bool,
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
    /// The body of the answer ends after so many bytes, and the connection with it.
    Cut(usize),
    /// The answer says another length than it has.
    WrongLength(i64),
    /// The body is another one of the same length.
    Garbled,
    /// The body comes a byte at a time, with so long in between.
    Drip(Duration),
    /// Nothing is said for so long, and then nothing more.
    Silence(Duration),
    /// The upload session is forgotten.
    ForgetUpload,
    /// The answer has another digest in its header.
    WrongDigestHeader,
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
                let long = !matches!(fault.act, Act::ResetAfter(limit) if request.length <= limit);
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
                Some(Act::ResetAfter(limit)) => limit.min(request.length),
                _ => request.length,
            };
            stream.read_exact(&mut body[..limit]).ok()?;
            if let Some(Act::ResetAfter(limit)) = act {
                self.log(&request, limit);
                self.state.lock().expect("no panic").keep(&request, &body[..limit]);
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
        send(stream, &request, answer, act.as_ref(), unwanted)
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
    let mut length = body.len() as i64;
    match act {
        Some(Act::WrongLength(more)) => length += more,
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

impl State {
    /// Keeps what came of an upload before the connection broke, as real registries do.
    fn keep(&mut self, request: &Request, body: &[u8]) {
        if let Some((_, "blobs/uploads", id)) = request.parts()
            && let Some(upload) = self.uploads.get_mut(&id)
        {
            upload.extend_from_slice(body);
        }
    }

    fn allowed(&mut self, port: u16, request: &Request, counted: bool) -> Result<(), Answer> {
        let shown = request.head.get("authorization").map(String::as_str);
        match self.auth.clone() {
            Auth::Open => Ok(()),
            Auth::Basic(user, password) => {
                if shown == Some(&basic(user, password)) {
                    return Ok(());
                }
                Err(Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"test\""))
            }
            Auth::Bearer { .. } => {
                let token = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
                match self.tokens.get_mut(token) {
                    Some(left) if *left > 0 => {
                        *left -= u32::from(counted);
                        return Ok(());
                    }
                    _ => {}
                }
                let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test, registry\"");
                Err(Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", realm))
            }
        }
    }

    fn token(&mut self, request: &Request, body: &[u8]) -> Answer {
        let Auth::Bearer { login, identity, uses } = self.auth.clone() else { return Answer::new(404) };
        let shown = request.head.get("authorization").cloned();
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let fine = match (login, identity) {
            (_, Some(identity)) => form.get("refresh_token").is_some_and(|token| token == identity),
            (Some((user, password)), None) => shown == Some(basic(user, password)),
            (None, None) => shown.is_none(),
        };
        if !fine {
            return Answer::error(401, "UNAUTHORIZED");
        }
        self.serial += 1;
        let token = format!("token-{}", self.serial);
        self.tokens.insert(token.clone(), uses);
        let name = if identity.is_some() { "access_token" } else { "token" };
        Answer::new(200).body(json!({name: token, "expires_in": 300}).to_string())
    }

    fn answer(&mut self, port: u16, request: &Request, body: Vec<u8>) -> Answer {
        if request.path == "/token" {
            return self.token(request, &body);
        }
        // Storage elsewhere knows only what was signed.
        if request.query.contains_key("signature") {
            return self.blob(request);
        }
        if !request.query.contains_key("elsewhere")
            && let Err(refused) = self.allowed(port, request, true)
        {
            return refused;
        }
        if request.path == "/v2/" {
            return Answer::new(200).body("{}");
        }
        let Some((repository, kind, rest)) = request.parts() else { return Answer::error(404, "NAME_UNKNOWN") };
        match (request.method.as_str(), kind) {
            ("GET" | "HEAD", "manifests") => match self.manifests.get(&(repository, rest)) {
                Some((kind, bytes)) => Answer::new(200)
                    .header("Content-Type", kind.clone())
                    .header("Docker-Content-Digest", Digest::of(bytes).to_string())
                    .body(bytes.clone()),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            },
            ("PUT", "manifests") => self.put_manifest(request, repository, rest, body),
            ("GET" | "HEAD", "blobs") => match &self.blobs_elsewhere {
                Some(host) if request.method == "GET" && self.blobs.contains_key(&(repository, rest)) => {
                    let to = format!("http://{host}{}?signature=secret", request.path);
                    Answer::new(307).header("Location", to)
                }
                _ => self.blob(request),
            },
            ("POST", "blobs/uploads") => self.begin(request, repository),
            ("GET", "referrers") if self.no_referrers => Answer::error(404, "PAGE_NOT_FOUND"),
            ("GET", "referrers") => {
                let referring = self.manifests.iter().filter(|((own, name), (_, bytes))| {
                    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
                    *own == repository && name.starts_with("sha256:") && document["subject"]["digest"] == rest.as_str()
                });
                let manifests: Vec<Value> = referring
                    .map(|((_, digest), (kind, bytes))| {
                        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
                        json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "artifactType": document["artifactType"]})
                    })
                    .collect();
                Answer::new(200).body(json!({"schemaVersion": 2, "manifests": manifests}).to_string())
            }
            (method, "blobs/uploads") => self.go_on(method, request, repository, rest, body),
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    fn put_manifest(&mut self, request: &Request, repository: String, name: String, body: Vec<u8>) -> Answer {
        let digest = Digest::of(&body).to_string();
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        let blobs = layers.iter().chain([&document["config"]]).filter_map(|blob| blob["digest"].as_str());
        for blob in blobs {
            if !self.blobs.contains_key(&(repository.clone(), blob.to_owned())) {
                return Answer::error(400, "MANIFEST_BLOB_UNKNOWN");
            }
        }
        let kind = request.head.get("content-type").cloned().unwrap_or_default();
        for name in [name, digest.clone()] {
            self.manifests.insert((repository.clone(), name), (kind.clone(), body.clone()));
        }
        Answer::new(201).header("Docker-Content-Digest", digest)
    }

    fn blob(&self, request: &Request) -> Answer {
        let Some((repository, _, digest)) = request.parts() else { return Answer::new(404) };
        let Some(bytes) = self.blobs.get(&(repository, digest)) else { return Answer::error(404, "BLOB_UNKNOWN") };
        let range = request.head.get("range").filter(|_| !self.no_ranges);
        match range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) {
            Some(start) if start < bytes.len() => Answer::new(206)
                .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
                .body(&bytes[start..]),
            Some(_) => Answer::new(416),
            None => Answer::new(200).body(bytes.clone()),
        }
    }

    fn begin(&mut self, request: &Request, repository: String) -> Answer {
        if let (Some(digest), Some(from)) = (request.query.get("mount"), request.query.get("from"))
            && let Some(bytes) = self.blobs.get(&(from.clone(), digest.clone())).cloned()
        {
            self.blobs.insert((repository, digest.clone()), bytes);
            return Answer::new(201);
        }
        self.serial += 1;
        let id = format!("upload-{}", self.serial);
        self.uploads.insert(id.clone(), Vec::new());
        Answer::new(202).header("Location", self.location(&repository, &id)).header("Range", "0-0")
    }

    fn location(&self, repository: &str, id: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/{id}");
        match &self.uploads_elsewhere {
            Some(host) => format!("http://{host}{path}?elsewhere=1"),
            None => format!("{path}?state=s"),
        }
    }

    fn go_on(&mut self, method: &str, request: &Request, repository: String, id: String, body: Vec<u8>) -> Answer {
        let location = self.location(&repository, &id);
        if method == "PUT" && self.no_monolithic && !body.is_empty() {
            return Answer::error(413, "SIZE_INVALID");
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::error(404, "BLOB_UPLOAD_UNKNOWN") };
        if let Some(range) = request.head.get("content-range") {
            let start = range.split('-').next().and_then(|start| start.parse::<usize>().ok());
            if start != Some(upload.len()) {
                return Answer::new(416).header("Range", format!("0-{}", upload.len().saturating_sub(1)));
            }
        }
        upload.extend_from_slice(&body);
        let range = format!("0-{}", upload.len().saturating_sub(1));
        match method {
            "GET" => Answer::new(204).header("Location", location).header("Range", range),
            "PATCH" => Answer::new(202).header("Location", location).header("Range", range),
            "PUT" => {
                let bytes = self.uploads.remove(&id).expect("there just now");
                let wanted = request.query.get("digest").cloned().unwrap_or_default();
                if Digest::of(&bytes).to_string() != wanted {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert((repository, wanted), bytes);
                Answer::new(201)
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
