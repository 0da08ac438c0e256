//! The index of a layer while its archive is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::LayerError;
use crate::tree::{Entry, Kind, Meta, TreePath};

/// Links followed on the way to one entry, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Components walked because of links, in a whole archive: links to links could make each entry take thousands.
const MAX_STEPS: u64 = 10_000_000;

/// All that an archive said so far.
///
/// Keys are paths with NUL in place of the slash: their byte order is the order of paths, and all that is below a
/// directory stands together.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: BTreeMap<Vec<u8>, Slot>,
    inodes: Vec<Inode>,
    /// Paths of `.wh.` entries, whether or not there is a file, too.
    whiteouts: BTreeSet<Vec<u8>>,
    /// Directories with an opaque marker.
    opaque: BTreeSet<Vec<u8>>,
    steps: u64,
    /// About how many bytes of memory all this takes.
    pub(super) bytes: u64,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// A directory.
    Dir { meta: Meta, implied: bool },
    /// A name of the file with this number: hard links share it.
    Inode(usize),
    /// A whiteout; only in the end.
    Whiteout,
}

/// A file that is no directory.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    /// Length of its longest name.
    longest: u64,
}

/// What a directory has that no entry describes.
pub(super) fn implied_meta() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}

impl Index {
    pub(super) fn new() -> Self {
        let mut index = Index::default();
        index.slots.insert(Vec::new(), Slot::Dir { meta: implied_meta(), implied: true });
        index
    }

    pub(super) fn get(&self, path: &TreePath) -> Option<&Slot> {
        self.slots.get(&key(path))
    }

    pub(super) fn is_dir(&self, path: &TreePath) -> bool {
        matches!(self.get(path), Some(Slot::Dir { .. }))
    }

    pub(super) fn inode(&mut self, number: usize) -> &mut Inode {
        &mut self.inodes[number]
    }

