//! A server for HTTP in this process, that is sent bodies: the ground on which services of caches are built.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// The query, as it came.
    pub query: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// Returns a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Returns a value of the query, decoded.
    pub fn value(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// Returns the path, decoded.
    pub fn decoded(&self) -> String {
        let text = format!("x={}", self.path.replace('+', "%2B"));
        url::form_urlencoded::parse(text.as_bytes()).next().expect("a pair").1.into_owned()
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection is closed.
    pub cut: Option<usize>,
    /// How long nothing is said.
    pub late: Duration,
}

impl Reply {
    /// Returns an answer.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A server on the loopback.
#[derive(Debug)]
pub struct Service {
    port: u16,
    log: Arc<Mutex<Vec<Call>>>,
}

impl Service {
    /// Starts a server that answers as `answer` says.
    pub fn new(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&log);
        let port = super::listen(move |stream| serve(stream, &answer, &into));
        Service { port, log }
    }

    /// Returns the host, with its port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns all requests since this was asked last.
    pub fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut *self.log.lock().expect("no panic while locked"))
    }
}

fn serve(mut stream: TcpStream, answer: &(dyn Fn(&Call) -> Reply + Sync), log: &Mutex<Vec<Call>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    if line.starts_with("CONNECT ") {
        // As a proxy it leads to itself, wherever it is asked for.
        while reader.read_line(&mut line).is_ok_and(|length| length > 2) {}
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
        line.clear();
        if reader.read_line(&mut line).is_err() || line.is_empty() {
            return;
        }
    }
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut call = Call { method, path: path.into(), query: query.into(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').expect("a header");
        call.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if call.header("expect") == "100-continue" {
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let length: u64 = call.header("content-length").parse().unwrap_or_default();
    if reader.by_ref().take(length).read_to_end(&mut call.body).is_err() || call.body.len() as u64 != length {
        return;
    }
    log.lock().expect("no panic while locked").push(call.clone());
    let reply = answer(&call);
    thread::sleep(reply.late);
    let Reply { status, headers, body, cut, .. } = reply;
    let mut head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if call.method == "HEAD" { &[][..] } else { &body[..cut.unwrap_or(body.len()).min(body.len())] };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    let _ = stream.shutdown(Shutdown::Write);
    let _ = reader.read_to_end(&mut Vec::new());
}
