//! A server for HTTP in this process, with faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How many requests for this path there were before.
    pub before: usize,
}

impl Asked {
    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is closed.
    cut: Option<usize>,
    /// The length that is said, where it is not the true one.
    length: Option<u64>,
}

impl Answer {
    /// Returns an answer with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Answer { status: 200, body: body.into(), ..Answer::default() }
    }

    /// Returns an answer without one.
    pub fn status(status: u16) -> Self {
        Answer { status, ..Answer::default() }
    }

    /// Returns one that leads elsewhere.
    pub fn redirect(to: &str) -> Self {
        Answer::status(302).header("Location", to)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the connection after so many bytes of the body.
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Says another length.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }
}

/// A server on the loopback, as long as the value lives.
#[derive(Debug)]
pub struct Web {
    port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Starts a server that answers as `answer` says.
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&log);
        let port = super::listen(move |stream| serve(stream, &answer, &into));
        Web { port, log }
    }

    /// Returns the host, with its port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// Returns all requests so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().expect("no panic while locked").clone()
    }
}

fn serve(stream: TcpStream, answer: &(dyn Fn(&Asked) -> Answer + Sync), log: &Mutex<Vec<Asked>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').expect("a header");
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let asked = {
        let mut log = log.lock().expect("no panic while locked");
        let before = log.iter().filter(|asked| asked.path == path).count();
        log.push(Asked { path, headers, before });
        log.last().expect("just pushed").clone()
    };
    let answer = answer(&asked);
    let length = answer.length.unwrap_or(answer.body.len() as u64);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = stream;
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len()).min(answer.body.len())];
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    let _ = stream.shutdown(Shutdown::Write);
    // What still comes is read, so that the answer is not lost with the connection.
    let _ = reader.read_to_end(&mut Vec::new());
}
