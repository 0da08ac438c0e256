//! Hands an agent to a step: a socket of our own, with the owner and the mode that the step asks for, and a thread for each of
//! its connections, which says what may be asked ([`Agent`]).

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::build::ssh::{Agent, Peer};

/// Connections of one step at the same time, at the most: each takes a thread.
const MOST: usize = 64;

/// The ends of the connections that are open, by number: of the client, and of the agent where it has one.
type Open = Arc<Mutex<HashMap<u64, Vec<UnixStream>>>>;

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
    pub fn start(agent: &Agent, dir: &Path, name: &str) -> io::Result<Self> {
        let own = UnixStreamAddress { dir: std::fs::File::open(dir)?, name: name.into() };
        // So that it is known now that there is one.
        agent.connect()?;
        let listener = UnixListener::bind(own.path())?;
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Open::default());
        let (agent, stopped, streams) = (agent.clone(), Arc::clone(&stop), Arc::clone(&open));
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

/// Has `client` answered.
fn serve(number: u64, client: UnixStream, agent: &Agent, open: &Open) -> io::Result<()> {
    // Not while others wait for the lock: it may take its time.
    let peer = agent.connect()?;
    let mut known = open.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST {
        return Ok(());
    }
    let mut ends = vec![client.try_clone()?];
    if let Peer::Socket(agent) = &peer {
        ends.push(agent.try_clone()?);
    }
    known.insert(number, ends);
    drop(known);
    let all = Arc::clone(open);
    let answers = move || {
        // Whatever ends it, the client sees that it is over.
        let _ = peer.answer(&client);
        let _ = client.shutdown(Shutdown::Both);
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    };
    let started = std::thread::Builder::new().name("agent".into()).spawn(answers);
    if started.is_err() {
        open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
    started.map(drop)
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
    fn what_a_client_asks_reaches_the_agent_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut asked = [0; 9];
                if stream.read_exact(&mut asked).is_ok() {
                    let _ = stream.write_all(&[&[0, 0, 0, 5, 12], &asked[5..]].concat());
                }
            }
        });
        let long = dir.path().join("x".repeat(150));
        std::fs::create_dir(&long).unwrap();
        let forwarder = Forwarder::start(&Agent::Socket(agent), &long, "s").unwrap();
        // More, one after the other, than there may be at the same time.
        for number in 0..3 * MOST as u32 {
            let mut client = UnixStream::connect(forwarder.own.path()).unwrap();
            client.write_all(&[&[0, 0, 0, 5, 11], &number.to_be_bytes()[..]].concat()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [&[0, 0, 0, 5, 12], &number.to_be_bytes()[..]].concat());
        }
        drop(forwarder);
        assert!(!long.join("s").exists());
        assert!(Forwarder::start(&Agent::Socket(dir.path().join("nobody")), dir.path(), "t").is_err());
    }
    #[test]
    fn an_agent_that_never_answers_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let forwarder = Forwarder::start(&Agent::Socket(agent), dir.path(), "s").unwrap();
        let clients: Vec<_> = (0..5).map(|_| UnixStream::connect(forwarder.path()).unwrap()).collect();
        let (ended, has_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(forwarder);
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(std::time::Duration::from_secs(5)).expect("ends soon");
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "it is hung up on");
        }
    }
}
