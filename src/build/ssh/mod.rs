//! What a step with `--mount=type=ssh` may ask: an agent of the user, or private keys that are read here. No key is ever shown to
//! a step; it asks for signatures. What else an agent can do (take keys, forget them, be locked) is refused: a step could leave the
//! user without keys. Encrypted keys are not read, because nobody is there to be asked.

mod keys;
mod read;
mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

pub use keys::{KeyError, Keys};

/// Who answers a step that asks for keys and signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// An agent behind this socket.
    Socket(PathBuf),
    /// These keys.
    Keys(Arc<Keys>),
}

/// Who answers one connection.
#[derive(Debug)]
pub(super) enum Peer {
    Socket(UnixStream),
    Keys(Arc<Keys>),
}

impl Agent {
    /// Returns who answers a connection.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub(super) fn connect(&self) -> io::Result<Peer> {
        Ok(match self {
            Agent::Socket(path) => Peer::Socket(connect(path)?),
            Agent::Keys(keys) => Peer::Keys(Arc::clone(keys)),
        })
    }
}

/// How often, and after how long, an agent is tried again that has no room for one more connection.
const FULL_ATTEMPTS: u32 = 50;
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Connects to a socket that somebody else answers, who may never do.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut connected = net::connect(&socket, &address);
    for _ in 1..FULL_ATTEMPTS {
        if connected != Err(Errno::AGAIN) {
            break;
        }
        std::thread::sleep(FULL_PAUSE);
        connected = net::connect(&socket, &address);
    }
    connected?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl Peer {
    /// Answers `client` until it hangs up.
    ///
    /// # Errors
    /// What the system says of either end, and a message that is too long.
    pub(super) fn answer(&self, mut client: &UnixStream) -> io::Result<()> {
        while let Some(request) = wire::receive(&mut client)? {
            let answer = match (wire::is_asked_by_steps(&request), self) {
                (false, _) => vec![wire::FAILURE],
                (true, Peer::Keys(keys)) => keys.answer(&request),
                (true, Peer::Socket(agent)) => {
                    let mut agent = agent;
                    wire::send(&mut agent, &request)?;
                    wire::receive(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
                }
            };
            wire::send(&mut client, &answer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
