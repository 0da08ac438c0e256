use std::io;
use std::path::{Path, PathBuf};

use crate::oci::{Digest, ImageError};

/// Something is wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A call on a file of the store failed.
    #[error("cannot {call} {path}", path = path.display())]
    Io {
        /// What was attempted: "create", "write", …
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Other processes use the store, and go on doing so.
    #[error("other processes hold {path}", path = path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A blob is not in the store.
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    /// Content has another digest or size than its descriptor says.
    #[error("{what} has digest {found} ({found_size} bytes), not {expected} ({expected_size} bytes)")]
    Mismatch {
        /// What was read.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The size it should have.
        expected_size: u64,
        /// The digest it has.
        found: Digest,
        /// The size it has.
        found_size: u64,
    },
    /// A document of an image makes no sense, or there is no image for this platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A document of an image (manifest, index, configuration) makes no sense.
    #[error("{what}: {reason}")]
    BadImage {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Returns whether there was no more room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StoreError {
    pub(crate) fn io(call: &'static str, path: &Path, source: io::Error) -> Self {
        StoreError::Io { call, path: path.to_path_buf(), source }
    }
}