    /// Returns where the directory `dir` of the entry `entry` is when the links of this archive are followed, never out of
    /// the root. All of it that exists is directories.
    pub(super) fn resolve(&mut self, dir: &TreePath, entry: &TreePath) -> Result<TreePath, LayerError> {
        if self.is_dir(dir) {
            return Ok(dir.clone());
        }
        let mut todo: Vec<Vec<u8>> = dir.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = TreePath::root();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            // A link may say what no file can be called.
            let next = at.join(&TreePath::new(&part)?);
            if let Some(Slot::Inode(number)) = self.get(&next) {
                let Kind::Symlink { target } = &self.inodes[*number].kind else {
                    return Err(LayerError::NotADirectory { path: entry.clone(), parent: next });
                };
                links += 1;
                if target.first() == Some(&b'/') {
                    at = TreePath::root();
                }
                let parts = target.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".");
                todo.extend(parts.rev().map(<[u8]>::to_vec));
                self.steps += todo.len() as u64;
                if links > MAX_LINKS || self.steps > MAX_STEPS {
                    return Err(LayerError::LinkLoop { path: entry.clone() });
                }
            } else {
                at = next;
            }
        }
        Ok(at)
    }

    /// Adds the directories to `dir` that no entry named yet, and returns them, outermost first.
    pub(super) fn imply(&mut self, dir: &TreePath) -> Vec<TreePath> {
        if self.is_dir(dir) {
            return Vec::new();
        }
        let all = dir.ancestors().chain([dir.clone()]);
        let missing: Vec<TreePath> = all.filter(|path| !self.is_dir(path)).collect();
        for path in &missing {
            self.put(path, Slot::Dir { meta: implied_meta(), implied: true }, 0);
        }
        missing
    }

    /// Puts a directory at `path`: a new one, or new attributes for the one that is there.
    pub(super) fn put_dir(&mut self, path: &TreePath, meta: Meta) {
        let bytes = meta_bytes(&meta);
        if let Some(Slot::Dir { meta: old, implied }) = self.slots.get_mut(&key(path)) {
            let mut xattrs = std::mem::take(&mut old.xattrs);
            xattrs.extend(meta.xattrs);
            *old = Meta { xattrs, ..meta };
            *implied = false;
            self.bytes += bytes;
        } else {
            self.clear(path);
            self.put(path, Slot::Dir { meta, implied: false }, bytes);
        }
    }

    /// Puts a new file at `path`, in place of all that is there.
    pub(super) fn put_file(&mut self, path: &TreePath, kind: Kind, meta: Meta) {
        let target = if let Kind::Symlink { target } = &kind { target.len() as u64 } else { 0 };
        let bytes = target + meta_bytes(&meta) + size_of::<Inode>() as u64;
        self.clear(path);
        self.inodes.push(Inode { kind, meta, longest: path.as_bytes().len() as u64 });
        self.put(path, Slot::Inode(self.inodes.len() - 1), bytes);
    }

    /// Puts another name of the file `number` at `path`, in place of all that is there.
    pub(super) fn put_link(&mut self, path: &TreePath, number: usize) {
        self.clear(path);
        let inode = &mut self.inodes[number];
        inode.longest = inode.longest.max(path.as_bytes().len() as u64);
        // Its entry has a copy of the attributes, and the path of the first name.
        let bytes = inode.longest + meta_bytes(&inode.meta);
        self.put(path, Slot::Inode(number), bytes);
    }

    /// Notes that `path` of the layers below is gone.
    pub(super) fn put_whiteout(&mut self, path: &TreePath) {
        self.bytes += path.as_bytes().len() as u64 + OVERHEAD;
        self.whiteouts.insert(key(path));
    }

    /// Notes that all in the directory `path` of the layers below is gone.
    pub(super) fn put_opaque(&mut self, path: &TreePath) {
        self.bytes += path.as_bytes().len() as u64 + OVERHEAD;
        self.opaque.insert(key(path));
    }

    /// Settles whiteouts, and returns those that are left: a file in this layer hides that below by being there, a
    /// directory must be opaque for it.
    pub(super) fn settle(&mut self) -> Vec<TreePath> {
        let mut left = Vec::new();
        for gone in std::mem::take(&mut self.whiteouts) {
            match self.slots.get(&gone) {
                Some(Slot::Dir { .. }) => {
                    self.opaque.insert(gone);
                }
                Some(_) => {}
                None => {
                    left.push(path(&gone));
                    self.slots.insert(gone, Slot::Whiteout);
                }
            }
        }
        left
    }

    /// Returns all entries, and the opaque directories, both sorted by path. The first name of a file is the file,
    /// the others are hard links to it.
    pub(super) fn into_entries(self) -> (Vec<Entry>, Vec<TreePath>) {
        let mut first: Vec<Option<TreePath>> = vec![None; self.inodes.len()];
        let mut entries = Vec::with_capacity(self.slots.len());
        for (key, slot) in self.slots {
            let path = path(&key);
            let (kind, meta, implied) = match slot {
                Slot::Dir { meta, implied } => (Kind::Dir, meta, implied),
                Slot::Whiteout => (Kind::Whiteout, Meta::default(), false),
                Slot::Inode(number) => {
                    let inode = &self.inodes[number];
                    let kind = match &first[number] {
                        Some(target) => Kind::Hardlink { target: target.clone() },
                        None => inode.kind.clone(),
                    };
                    first[number].get_or_insert_with(|| path.clone());
                    (kind, inode.meta.clone(), false)
                }
            };
            entries.push(Entry { path, kind, meta, implied });
        }
        let opaque = self.opaque.iter().map(|key| path(key)).collect();
        (entries, opaque)
    }

    fn put(&mut self, path: &TreePath, slot: Slot, bytes: u64) {
        self.bytes += path.as_bytes().len() as u64 + OVERHEAD + bytes;
        self.slots.insert(key(path), slot);
    }

    /// Removes what is at `path` and, of a directory, all that was said about what is in it.
    fn clear(&mut self, path: &TreePath) {
        let at = key(path);
        if let Some(Slot::Dir { .. }) = self.slots.remove(&at) {
            let start = [&at[..], b"\0"].concat();
            let range = (Bound::Included(&start), Bound::Unbounded);
            let below = |key: &&Vec<u8>| key.starts_with(&start);
            let keys: Vec<_> =
                self.slots.range::<Vec<u8>, _>(range).map(|(k, _)| k).take_while(below).cloned().collect();
            for key in &keys {
                self.slots.remove(key);
            }
            for set in [&mut self.whiteouts, &mut self.opaque] {
                let keys: Vec<_> = set.range::<Vec<u8>, _>(range).take_while(below).cloned().collect();
                for key in &keys {
                    set.remove(key);
                }
            }
            self.opaque.remove(&at);
        }
    }
}

/// Bytes that a path takes besides its own.
const OVERHEAD: u64 = (size_of::<Slot>() + 2 * size_of::<Vec<u8>>()) as u64;

fn meta_bytes(meta: &Meta) -> u64 {
    meta.xattrs.iter().map(|(name, value)| name.len() as u64 + value.len() as u64 + OVERHEAD).sum()
}

fn key(path: &TreePath) -> Vec<u8> {
    path.as_bytes().iter().map(|&b| if b == b'/' { 0 } else { b }).collect()
}

fn path(key: &[u8]) -> TreePath {
    let path: Vec<u8> = key.iter().map(|&b| if b == 0 { b'/' } else { b }).collect();
    TreePath::new(path).expect("a key is made from a path")
}
