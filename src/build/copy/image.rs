//! The image as a COPY has it so far: what was there, and what was put into it.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use crate::tree::{self, FileDigest, Kind, Node, Tree, TreePath};

/// An image, and what is put into it. Nothing is written.
pub(super) struct Image<'a> {
    before: &'a dyn Tree,
    /// What was put into it, and the number of the item.
    made: HashMap<TreePath, (Node, usize)>,
    /// New directories where there were others before, of which nothing may be seen.
    hiding: HashSet<TreePath>,
}

impl<'a> Image<'a> {
    pub fn new(before: &'a dyn Tree) -> Self {
        Image { before, made: HashMap::new(), hiding: HashSet::new() }
    }

    /// Returns the names that a new directory at `path` must hide: those in a directory that was there before something else
    /// took its place.
    pub fn names_to_hide(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, tree::Error> {
        match self.before.lookup(path)? {
            Some(node) if node.kind.is_dir() => {
                Ok(self.before.read_dir(path)?.into_iter().map(|(name, _)| name).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Says that nothing of what was in the directory `path` before can be seen.
    pub fn hide(&mut self, path: &TreePath) {
        self.hiding.insert(path.clone());
    }

    /// Puts the item with this number at `path`.
    pub fn put(&mut self, path: TreePath, node: Node, number: usize) {
        self.made.insert(path, (node, number));
    }

    /// Forgets what was put into the directory `path`, because it is to be one no more.
    pub fn clear(&mut self, path: &TreePath) {
        self.made.retain(|other, _| !other.starts_with(path) || other == path);
        self.hiding.retain(|other| !other.starts_with(path));
    }

    /// Returns whether the item with this number is what is at `path` in the end.
    pub fn is_last(&self, path: &TreePath, number: usize) -> bool {
        self.made.get(path).is_some_and(|(_, last)| *last == number)
    }
}

impl Tree for Image<'_> {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        match self.made.get(path) {
            Some((Node { kind: Kind::Whiteout, .. }, _)) => Ok(None),
            Some((node, _)) => Ok(Some(node.clone())),
            None if !self.hiding.is_empty() && path.ancestors().any(|dir| self.hiding.contains(&dir)) => Ok(None),
            None => self.before.lookup(path),
        }
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        self.before.read_dir(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        self.before.open(path)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        self.before.digests(paths)
    }
}

/// A directory of a tree as a tree of its own: links do not lead out of it.
pub(super) struct Below<'a> {
    pub tree: &'a dyn Tree,
    pub root: &'a TreePath,
}

impl Tree for Below<'_> {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        self.tree.lookup(&self.root.join(path))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        self.tree.read_dir(&self.root.join(path))
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        self.tree.open(&self.root.join(path))
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        let paths: Vec<TreePath> = paths.iter().map(|path| self.root.join(path)).collect();
        self.tree.digests(&paths)
    }
}
