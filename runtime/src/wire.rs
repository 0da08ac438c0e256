//! Messages between the processes of this crate, which are one program: four bytes of length, then postcard, over a stream socket;
//! descriptors travel with the first byte. Paths and arguments are bytes.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno as E;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Errno;

/// No message is longer: a step with 500 layers and a full environment takes some hundred kilobytes.
const MAX_MESSAGE: usize = 64 << 20;

/// Descriptors that come with a message at the most.
const MOST_FDS: usize = 5;

/// Sends `message`, and `fds` with it (at most [`MOST_FDS`]). Blocks until all is written.
pub(crate) fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    send_body(socket, &body(message)?, fds)
}

/// Returns the body of `message`, to be sent more than once.
pub(crate) fn body<T: Serialize>(message: &T) -> Result<Vec<u8>, Errno> {
    postcard::to_allocvec(message).map_err(|_| Errno::from(E::INVAL))
}

/// As [`send`], for the body of a message that came by [`Receiver::wait_body`].
pub(crate) fn send_body(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let length = u32::try_from(body.len()).map_err(|_| Errno::from(E::MSGSIZE))?;
    let bytes = [&length.to_ne_bytes()[..], body].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(E::INVAL.into());
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match rustix::net::sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest = &rest[sent..];
                control.clear();
            }
            Err(E::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The reading end of a socket with messages on it.
#[derive(Default)]
pub(crate) struct Receiver {
    buffer: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Reads what is there, waiting for the first byte. Returns false at the end.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> Result<bool, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0; 16 << 10];
        let received = loop {
            match rustix::net::recvmsg(
                socket.as_fd(),
                &mut [IoSliceMut::new(&mut chunk)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(message) => break message.bytes,
                Err(E::INTR) => {}
                Err(E::CONNRESET) => break 0,
                Err(errno) => return Err(errno.into()),
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.buffer.extend_from_slice(&chunk[..received]);
        Ok(received > 0)
    }

    /// Returns the next message that is complete.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Errno> {
        self.next_body()?.map(|body| parse(&body)).transpose()
    }

    fn next_body(&mut self) -> Result<Option<Vec<u8>>, Errno> {
        let Some(length) = self.buffer.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) else {
            return Ok(None);
        };
        if length > MAX_MESSAGE {
            return Err(E::MSGSIZE.into());
        }
        let Some(body) = self.buffer.get(4..4 + length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.buffer.drain(..4 + length);
        Ok(Some(body))
    }

    /// Returns the next descriptor that came with a message.
    pub(crate) fn fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Waits for the next message; `None` at the end.
    pub(crate) fn wait<T: DeserializeOwned>(&mut self, socket: impl AsFd) -> Result<Option<T>, Errno> {
        self.wait_body(socket)?.map(|body| parse(&body)).transpose()
    }

    /// As [`wait`](Self::wait), without reading the message: to pass it on.
    pub(crate) fn wait_body(&mut self, socket: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
        loop {
            if let Some(body) = self.next_body()? {
                return Ok(Some(body));
            }
            if !self.fill(socket.as_fd())? {
                return Ok(None);
            }
        }
    }
}

/// Returns the message that `body` is.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Errno> {
    postcard::from_bytes(body).map_err(|_| Errno::from(E::PROTO))
}

/// `#[serde(with = "wire::raw")]`: a path or a string of the system, which need not be UTF-8.
pub(crate) mod raw {
    use std::ffi::{OsStr, OsString};
    use std::fmt;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// The bytes of one.
    pub(super) struct Raw<T>(pub(super) T);

    impl<T: AsRef<OsStr>> Serialize for Raw<T> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_bytes(self.0.as_ref().as_bytes())
        }
    }

    impl<'de> Deserialize<'de> for Raw<OsString> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_byte_buf(Bytes).map(|bytes| Raw(OsString::from_vec(bytes)))
        }
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        /// As formats have it that know no bytes.
        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = numbers.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }

    pub(crate) fn serialize<S: Serializer>(value: &impl AsRef<OsStr>, to: S) -> Result<S::Ok, S::Error> {
        Raw(value).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        Raw::deserialize(from).map(|raw| raw.0.into())
    }
}

/// `#[serde(with = "wire::raw_list")]`: a list of those.
pub(crate) mod raw_list {
    use std::ffi::{OsStr, OsString};

    use serde::{Deserialize, Deserializer, Serializer};

    use super::raw::Raw;

    pub(crate) fn serialize<S: Serializer>(list: &[impl AsRef<OsStr>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(Raw))
    }

    pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<Raw<OsString>>::deserialize(from)?.into_iter().map(|raw| raw.0.into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_message_of_any_size_arrives_whole_with_its_descriptor() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let text = "x".repeat(1 << 20);
        let null = std::fs::File::open("/dev/null").expect("/dev/null");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(ours.as_fd(), &text, &[null.as_fd()]).expect("sends");
                send(ours.as_fd(), &"short", &[]).expect("sends");
                drop(ours.shutdown(std::net::Shutdown::Both));
            });
            let mut receiver = Receiver::new();
            assert_eq!(receiver.wait::<String>(&theirs).expect("receives").as_ref(), Some(&text));
            assert!(receiver.fd().is_some() && receiver.fd().is_none());
            assert_eq!(receiver.wait::<String>(&theirs).expect("receives").as_deref(), Some("short"));
            assert_eq!(receiver.wait::<String>(&theirs).expect("receives"), None);
        });
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        let mut receiver = Receiver::new();
        receiver.buffer = u32::MAX.to_ne_bytes().to_vec();
        assert!(receiver.next::<String>().is_err());
        receiver.buffer = [&3u32.to_ne_bytes()[..], b"{\"a"].concat();
        assert!(receiver.next::<String>().is_err());
    }
}
