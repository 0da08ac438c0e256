use std::io;
use std::path::PathBuf;

use super::tar::TarError;
use crate::tree::{PathError, TreePath};

/// A layer cannot be unpacked or packed. All paths are those in the image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive is damaged, or cannot be read or written.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The folder that a layer should be unpacked to cannot be opened.
    #[error("cannot open {dir}", dir = dir.display())]
    Open {
        /// The folder on the host.
        dir: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A call on a file of the layer failed: no space left, no permission.
    #[error("cannot {call} {path}")]
    Io {
        /// What was attempted: "create", "write", …
        call: &'static str,
        /// The file.
        path: TreePath,
        /// Why it failed; has the error number of the system.
        #[source]
        source: io::Error,
    },
    /// The owner of a file has no place in the id map.
    #[error("cannot give {path} to {uid}:{gid}: that id is not in the id map")]
    UnmappedOwner {
        /// The file.
        path: TreePath,
        /// Its owner in the image.
        uid: u32,
        /// Its group in the image.
        gid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file system keeps no extended attributes, so the owner of a file can not be written down there.
    #[error("cannot note that {path} belongs to {uid}:{gid}: the file system keeps no attributes of users")]
    NoAttributes {
        /// The file.
        path: TreePath,
        /// Its owner in the image.
        uid: u32,
        /// Its group in the image.
        gid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The name of an entry is none that a file can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The name of an entry is longer than the kernel takes.
    #[error("{path}…: the path has {length} bytes, more than 4096")]
    LongPath {
        /// How it begins.
        path: String,
        /// Its length.
        length: usize,
    },
    /// A name that begins with `.wh.` says "removed" in a layer; no file can have it.
    #[error("{path}: no file in a layer may have a name that begins with .wh.")]
    Reserved {
        /// The file.
        path: TreePath,
    },
    /// A whiteout for no name, `.` or `..`.
    #[error("{path}: this whiteout removes nothing that can exist")]
    BadWhiteout {
        /// The whiteout.
        path: TreePath,
    },
    /// The archive says that the root of the image is something else than a directory.
    #[error("the archive makes the root directory a {kind}")]
    RootNotDir {
        /// What it says.
        kind: &'static str,
    },
    /// The archive puts something below a file.
    #[error("{path}: {parent} is not a directory")]
    NotADirectory {
        /// The entry.
        path: TreePath,
        /// The file.
        parent: TreePath,
    },
    /// The way to an entry goes through links without end.
    #[error("{path}: too many symbolic links")]
    LinkLoop {
        /// The entry.
        path: TreePath,
    },
    /// A hard link names a file that is not before it in the archive.
    #[error("{path}: a hard link to {target}, which is no file in the archive before it")]
    NoLinkTarget {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
    },
    /// The text of a symbolic link is empty, too long or has a NUL byte.
    #[error("{path}: a symbolic link with a text that no link can have")]
    BadLinkText {
        /// The link.
        path: TreePath,
    },
    /// A file has another length than was announced.
    #[error("{path}: has {found} bytes, not {expected}")]
    Length {
        /// The file.
        path: TreePath,
        /// Bytes that were announced.
        expected: u64,
        /// Bytes that were read.
        found: u64,
    },
    /// The archive is larger than any layer should be.
    #[error("{path}: the layer has more than {limit} bytes")]
    TooLarge {
        /// The entry that was too much.
        path: TreePath,
        /// [`UnpackOptions::max_bytes`](super::UnpackOptions::max_bytes).
        limit: u64,
    },
    /// The archive has more, or longer, names than any layer should have.
    #[error("{path}: the names and attributes of the layer take more than {limit} bytes")]
    IndexTooLarge {
        /// The entry that was too much.
        path: TreePath,
        /// [`UnpackOptions::max_index`](super::UnpackOptions::max_index).
        limit: u64,
    },
}
