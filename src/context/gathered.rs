use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::ContextError;
use super::host_dir::HostDir;
use crate::tree::{self, Entry, FileDigest, Kind, Meta, Mtime, Node, TreePath};

/// Files that were brought from somewhere into a private folder: those of an archive, a commit, or none at all.
///
/// What is known of them counts, not what is on disk: modes and times there are for whoever made the folder to choose.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The folder with the contents of the regular files, by their paths. Nobody writes to it any more.
    pub root: PathBuf,
    /// All files, the parents of each included. The digest of each regular file is known; whiteouts are no files.
    pub entries: Vec<Entry>,
}

/// Gathered files, ready to be looked up.
#[derive(Debug)]
pub(super) struct Known {
    dir: HostDir,
    nodes: HashMap<TreePath, Node>,
    children: HashMap<TreePath, Vec<TreePath>>,
}

impl Known {
    pub(super) fn new(gathered: Gathered) -> Result<Self, ContextError> {
        let Gathered { root, mut entries } = gathered;
        let dir = HostDir::open(&root).map_err(|source| ContextError::Open { path: root, source })?;
        let mut nodes: HashMap<TreePath, Node> = HashMap::with_capacity(entries.len() + 1);
        let mut children: HashMap<TreePath, Vec<TreePath>> = HashMap::new();
        // Sorted by their bytes, names in one directory are in order; and links come behind what they name.
        entries.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let (links, files): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| matches!(entry.kind, Kind::Hardlink { .. }));
        let mut add = |path: TreePath, node: Node, nodes: &mut HashMap<TreePath, Node>| {
            if node.kind.is_dir() {
                children.entry(path.clone()).or_default();
            }
            if let Some(parent) = path.parent() {
                children.entry(parent).or_default().push(path.clone());
            }
            nodes.insert(path, node);
        };
        for Entry { path, kind, meta, .. } in files {
            if !matches!(kind, Kind::Whiteout) {
                add(path, node(kind, &meta), &mut nodes);
            }
        }
        for (number, Entry { path, kind, .. }) in links.into_iter().enumerate() {
            let Kind::Hardlink { target } = kind else { continue };
            let Some(named) = nodes.get_mut(&target) else { continue };
            named.inode.get_or_insert((0, number as u64));
            let named = named.clone();
            add(path, named, &mut nodes);
        }
        let root = node(Kind::Dir, &Meta { mode: 0o755, ..Meta::default() });
        nodes.entry(TreePath::root()).or_insert(root);
        children.entry(TreePath::root()).or_default();
        children.values_mut().for_each(|paths| paths.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes())));
        Ok(Known { dir, nodes, children })
    }

    pub(super) fn node(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Returns what is in the directory `path`, sorted by name; `None` where there is none.
    pub(super) fn children(&self, path: &TreePath) -> Option<&[TreePath]> {
        self.children.get(path).map(Vec::as_slice)
    }

    pub(super) fn open(&self, path: &TreePath) -> Result<OwnedFd, tree::Error> {
        match self.nodes.get(path) {
            Some(Node { kind: Kind::File { .. }, .. }) => Ok(self.dir.open_file(path)?.0),
            Some(_) => Err(tree::Error::in_context("open", path, Errno::INVAL)),
            None => Err(tree::Error::in_context("open", path, Errno::NOENT)),
        }
    }

    pub(super) fn digest(&self, path: &TreePath) -> Result<FileDigest, tree::Error> {
        match self.nodes.get(path) {
            Some(Node { kind: Kind::File { digest: Some(digest), .. }, .. }) => Ok(*digest),
            Some(_) => Err(tree::Error::in_context("open", path, Errno::INVAL)),
            None => Err(tree::Error::in_context("open", path, Errno::NOENT)),
        }
    }
}

/// Returns a file as COPY sees those of a folder: owned by root, in whole seconds, without extended attributes.
fn node(kind: Kind, meta: &Meta) -> Node {
    let meta = Meta { mode: meta.mode, mtime: Mtime::from_secs(meta.mtime.secs), ..Meta::default() };
    Node { kind, meta, inode: None }
}
