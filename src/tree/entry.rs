use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::TreePath;

/// One file of a layer: where it is, what it is, and its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is, from the root of the image.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, time and extended attributes. All zero for a [`Kind::Whiteout`]; those of the file it names
    /// for a [`Kind::Hardlink`].
    pub meta: Meta,
    /// The archive named only something below this directory, not the directory itself; its attributes are those
    /// of the layer below, or 0:0 and 0755.
    pub implied: bool,
}

/// The type of a file, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the contents; `None` where nobody has read it yet (contexts). Always there in the index of
        /// a layer.
        digest: Option<FileDigest>,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its text, verbatim.
    Symlink {
        /// What the link says.
        target: Vec<u8>,
    },
    /// Another name of an earlier entry of the same layer, which is a regular file or a node, never a directory
    /// or again a link.
    Hardlink {
        /// The path of that entry.
        target: TreePath,
    },
    /// A character device. On disk it is a file that stands for it: nobody but real root could make one.
    Char {
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A block device, as [`Kind::Char`].
    Block {
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A named pipe.
    Fifo,
    /// A file of a lower layer that this layer removes.
    Whiteout,
}

/// The SHA-256 of a file's contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileDigest(pub [u8; 32]);

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Attributes of a file, as the image has them (not as they are on disk).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: at most 07777.
    pub mode: u32,
    /// Owner in the image.
    pub uid: u32,
    /// Group in the image.
    pub gid: u32,
    /// Time of the last change of the contents.
    pub mtime: Mtime,
    /// Extended attributes that belong to the image: `security.capability` (as version 2, without a root id) and
    /// `user.*`. Never those of overlayfs or of coracle.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A time of last modification. Layers keep whole seconds, so `nanos` is 0 in every index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mtime {
    /// Seconds since 1970, rounded down; negative before.
    pub secs: i64,
    /// Nanoseconds after that second.
    pub nanos: u32,
}

/// How the owners and modes of an image's files are kept on disk. The index of a layer has the true ones in every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Files belong on disk to whom they belong in the image: this process may chown(2), as root of a user namespace with
    /// a full id map, or as root.
    Native,
    /// All files belong to the caller on disk, and those that belong to somebody else in the image say so in an extended
    /// attribute: for steps in a user namespace with one id.
    Emulated,
    /// All files belong to the caller on disk, who can read and remove them, whatever their modes are in the image: for
    /// builds that run nothing.
    Caller,
    /// All files belong to the caller on disk and have the modes of the image: for folders outside of the store.
    Exported,
}

impl Mtime {
    /// Returns the time of whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Mtime { secs, nanos: 0 }
    }
}

impl Kind {
    /// Returns whether this is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self, Kind::Dir)
    }

    /// Returns the standard word: "file", "directory", "symbolic link", …
    pub fn word(&self) -> &'static str {
        match self {
            Kind::File { .. } => "file",
            Kind::Dir => "directory",
            Kind::Symlink { .. } => "symbolic link",
            Kind::Hardlink { .. } => "hard link",
            Kind::Char { .. } => "character device",
            Kind::Block { .. } => "block device",
            Kind::Fifo => "fifo",
            Kind::Whiteout => "whiteout",
        }
    }
}
