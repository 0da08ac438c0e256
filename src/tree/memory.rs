//! A [`Tree`] in memory, for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};

use sha2::{Digest as _, Sha256};

use super::{Error, FileDigest, Kind, Meta, Mtime, Node, Tree, TreePath};

/// A tree made up by a test. Parents are added by themselves: 0755, owned by root, with time 1.
///
/// The last file that was added can be changed: `.file("a", "text").mode(0o4755).owner(1, 2)`.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    files: BTreeMap<TreePath, (Node, Vec<u8>)>,
    last: TreePath,
}

impl MemoryTree {
    /// Returns a tree with nothing but a root.
    pub fn new() -> Self {
        let mut tree = MemoryTree { files: BTreeMap::new(), last: TreePath::root() };
        tree.files.insert(TreePath::root(), (node(Kind::Dir, 0o755), Vec::new()));
        tree
    }

    /// Adds a regular file, 0644.
    pub fn file(self, path: impl AsRef<[u8]>, contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref().to_vec();
        let kind = Kind::File { size: contents.len() as u64, digest: None };
        self.add(path.as_ref(), node(kind, 0o644), contents)
    }

    /// Adds a directory, 0755.
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.add(path.as_ref(), node(Kind::Dir, 0o755), Vec::new())
    }

    /// Adds a symbolic link.
    pub fn link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let kind = Kind::Symlink { target: target.as_ref().to_vec() };
        self.add(path.as_ref(), node(kind, 0o777), Vec::new())
    }

    /// Adds a file of another kind, 0644.
    pub fn other(self, path: impl AsRef<[u8]>, kind: Kind) -> Self {
        self.add(path.as_ref(), node(kind, 0o644), Vec::new())
    }

    /// Gives the last file this mode.
    pub fn mode(self, mode: u32) -> Self {
        self.change(|node| node.meta.mode = mode)
    }

    /// Gives the last file these owners.
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.change(|node| (node.meta.uid, node.meta.gid) = (uid, gid))
    }

    /// Gives the last file this time.
    pub fn mtime(self, secs: i64) -> Self {
        self.change(|node| node.meta.mtime = Mtime::from_secs(secs))
    }

    /// Makes the last file a name of the file with this number.
    pub fn inode(self, number: u64) -> Self {
        self.change(|node| node.inode = Some((1, number)))
    }

    /// Gives the last file an extended attribute.
    pub fn xattr(self, name: &str, value: &str) -> Self {
        self.change(|node| {
            node.meta.xattrs.insert(name.into(), value.into());
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Node)) -> Self {
        change(&mut self.files.get_mut(&self.last).expect("it was just added").0);
        self
    }

    fn add(mut self, path: &[u8], node_there: Node, contents: Vec<u8>) -> Self {
        let path = TreePath::new(path).expect("a good path");
        for parent in path.ancestors() {
            self.files.entry(parent).or_insert_with(|| (node(Kind::Dir, 0o755), Vec::new()));
        }
        self.files.insert(path.clone(), (node_there, contents));
        self.last = path;
        self
    }

    fn contents(&self, path: &TreePath) -> Result<&[u8], Error> {
        match self.files.get(path) {
            Some((Node { kind: Kind::File { .. }, .. }, contents)) => Ok(contents),
            _ => Err(missing("open", path)),
        }
    }
}

impl Default for MemoryTree {
    fn default() -> Self {
        MemoryTree::new()
    }
}

impl Tree for MemoryTree {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, Error> {
        Ok(self.files.get(path).map(|(node, _)| node.clone()))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        if !self.files.get(path).is_some_and(|(node, _)| node.kind.is_dir()) {
            return Err(missing("read directory", path));
        }
        let below = self.files.iter().filter(|(file, _)| file.parent().as_ref() == Some(path));
        Ok(below.map(|(file, (node, _))| (file.name().unwrap_or_default().to_vec(), node.clone())).collect())
    }

    fn open(&self, path: &TreePath) -> Result<File, Error> {
        let write = || {
            let mut file = tempfile::tempfile()?;
            file.write_all(self.contents(path).map_err(io::Error::other)?)?;
            file.rewind()?;
            Ok(file)
        };
        write().map_err(|source| Error { call: "open", path: path.to_string(), source })
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, Error> {
        paths.iter().map(|path| Ok(FileDigest(Sha256::digest(self.contents(path)?).into()))).collect()
    }
}

fn node(kind: Kind, mode: u32) -> Node {
    Node { kind, meta: Meta { mode, mtime: Mtime::from_secs(1), ..Meta::default() }, inode: None }
}

fn missing(call: &'static str, path: &TreePath) -> Error {
    Error { call, path: path.to_string(), source: io::ErrorKind::NotFound.into() }
}
