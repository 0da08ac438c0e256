//! What a file in an image is: paths, kinds and attributes, and the trait by which COPY reads them.
//!
//! This room does not touch a file system, knows no layer format and no store. Its nouns are what the
//! rooms above exchange: an unpacked layer is a sorted list of [`Entry`], a build context and a stack of
//! layers are both a [`Tree`].

mod entry;
#[cfg(test)]
pub mod memory;
mod path;
mod resolve;

pub use entry::{Entry, FileDigest, Kind, Meta, Mtime, Owners};
pub use path::{PathError, TreePath};
pub use resolve::{Resolved, resolve, resolve_parent};

use std::fs::File;
use std::io;

/// A file tree that can be read: the build context, or the merged layers of an image.
///
/// Paths are taken literally: no method follows a symbolic link, neither in the last component nor
/// before. Callers resolve links first, with [`resolve`].
pub trait Tree: Sync {
    /// Returns the file at `path`, or `None` where there is none (or a parent is not a directory).
    ///
    /// # Errors
    /// [`Error`] where the file system or the index cannot be read.
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, Error>;

    /// Returns whether the file at `path` can be seen under another name, too.
    ///
    /// # Errors
    /// [`Error`] where the file system or the index cannot be read.
    fn has_other_names(&self, path: &TreePath) -> Result<bool, Error> {
        let _ = path;
        Ok(false)
    }

    /// Returns the names and files in the directory `path`, sorted by name (bytes).
    ///
    /// # Errors
    /// [`Error`] where `path` is not a readable directory.
    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error>;

    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// [`Error`] where `path` is no regular file or cannot be opened.
    fn open(&self, path: &TreePath) -> Result<File, Error>;

    /// Returns the SHA-256 of the contents of each of the regular files `paths`, in their order.
    ///
    /// An implementation may know them already, and may read several files at the same time.
    ///
    /// # Errors
    /// The first [`Error`] met.
    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, Error>;
}

/// A file as a [`Tree`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type and what goes with it. Never [`Kind::Whiteout`]; a hard link shows as the file it names.
    pub kind: Kind,
    /// Mode, owner, time and extended attributes.
    pub meta: Meta,
    /// The same value for two names of one file (hard links), where the file has several names.
    pub inode: Option<(u64, u64)>,
}

/// A tree could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}")]
pub struct Error {
    /// What was attempted: "open", "read directory", …
    pub call: &'static str,
    /// Where, as the user knows it.
    pub path: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// Returns an error about `path` of an image: those begin with a slash.
    pub(crate) fn in_image(call: &'static str, path: &TreePath, source: impl Into<io::Error>) -> Self {
        Error { call, path: format!("/{path}"), source: source.into() }
    }

    /// Returns an error about `path` of a context: those do not.
    pub(crate) fn in_context(call: &'static str, path: &TreePath, source: impl Into<io::Error>) -> Self {
        Error { call, path: path.to_string(), source: source.into() }
    }
}
