use std::io;

use crate::context::ContextError;
use crate::fetch::FetchError;
use crate::layer::LayerError;
use crate::store::StoreError;

/// A build context cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// It cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// What the user calls it.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{name} is empty: neither a Dockerfile nor an archive")]
    Empty {
        /// What the user calls it.
        name: String,
    },
    /// A file that is given as a context is no archive.
    #[error("{name} is neither a folder nor a tar archive")]
    NoArchive {
        /// What the user calls it.
        name: String,
    },
    /// A Dockerfile is longer than any sensible one.
    #[error("the Dockerfile from {name} has more than {limit} bytes")]
    TooLong {
        /// What the user calls it.
        name: String,
        /// The most it may have.
        limit: u64,
    },
    /// A Dockerfile is not text.
    #[error("{name} is no archive, and no Dockerfile either: byte {at} is not part of a UTF-8 character")]
    NotUtf8 {
        /// What the user calls it.
        name: String,
        /// Where the text ends.
        at: usize,
    },
    /// The archive cannot be unpacked.
    #[error("cannot unpack {name}")]
    Archive {
        /// What the user calls it.
        name: String,
        /// Why not.
        #[source]
        source: LayerError,
    },
    /// A directory of the archive that was asked for is not there.
    #[error("there is no directory {folder} in {name}")]
    NoFolder {
        /// What the user calls it.
        name: String,
        /// The directory.
        folder: String,
    },
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The folder of the context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
