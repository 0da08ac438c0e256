use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{PartialBlob, Store, StoreError};
use crate::oci::Digest;

/// Blobs that are coming in, for those who read them behind the writer: from the file that is being written, so that nothing of them
/// is held in memory, whoever is slower.
#[derive(Debug, Default)]
pub struct Arrivals {
    board: Mutex<Board>,
}

#[derive(Debug, Default)]
struct Board {
    tails: HashMap<Digest, Arc<Tail>>,
    closed: bool,
}

/// The end of a blob that is growing.
#[derive(Debug, Default)]
pub(super) struct Tail {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before the blob begins.
    file: Option<Arc<File>>,
    /// Counts the beginnings: what was read of an earlier one is worth nothing.
    turn: u32,
    /// Bytes in the file.
    there: u64,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// All of it is there, and its digest is right.
    Whole,
    /// No more comes.
    Over,
}

impl Arrivals {
    /// Tells the readers that the blob comes through `blob`.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the file that is being written cannot be opened to read.
    pub fn announce(&self, digest: &Digest, blob: &mut PartialBlob) -> Result<(), StoreError> {
        blob.follow(self.tail(digest))
    }

    /// Tells the readers that the blob is in the store, in whole and undamaged.
    ///
    /// # Errors
    /// As [`Store::open_blob`].
    pub fn is_there(&self, digest: &Digest, store: &Store) -> Result<(), StoreError> {
        let file = store.open_blob(digest)?;
        let there = file.metadata().map_err(|source| StoreError::io("read", &store.blob_path(digest), source))?.len();
        self.tail(digest).change(|state| {
            let turn = state.turn + 1;
            *state = State { file: Some(Arc::new(file)), turn, there, end: End::Whole };
        });
        Ok(())
    }

    /// Tells the readers that no more comes: those who still wait get an error.
    pub fn close(&self) {
        let mut board = self.board();
        board.closed = true;
        board.tails.values().for_each(|tail| tail.over());
    }

    /// Returns a reader of the blob, from its beginning. It waits for what is not there yet; its end is read only when the digest of the
    /// whole was found to be right.
    pub fn read(&self, digest: &Digest) -> Arriving {
        let tail = self.tail(digest);
        let turn = tail.state().turn;
        Arriving { tail, turn, begun: false, at: 0 }
    }

    fn tail(&self, digest: &Digest) -> Arc<Tail> {
        let mut board = self.board();
        let closed = board.closed;
        let tail = Arc::clone(board.tails.entry(*digest).or_default());
        if closed {
            tail.over();
        }
        tail
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.bell.notify_all();
    }

    fn over(&self) {
        self.change(|state| {
            if state.end == End::Open {
                state.end = End::Over;
            }
        });
    }

    /// The blob begins, with what is in `file` already.
    pub fn begin(&self, file: File, there: u64) {
        self.change(|state| {
            let turn = state.turn + 1;
            *state = State { file: Some(Arc::new(file)), turn, there, end: End::Open };
        });
    }

    /// So many bytes are in the file now.
    pub fn grow(&self, there: u64) {
        if self.state().there != there {
            self.change(|state| state.there = there);
        }
    }

    /// What came is thrown away. The blob may begin once more.
    pub fn lose(&self) {
        self.change(|state| {
            let (turn, end) = (state.turn + 1, state.end);
            *state = State { file: None, turn, there: 0, end };
        });
    }

    /// All is there, and right.
    pub fn finish(&self, there: u64) {
        self.change(|state| (state.there, state.end) = (there, End::Whole));
    }
}

/// Reads a blob behind its writer.
#[derive(Debug)]
pub struct Arriving {
    tail: Arc<Tail>,
    turn: u32,
    begun: bool,
    at: u64,
}

impl Arriving {
    /// Returns whether what was read was thrown away by the writer, who may begin once more.
    pub fn is_outdated(&self) -> bool {
        let state = self.tail.state();
        self.begun && state.turn != self.turn && state.end != End::Over
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.tail.state();
        let (file, length) = loop {
            if !self.begun && state.file.is_some() {
                (self.begun, self.turn) = (true, state.turn);
            }
            if self.begun && state.turn != self.turn {
                return Err(io::Error::other("the blob began once more"));
            }
            if let Some(file) = state.file.as_ref().filter(|_| self.at < state.there) {
                let length = usize::try_from(state.there - self.at).unwrap_or(usize::MAX);
                break (Arc::clone(file), length.min(buffer.len()));
            }
            match state.end {
                End::Whole => return Ok(0),
                End::Over => return Err(io::ErrorKind::UnexpectedEof.into()),
                End::Open => state = self.tail.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let length = file.read_at(&mut buffer[..length], self.at)?;
        if length == 0 && !buffer.is_empty() {
            // It was cut off this moment; the next turn is about to be known.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn read(arrivals: &Arrivals, digest: &Digest) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        arrivals.read(digest).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_blob_is_read_as_it_is_written() {
        let (_dir, store) = super::super::fixture::store();
        let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let mut before = store.partial_blob(&digest, size).unwrap();
        before.write_all(&bytes[..1_000_000]).unwrap();
        drop(before);
        let arrivals = Arrivals::default();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read(&arrivals, &digest).unwrap())).collect();
            let mut blob = store.partial_blob(&digest, size).unwrap();
            arrivals.announce(&digest, &mut blob).unwrap();
            assert_eq!(blob.kept(), 1_000_000);
            for piece in bytes[1_000_000..].chunks(300_000) {
                blob.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(blob.finish().unwrap(), None);
            for reader in readers {
                assert!(reader.join().unwrap() == bytes);
            }
        });
        // Who comes late reads it too.
        assert!(read(&arrivals, &digest).unwrap() == bytes);
    }

    #[test]
    fn what_is_wrong_has_no_end() {
        let (_dir, store) = super::super::fixture::store();
        let digest = Digest::of(b"hello");
        let arrivals = Arrivals::default();
        let begin = |bytes: &[u8]| {
            let mut blob = store.partial_blob(&digest, 5).unwrap();
            arrivals.announce(&digest, &mut blob).unwrap();
            blob.write_all(bytes).unwrap();
            blob.flush().unwrap();
            let (mut reader, mut buffer) = (arrivals.read(&digest), [0; 10]);
            assert_eq!(reader.read(&mut buffer).unwrap(), bytes.len());
            assert_eq!(&buffer[..bytes.len()], bytes);
            (blob, reader)
        };
        let (blob, mut reader) = begin(b"hullo");
        assert!(blob.finish().unwrap().is_some());
        assert!(reader.read(&mut [0; 1]).is_err() && reader.is_outdated());
        // It begins once more, then once more within the same file, and breaks off.
        let (mut blob, mut reader) = begin(b"hul");
        blob.restart().unwrap();
        assert!(reader.read(&mut [0; 1]).is_err() && reader.is_outdated());
        blob.write_all(b"hel").unwrap();
        blob.flush().unwrap();
        let mut reader = arrivals.read(&digest);
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 3);
        drop(blob);
        arrivals.close();
        assert!(reader.read(&mut [0; 1]).is_err() && !reader.is_outdated());
        assert!(read(&arrivals, &Digest::of(b"never came")).is_err());
    }

    #[test]
    fn what_the_store_has_is_read_from_there() {
        let (_dir, store) = super::super::fixture::store();
        let digest = store.put_blob(b"hello").unwrap();
        let arrivals = Arrivals::default();
        arrivals.is_there(&digest, &store).unwrap();
        arrivals.close();
        assert_eq!(read(&arrivals, &digest).unwrap(), b"hello");
    }
}
