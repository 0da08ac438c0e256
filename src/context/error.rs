use std::io;
use std::path::PathBuf;

use super::IgnoreError;
use crate::tree;

/// The build context, or a file beside it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The folder cannot be opened.
    #[error("cannot open the build context {path:?}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Neither a Containerfile nor a Dockerfile is in the folder.
    #[error("there is no Containerfile and no Dockerfile in {dir:?}; name one with --file")]
    NoDockerfile {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something in the context cannot be read.
    #[error("cannot read the build context")]
    Tree(#[from] tree::Error),
    /// What should be a file is a fifo, a device, a folder or a link.
    #[error("{path:?} is a {found}, not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file is longer than any sensible one.
    #[error("{path:?} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A Dockerfile is not text.
    #[error("{path:?} is not UTF-8: byte {at} is not part of a character")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the text ends.
        at: usize,
    },
    /// An ignore file has a bad rule.
    #[error("{path:?} has a bad rule")]
    Ignore {
        /// The file.
        path: PathBuf,
        /// Which rule.
        #[source]
        source: IgnoreError,
    },
}
