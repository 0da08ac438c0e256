//! Services that keep blobs by name: a cache there is its blobs, by digest, and the manifest, by the name of the cache.
//!
//! What a [`Depot`] has is read as any other cache, through a [`DepotOrigin`], and written by [`export`].

mod error;
mod export;
mod origin;
mod reader;
mod said;

pub use error::DepotError;
pub use export::export;
pub use origin::DepotOrigin;

pub(super) use reader::{Resuming, read_whole};
pub(super) use said::{Said, element};

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::oci::Digest;
use crate::store::{Store, StoreError};

/// Blobs on their way to a depot are sent at once up to this length, and in parts of it beyond.
pub(super) const PART: u64 = 32 << 20;

/// A service that keeps blobs by name.
pub trait Depot: Send + Sync {
    /// Returns what it is called.
    fn place(&self) -> String;

    /// Returns the manifests of the caches that are meant, the most important first.
    ///
    /// # Errors
    /// [`DepotError::NoCache`] where there is none.
    fn manifests(&self) -> Result<Vec<Vec<u8>>, DepotError>;

    /// Opens a blob of this length. Who reads it verifies it.
    ///
    /// # Errors
    /// [`DepotError::Missing`] and [`DepotError::Length`].
    fn open(&self, blob: (&Digest, u64)) -> Result<Box<dyn Read + Send + '_>, DepotError>;

    /// Returns whether a blob of this length is there. One that is stays for some more time, where that is the depot's to say.
    ///
    /// # Errors
    /// [`DepotError`].
    fn has(&self, blob: (&Digest, u64)) -> Result<bool, DepotError>;

    /// Writes a blob.
    ///
    /// # Errors
    /// [`DepotError`]; then it is not there.
    fn put(&self, piece: &Piece<'_>) -> Result<(), DepotError>;

    /// Writes the manifest of a cache, whose blobs are there by now.
    ///
    /// # Errors
    /// [`DepotError`].
    fn put_manifest(&self, bytes: &[u8]) -> Result<(), DepotError>;

    /// Returns how many blobs, or parts of one, are sent at the same time.
    fn width(&self) -> usize {
        4
    }
}

/// A blob of the store, to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    store: &'a Store,
}

impl<'a> Piece<'a> {
    /// Returns a blob whose content was looked at: what is damaged must not get into a cache, where it would stay.
    ///
    /// # Errors
    /// [`StoreError`] where it is not there, or not what its digest says.
    pub fn sound(digest: Digest, size: u64, store: &'a Store) -> Result<Self, StoreError> {
        store.open_blob(&digest)?;
        match store.blob_is_sound(&digest, size) {
            true => Ok(Piece { digest, size, store }),
            false => Err(StoreError::Damaged {
                path: store.blob_path(&digest),
                reason: "it is not what its name says".into(),
            }),
        }
    }

    /// Opens `length` bytes of it, from `offset` on.
    ///
    /// # Errors
    /// What the file's system says.
    pub fn part(&self, offset: u64, length: u64) -> io::Result<Box<dyn Read + Send + 'a>> {
        let mut file: File = self.store.open_blob(&self.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file.take(length)))
    }

    /// Returns where the parts begin, and how long they are: [`PART`] bytes, or more where there would be more than `most`.
    pub(super) fn parts(&self, most: u64) -> Vec<(u64, u64)> {
        let each = PART.max(self.size.div_ceil(most).next_multiple_of(1 << 20));
        (0..self.size).step_by(each as usize).map(|at| (at, each.min(self.size - at))).collect()
    }
}
