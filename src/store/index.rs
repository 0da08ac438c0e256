use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::oci::{ChainId, Digest};
use crate::tree::{Entry, TreePath};

/// The first bytes of an index file; the number is the version of the format.
const MAGIC: &[u8; 16] = b"coracle-index-1\n";
/// What is before the payload: those bytes, and its digest.
pub(super) const HEADER: usize = MAGIC.len() + 32;

/// Names a layer in the store.
///
/// A layer that was built here has the SHA-256 of its index: what is in it, whoever built it. A layer that came with an
/// image has its chain id, which is known before it is unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerId(Digest);

/// What is in one layer: entries sorted by path, each path once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
}

impl LayerId {
    /// Returns the id of the top layer of a stack that came with an image.
    pub fn of_chain(chain: ChainId) -> Self {
        LayerId(chain.0)
    }

    /// Returns the 32 bytes.
    pub fn raw(&self) -> &[u8; 32] {
        self.0.raw()
    }

    /// Returns the id that is `hex`: 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        format!("sha256:{hex}").parse().ok().map(LayerId)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Index {
    /// Returns the index of `entries`, in any order; of two with one path the later counts.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.reverse();
        entries.dedup_by(|a, b| a.path == b.path);
        entries.reverse();
        Index { entries }
    }

    /// Returns the entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.position(path).ok().map(|at| &self.entries[at])
    }

    /// Returns the entries directly in the directory `dir`, sorted by name.
    pub fn children<'a, 'd>(&'a self, dir: &'d TreePath) -> impl Iterator<Item = &'a Entry> + use<'a, 'd> {
        let mut at = match self.position(dir) {
            Ok(at) => at + 1,
            Err(at) => at,
        };
        std::iter::from_fn(move || {
            let entry = self.entries.get(at)?;
            if !entry.path.starts_with(dir) || entry.path == *dir {
                return None;
            }
            at += 1;
            // What is inside this child comes directly behind it.
            if self.entries.get(at).is_some_and(|next| next.path.starts_with(&entry.path)) {
                at += self.entries[at..].partition_point(|next| next.path.starts_with(&entry.path));
            }
            Some(entry)
        })
    }

    /// Returns the id of a layer with just these entries.
    pub fn layer_id(&self) -> LayerId {
        id_in(&self.to_bytes())
    }

    fn position(&self, path: &TreePath) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.path.cmp(path))
    }

    /// Returns the bytes of the file of this index, as docs/store.md has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = [MAGIC.as_slice(), &[0; 32]].concat();
        let mut bytes =
            postcard::to_extend(&self.entries, bytes).expect("entries hold nothing that cannot be serialised");
        let digest = Digest::of(&bytes[HEADER..]);
        bytes[MAGIC.len()..HEADER].copy_from_slice(digest.raw());
        bytes
    }

    /// Writes the index to the new file `path` and returns the id of its layer.
    pub(super) fn write(&self, path: &Path) -> Result<LayerId, StoreError> {
        let bytes = self.to_bytes();
        fs::write(path, &bytes).map_err(|source| StoreError::io("write", path, source))?;
        Ok(id_in(&bytes))
    }

    /// Reads the file at `path` and checks that it is whole.
    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = fs::read(path).map_err(|source| StoreError::io("read", path, source))?;
        Index::parse(&bytes).map_err(|reason| StoreError::Damaged { path: path.to_path_buf(), reason })
    }

    /// Reads the bytes of an index file and checks that they are whole. The error is the reason why they are not.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or("not an index of this version")?;
        let (digest, payload) = rest.split_at_checked(32).ok_or("it is cut off")?;
        if Digest::of(payload).raw() != digest {
            return Err("its checksum is wrong".into());
        }
        let entries: Vec<Entry> = postcard::from_bytes(payload).map_err(|error| error.to_string())?;
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            return Err("its entries are not sorted".into());
        }
        Ok(Index { entries })
    }
}

/// Returns the id of the layer whose index these bytes are.
fn id_in(bytes: &[u8]) -> LayerId {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[MAGIC.len()..HEADER]);
    LayerId(Digest::from_raw(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Meta};

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: TreePath::new(path).unwrap(), kind, meta: Meta::default(), implied: false }
    }

    fn names<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<String> {
        entries.map(|e| e.path.to_string()).collect()
    }

    #[test]
    fn children_are_those_directly_inside() {
        let index =
            Index::new(["a", "a/b", "a/b/c", "a/b-c", "a/d", "e", "a/b/c/d"].map(|p| entry(p, Kind::Dir)).to_vec());
        assert_eq!(names(index.children(&TreePath::root())), ["a", "e"]);
        assert_eq!(names(index.children(&TreePath::new("a").unwrap())), ["a/b", "a/b-c", "a/d"]);
        assert_eq!(names(index.children(&TreePath::new("e").unwrap())), [] as [&str; 0]);
    }

    #[test]
    fn the_later_of_two_entries_counts() {
        let index = Index::new(vec![entry("a", Kind::Dir), entry("a", Kind::Fifo)]);
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.get(&TreePath::new("a").unwrap()).unwrap().kind, Kind::Fifo);
    }

    #[test]
    fn a_damaged_index_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::new(vec![entry("a", Kind::Dir), entry("b", Kind::Fifo)]);
        assert_eq!(index.write(&path).unwrap(), index.layer_id());
        assert_eq!(Index::read(&path).unwrap(), index);
        let good = fs::read(&path).unwrap();
        for (what, bytes) in [
            ("cut", good[..good.len() - 1].to_vec()),
            ("header only", good[..20].to_vec()),
            ("empty", Vec::new()),
            ("flipped", good.iter().enumerate().map(|(i, b)| if i == 60 { b ^ 1 } else { *b }).collect()),
        ] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(Index::read(&path), Err(StoreError::Damaged { .. })), "{what}");
        }
    }
}
