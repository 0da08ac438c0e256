//! Trees beside the context: one file whose content stands in the Dockerfile, and what an ADD fetched.

use std::fmt;
use std::fs::File;
use std::io::{Seek, Write};
use std::ops::Deref;
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::CopyError;
use super::find::clean;
use crate::tree::{Error, FileDigest, Kind, Meta, Mtime, Node, Tree, TreePath};

/// A tree that is no context, stage or image.
#[derive(Clone)]
pub struct OtherTree(Arc<dyn Tree + Send>);

/// What an ADD fetched from a URL or a git repository.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it is.
    pub tree: OtherTree,
    /// Its place there: a file, or a directory whose contents are copied. All attributes are those that it shall have in the
    /// image.
    pub at: TreePath,
    /// The name of a file, where the destination is a directory.
    pub name: Vec<u8>,
}

impl OtherTree {
    /// Returns `tree`, to be read by whoever needs it.
    pub fn new(tree: impl Tree + Send + 'static) -> Self {
        OtherTree(Arc::new(tree))
    }
}

impl Deref for OtherTree {
    type Target = dyn Tree + Send;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for OtherTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherTree")
    }
}

/// A tree with a single file.
struct Inline {
    path: TreePath,
    node: Node,
    text: String,
}

/// Returns the file `name` with `text` in it: 0644, owned by root, with the time `now`.
pub(super) fn inline(name: &str, text: &str, now: i64) -> Result<Fetched, CopyError> {
    let bad = || CopyError::BadName { name: name.to_owned() };
    let last = clean(name).pop().ok_or_else(bad)?;
    let path = TreePath::new(last).map_err(|_| bad())?;
    let digest = FileDigest(Sha256::digest(text).into());
    let kind = Kind::File { size: text.len() as u64, digest: Some(digest) };
    let meta = Meta { mode: 0o644, mtime: Mtime::from_secs(now), ..Meta::default() };
    let node = Node { kind, meta, inode: None };
    let name = last.as_bytes().to_vec();
    Ok(Fetched { tree: OtherTree::new(Inline { path: path.clone(), node, text: text.to_owned() }), at: path, name })
}

impl Tree for Inline {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, Error> {
        if path.is_root() {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            return Ok(Some(Node { kind: Kind::Dir, meta, inode: None }));
        }
        Ok((*path == self.path).then(|| self.node.clone()))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        if !path.is_root() {
            return Err(Error::in_context("read directory", path, Errno::NOTDIR));
        }
        Ok(vec![(self.path.as_bytes().to_vec(), self.node.clone())])
    }

    fn open(&self, path: &TreePath) -> Result<File, Error> {
        if *path != self.path {
            return Err(Error::in_context("open", path, Errno::NOENT));
        }
        let fd = rustix::fs::memfd_create("inline", MemfdFlags::CLOEXEC)
            .map_err(|errno| Error::in_context("open", path, errno))?;
        let mut file = File::from(fd);
        let written = file.write_all(self.text.as_bytes()).and_then(|()| file.rewind());
        written.map_err(|source| Error { call: "open", path: path.to_string(), source })?;
        Ok(file)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, Error> {
        let digest = |path: &TreePath| match &self.node.kind {
            Kind::File { digest: Some(digest), .. } if *path == self.path => Ok(*digest),
            _ => Err(Error::in_context("read", path, Errno::NOENT)),
        };
        paths.iter().map(digest).collect()
    }
}

/// A tree with nothing in it: what a layer of `--link` is made upon, and the context of a build that has none.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Tree for Nothing {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, Error> {
        let root = || Node { kind: Kind::Dir, meta: Meta { mode: 0o755, ..Meta::default() }, inode: None };
        Ok(path.is_root().then(root))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        if path.is_root() { Ok(Vec::new()) } else { Err(Error::in_context("read directory", path, Errno::NOENT)) }
    }

    fn open(&self, path: &TreePath) -> Result<File, Error> {
        Err(Error::in_context("open", path, Errno::NOENT))
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, Error> {
        paths.iter().map(|path| Err(Error::in_context("read", path, Errno::NOENT))).collect()
    }
}
