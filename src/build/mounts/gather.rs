//! The files of a bind mount: what is below a path of the context, a stage or an image; their digest, and a copy of them.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use coracle_runtime::container::Control;
use sha2::{Digest as _, Sha256};

use crate::build::BuildError;
use crate::build::guard::Guarded;
use crate::layer::{Contents, DiskTree};
use crate::tree::{Entry, FileDigest, Kind, Meta, Mtime, Node, Owners, Tree, TreePath, resolve};

/// A file or a directory with all in it.
#[derive(Debug)]
pub(in crate::build) struct Gathered {
    /// Where it is in its tree, links resolved.
    at: TreePath,
    /// Paths from there on, parents first; the first one is "", the thing itself. Digests of files are there.
    files: Vec<(TreePath, Node)>,
}

/// Returns what is at `source` in `tree`. Links on the way are followed inside of the tree; those below are kept.
pub(in crate::build) fn gather(tree: &dyn Tree, source: &str, control: &Control) -> Result<Gathered, BuildError> {
    let found = resolve(tree, source.as_bytes())?;
    let Some(top) = found.node else { return Err(BuildError::NoMountSource { path: source.into() }) };
    let mut files = vec![(TreePath::root(), top)];
    let mut next = 0;
    // A stack would be of no use: the order is made below.
    while let Some((path, node)) = files.get(next) {
        if control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        if node.kind.is_dir() {
            let path = path.clone();
            let children = tree.read_dir(&found.path.join(&path))?;
            files.extend(children.into_iter().map(|(name, node)| (path.child(&name), node)));
        }
        next += 1;
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let unread = |node: &Node| matches!(node.kind, Kind::File { digest: None, .. });
    let paths: Vec<TreePath> =
        files.iter().filter(|(_, node)| unread(node)).map(|(path, _)| found.path.join(path)).collect();
    let mut digests = tree.digests(&paths)?.into_iter();
    for (_, node) in files.iter_mut().filter(|(_, node)| unread(node)) {
        if let Kind::File { digest, .. } = &mut node.kind {
            *digest = digests.next();
        }
    }
    Ok(Gathered { at: found.path, files })
}

impl Gathered {
    /// Returns whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.files[0].1.kind.is_dir()
    }

    /// Returns what it is, in a word.
    pub fn word(&self) -> &'static str {
        self.files[0].1.kind.word()
    }

    /// Returns where it is in its tree.
    pub fn at(&self) -> &TreePath {
        &self.at
    }

    /// Returns each path, from the root of its tree, with a digest of what counts of it.
    pub fn contents(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.files.iter().filter(|(_, node)| !node.kind.is_dir()).map(|(path, node)| {
            let mut hash = Sha256::new();
            count(path, node, &mut |bytes| hash.update(bytes));
            (self.at.join(path).to_string(), crate::plan::short_digest(&hash.finalize()))
        })
    }

    /// Returns the digest of names, modes, owners, bytes and link texts: never of times.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (path, node) in &self.files {
            count(path, node, &mut |bytes| hash.update(bytes));
        }
        hash.finalize().into()
    }

    /// Returns the owners that are not 0:0 of those that cannot carry one on disk.
    pub fn special(&self) -> impl Iterator<Item = (&TreePath, u32, u32)> {
        let is_special = |node: &Node| matches!(node.kind, Kind::Symlink { .. } | Kind::Fifo);
        let owned = |node: &Node| (node.meta.uid, node.meta.gid) != (0, 0);
        let files = self.files.iter().filter(move |(_, node)| is_special(node) && owned(node));
        files.map(|(path, node)| (path, node.meta.uid, node.meta.gid))
    }

    /// Copies it from `tree` into the empty folder `dir`: what is in a directory, or a file with the name `NAME`. The folder gets
    /// the attributes of the directory, unless it is given others.
    pub fn copy_to(
        &self,
        tree: &dyn Tree,
        dir: &Path,
        owners: Owners,
        top: Option<Meta>,
        control: &Control,
    ) -> Result<(), BuildError> {
        let mut disk = DiskTree::open(dir, owners)?;
        let place = |path: &TreePath| match self.is_dir() {
            true => path.clone(),
            false => TreePath::root().child(NAME.as_bytes()),
        };
        let mut first: HashMap<(u64, u64), TreePath> = HashMap::new();
        for (path, node) in &self.files {
            if control.cancelled() {
                return Err(BuildError::Interrupted);
            }
            let target = place(path);
            let known = node.inode.and_then(|inode| first.get(&inode).cloned());
            let kind = match (&node.kind, known) {
                (Kind::File { .. }, Some(target)) => Kind::Hardlink { target },
                (kind, _) => kind.clone(),
            };
            if let (Some(inode), Kind::File { .. }) = (node.inode, &kind) {
                first.insert(inode, target.clone());
            }
            let meta = match &top {
                Some(top) if path.is_root() => top.clone(),
                _ => node.meta.clone(),
            };
            let entry = Entry { path: target, kind, meta, implied: false };
            let Kind::File { digest, .. } = &entry.kind else {
                disk.create(&entry, Contents::None)?;
                continue;
            };
            let from = self.at.join(path);
            let file = tree.open(&from)?;
            let mut input = Guarded::new(std::io::BufReader::with_capacity(256 << 10, file), control);
            let written = disk.create(&entry, Contents::Reader(&mut input as &mut dyn Read))?;
            // What a step sees must be what its key says.
            if written.is_some() && written != *digest {
                return Err(BuildError::ChangedMeanwhile { path: from.to_string() });
            }
        }
        Ok(disk.finish()?)
    }
}

/// Gives what counts of a file to `hash`: each part with its length in front.
fn count(path: &TreePath, node: &Node, hash: &mut dyn FnMut(&[u8])) {
    let mut part = |bytes: &[u8]| {
        hash(&(bytes.len() as u64).to_le_bytes());
        hash(bytes);
    };
    part(path.as_bytes());
    part(node.kind.word().as_bytes());
    let Meta { mode, uid, gid, .. } = &node.meta;
    part(&[mode.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat());
    match &node.kind {
        Kind::File { digest: Some(FileDigest(digest)), .. } => part(digest),
        Kind::Symlink { target } => part(target),
        Kind::Char { device } | Kind::Block { device } => {
            part(&[device.0.to_le_bytes(), device.1.to_le_bytes()].concat());
        }
        _ => part(&[]),
    }
    for (name, value) in &node.meta.xattrs {
        part(name);
        part(value);
    }
}

/// The name of a file that was copied alone.
pub(in crate::build) const NAME: &str = "file";

/// Gives the empty folder `dir` the owner and the mode that a new cache mount has.
pub(in crate::build) fn own(dir: &Path, owners: Owners, meta: &Meta) -> Result<(), BuildError> {
    let mut disk = DiskTree::open(dir, owners)?;
    let entry = Entry { path: TreePath::root(), kind: Kind::Dir, meta: meta.clone(), implied: false };
    disk.create(&entry, Contents::None)?;
    Ok(disk.finish()?)
}

/// Returns attributes without a time.
pub(in crate::build) fn attributes(mode: u32, uid: u32, gid: u32) -> Meta {
    Meta { mode, uid, gid, mtime: Mtime::from_secs(crate::build::now()), xattrs: BTreeMap::new() }
}
