//! Hands an agent's socket to a step: a socket of our own, with the owner and the mode that the step asks for, and threads
//! that pass bytes on. What an agent and a client say to each other is their affair.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Connections of one step at the same time, at the most: each takes two threads.
const MOST: usize = 64;

/// Both ends of the connections that are open, by number.
type Open = Arc<Mutex<HashMap<u64, [UnixStream; 2]>>>;

/// A socket that leads to an agent, until it is dropped.
#[derive(Debug)]
pub(in crate::build) struct Forwarder {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    open: Open,
    accepts: Option<JoinHandle<()>>,
    own: UnixStreamAddress,
}

/// A directory that is held open, and a name in it: paths of sockets have 108 bytes at the most.
#[derive(Debug)]
struct UnixStreamAddress {
    dir: std::fs::File,
    name: String,
}

impl UnixStreamAddress {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), self.name))
    }
}

impl Forwarder {
    /// Makes a socket in the directory `dir` that leads to `agent`.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn start(agent: &Path, dir: &Path, name: &str) -> io::Result<Self> {
        let own = UnixStreamAddress { dir: std::fs::File::open(dir)?, name: name.into() };
        // So that it is known now that there is one.
        UnixStream::connect(agent)?;
        let listener = UnixListener::bind(own.path())?;
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Open::default());
        let (agent, stopped, streams) = (agent.to_path_buf(), Arc::clone(&stop), Arc::clone(&open));
        let accepts = std::thread::Builder::new().name("agent".into()).spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client that cannot be served is hung up on.
                let Ok(client) = client else { continue };
                let _ = serve(number, client, &agent, &streams);
            }
        })?;
        Ok(Forwarder { path: dir.join(name), stop, open, accepts: Some(accepts), own })
    }

    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects `client` with the agent.
fn serve(number: u64, client: UnixStream, agent: &Path, open: &Open) -> io::Result<()> {
    let mut known = open.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST {
        return Ok(());
    }
    let agent = UnixStream::connect(agent)?;
    known.insert(number, [client.try_clone()?, agent.try_clone()?]);
    drop(known);
    let all = Arc::clone(open);
    let passes = move || {
        std::thread::scope(|scope| {
            let there = std::thread::Builder::new().spawn_scoped(scope, || pass_on(&client, &agent));
            if there.is_ok() {
                pass_on(&agent, &client);
            }
        });
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    };
    let started = std::thread::Builder::new().name("agent".into()).spawn(passes);
    if started.is_err() {
        open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
    started.map(drop)
}

fn pass_on(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a client. Where the step took the socket away, it is left to wait: it does nothing.
        let woken = UnixStream::connect(self.own.path()).is_ok() || UnixStream::connect(&self.path).is_ok();
        if let Some(accepts) = self.accepts.take().filter(|_| woken) {
            let _ = accepts.join();
        }
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_a_client_says_reaches_the_agent_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mut stream, mut said) = (stream, String::new());
                stream.read_to_string(&mut said).unwrap();
                let _ = stream.write_all(format!("you said {said}").as_bytes());
            }
        });
        let long = dir.path().join("x".repeat(150));
        std::fs::create_dir(&long).unwrap();
        let forwarder = Forwarder::start(&agent, &long, "s").unwrap();
        // More, one after the other, than there may be at the same time.
        for text in (0..3 * MOST).map(|number| number.to_string()) {
            let mut client = UnixStream::connect(forwarder.own.path()).unwrap();
            client.write_all(text.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, format!("you said {text}"));
        }
        drop(forwarder);
        assert!(!long.join("s").exists());
        assert!(Forwarder::start(&dir.path().join("nobody"), dir.path(), "t").is_err());
    }
}
