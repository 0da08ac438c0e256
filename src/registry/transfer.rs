use std::error::Error;
use std::io::{self, Read, Write};

use crate::oci::Digest;

/// An error of the other side of a transfer.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Where blobs of a pull go. Used from several threads.
pub trait Destination: Sync {
    /// Returns whether the blob is there already, in whole and undamaged.
    fn has(&self, digest: &Digest, size: u64) -> bool;

    /// Begins to take a blob, or goes on with one that was begun earlier.
    ///
    /// # Errors
    /// Those of the other side.
    fn begin(&self, digest: &Digest, size: u64) -> Result<Box<dyn Incoming>, BoxError>;
}

/// A blob that is coming in: what is written is appended. Dropped before its end, it may keep what it has for later.
pub trait Incoming: Write + Send {
    /// Returns how many bytes of it are there.
    fn kept(&self) -> u64;

    /// Throws away what is there.
    ///
    /// # Errors
    /// Those of writing.
    fn restart(&mut self) -> io::Result<()>;

    /// Puts it into its place if all of it is there and has the right digest: then `None`. Else it is thrown away, and its digest
    /// is returned.
    ///
    /// # Errors
    /// Those of the other side.
    fn finish(self: Box<Self>) -> Result<Option<Digest>, BoxError>;
}

/// Uploads that earlier processes began. Used from several threads.
pub trait Unfinished: Sync {
    /// Returns what is known of the upload of a blob to `place`, a host and a repository; `None` where it is not one to be gone on with
    /// later: somebody else is about it, or nothing can be kept.
    fn session(&self, place: &str, digest: &Digest) -> Option<Box<dyn Session>>;
}

/// What is known of one upload. Dropped before [`end`](Session::end), it is there for the next process.
pub trait Session {
    /// Returns where it goes on, if it was begun. Who has this address may need nothing else to write there.
    fn location(&self) -> Option<String>;

    /// Keeps the address of an upload that begins.
    fn begin(&mut self, location: &str);

    /// Keeps the address at which it goes on.
    fn go_on(&mut self, location: &str);

    /// Forgets it: the blob is there.
    fn end(self: Box<Self>);
}

/// Where blobs of a push come from. Used from several threads.
pub trait Origin: Sync {
    /// Opens a blob, `offset` bytes from its start. Its end is an error of reading where the blob is not what its digest says.
    ///
    /// # Errors
    /// Those of the other side.
    fn open(&self, digest: &Digest, size: u64, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}
