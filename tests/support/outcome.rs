use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any call may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A call that is going on.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    since: Instant,
}

/// What a call has written so far, and the thread that reads on.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn new(mut command: Command) -> Self {
        let line = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdout = Stream::read(child.stdout.take().expect("a pipe"));
        let stderr = Stream::read(child.stderr.take().expect("a pipe"));
        Running { line, child, stdout, stderr, since: Instant::now() }
    }

    /// Waits until the call has written `text` to its standard output or error.
    pub fn wait_for(&mut self, text: &str) {
        while !self.stdout.text().contains(text) && !self.stderr.text().contains(text) {
            let ended = self.child.try_wait().expect("our child").is_some();
            assert!(!ended && self.since.elapsed() < PATIENCE, "no `{text}` in\n{}", self.stderr.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child");
    }

    /// Returns how it ended.
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if self.since.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("{} takes for ever; it says\n{}", self.line, self.stderr.text());
            }
            thread::sleep(Duration::from_millis(2));
        };
        let outcome = Outcome {
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            took: self.since.elapsed(),
            line: self.line,
        };
        assert!(!outcome.stderr.contains("panicked at"), "{outcome}");
        outcome
    }
}

impl Stream {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                into.lock().expect("no panic while locked").extend_from_slice(&piece[..count]);
            }
        });
        Stream { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic while locked")).into_owned()
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    status: ExitStatus,
    line: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}\n--- stdout\n{}\n--- stderr\n{}", self.line, self.status, self.stdout, self.stderr)
    }
}

impl Outcome {
    /// Checks that the exit code is 0.
    pub fn succeeds(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Checks the exit code of a failure, and that it says why.
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        assert!(!self.stderr.trim().is_empty(), "a failure without a word: {self}");
        self
    }

    /// Checks that it fails with one of the documented exit codes, and says why.
    pub fn fails_cleanly(self) -> Self {
        assert!(matches!(self.code(), Some(1..=6)), "{self}");
        assert!(!self.stderr.trim().is_empty(), "a failure without a word: {self}");
        self
    }

    /// Checks what it wrote to standard error.
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no `{text}` in {self}");
        self
    }

    /// Checks what it did not write to standard error.
    pub fn stderr_has_no(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "there is `{text}` in {self}");
        self
    }

    /// Checks what it wrote to standard output.
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no `{text}` in {self}");
        self
    }

    /// Checks how long it took.
    pub fn takes_at_most(self, limit: Duration) -> Self {
        assert!(self.took <= limit, "took {:?}: {self}", self.took);
        self
    }

    /// Returns the exit code, or `None` where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Returns how many times `text` is in what it wrote to standard error.
    pub fn count(&self, text: &str) -> usize {
        self.stderr.matches(text).count()
    }
}
