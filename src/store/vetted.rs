//! The index of a layer that was written elsewhere: what is not just as this program would have written it is none.

use std::fmt;
use std::io::BufWriter;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Index, LayerId};
use crate::oci::{Digest, DigestWriter};
use crate::tree::{Entry, Kind};

/// The most bytes that the payload of such an index has.
const LARGEST: usize = 128 << 20;
/// The most bytes of memory that its entries take, about: a million files.
const MOST_MEMORY: usize = 256 << 20;
/// The longest path that the kernel takes, PATH_MAX, with its NUL.
const MAX_PATH: usize = 4096;

impl Index {
    /// Reads the bytes of the file of an index that somebody else wrote, and checks that they are just those of the index of the layer
    /// `id`, that an archive can hold such a layer, and that it takes no more memory than its length lets expect. The error is the reason
    /// why not.
    pub(super) fn vetted(bytes: &[u8], id: &LayerId) -> Result<Self, String> {
        // Before anything is made of it.
        let payload = bytes.get(super::index::HEADER..).unwrap_or_default();
        if payload.len() > LARGEST {
            return Err(format!("it has {} bytes, more than {LARGEST}", payload.len()));
        }
        if Digest::of(payload).raw() != id.raw() {
            return Err("it is that of another layer".into());
        }
        let weight: Weight =
            postcard::from_bytes(payload).map_err(|error| format!("it is no list of files: {error}"))?;
        if weight.0 > MOST_MEMORY {
            return Err(format!("it takes more than {MOST_MEMORY} bytes of memory"));
        }
        let index = Index::parse(bytes).map_err(|reason| format!("it is no list of files: {reason}"))?;
        let written = BufWriter::new(DigestWriter::new(std::io::sink()));
        let written = postcard::to_io(index.entries(), written).map_err(|error| error.to_string())?;
        let written = written.into_inner().map_err(|error| error.to_string())?;
        if written.finish().1.raw() != id.raw() {
            return Err("its numbers are written in another way".into());
        }
        let mut bytes = 0u64;
        for entry in index.entries() {
            if let Kind::File { size, .. } = entry.kind {
                bytes = bytes.checked_add(size).ok_or("its files are larger than any")?;
            }
            index.check(entry).map_err(|reason| format!("its entry {}: {reason}", entry.path))?;
        }
        Ok(index)
    }

    /// Checks that an archive can hold this entry.
    fn check(&self, entry: &Entry) -> Result<(), &'static str> {
        let Entry { path, kind, meta, implied } = entry;
        if *implied {
            return Err("nobody says what it is");
        }
        if path.as_bytes().len() + 1 >= MAX_PATH {
            return Err("its path is too long");
        }
        if path.components().any(|name| name.starts_with(b".wh.")) {
            return Err("its name says that another is gone");
        }
        if path.is_root() && !kind.is_dir() {
            return Err("the root is no directory");
        }
        if meta.mode > 0o7777 || meta.mtime.nanos != 0 {
            return Err("no file has such a mode or time");
        }
        // A layer that was built describes all that leads to a file; of another one it would depend on the layers below where the file is.
        let above = path.parent().filter(|above| !above.is_root());
        if above.is_some_and(|above| !self.get(&above).is_some_and(|above| above.kind.is_dir())) {
            return Err("it lies in no directory of the layer");
        }
        match kind {
            Kind::File { digest: None, .. } => Err("nobody has read it"),
            Kind::Symlink { target } if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) => {
                Err("no link says that")
            }
            Kind::Hardlink { target } => match self.get(target).map(|target| &target.kind) {
                Some(Kind::File { .. } | Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo) => Ok(()),
                _ => Err("it is another name of nothing"),
            },
            _ => Ok(()),
        }
    }
}

/// How many bytes of memory the entries of an index take, about; found without taking them.
struct Weight(usize);

/// As [`Entry`], with nothing in it that takes memory.
#[derive(Deserialize)]
struct Shape<'a> {
    path: &'a [u8],
    #[serde(borrow)]
    kind: ShapeOfKind<'a>,
    meta: ShapeOfMeta,
    _implied: bool,
}

/// As [`Kind`].
#[derive(Deserialize)]
enum ShapeOfKind<'a> {
    File { _size: u64, _digest: Option<[u8; 32]> },
    Dir,
    Symlink { target: &'a [u8] },
    Hardlink { target: &'a [u8] },
    Char { _device: (u32, u32) },
    Block { _device: (u32, u32) },
    Fifo,
    Whiteout,
}

/// As [`Meta`](crate::tree::Meta).
#[derive(Deserialize)]
struct ShapeOfMeta {
    _mode: u32,
    _uid: u32,
    _gid: u32,
    _mtime: (i64, u32),
    xattrs: Pairs,
}

/// The bytes that extended attributes take.
struct Pairs(usize);

/// What a thing takes besides its bytes.
const OVERHEAD: usize = 48;

impl Shape<'_> {
    fn weight(&self) -> usize {
        let target = match &self.kind {
            ShapeOfKind::Symlink { target } | ShapeOfKind::Hardlink { target } => target.len(),
            _ => 0,
        };
        size_of::<Entry>() + OVERHEAD + self.path.len() + target + self.meta.xattrs.0
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Weight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Weight, A::Error> {
                let mut weight = 0;
                while let Some(entry) = entries.next_element::<Shape<'de>>()? {
                    weight += entry.weight();
                }
                Ok(Weight(weight))
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Pairs, A::Error> {
                let mut weight = 0;
                while let Some((name, value)) = pairs.next_entry::<&'de [u8], &'de [u8]>()? {
                    weight += 2 * OVERHEAD + name.len() + value.len();
                }
                Ok(Pairs(weight))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{FileDigest, Meta, Mtime, TreePath};

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn entry(at: &str, kind: Kind) -> Entry {
        let mtime = Mtime::from_secs(-7);
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"b".to_vec())]);
        let meta = Meta { mode: 0o644, uid: 1, gid: 200_000, mtime, xattrs };
        Entry { path: path(at), kind, meta, implied: false }
    }

    fn of_all_kinds() -> Index {
        let digest = Some(FileDigest([7; 32]));
        Index::new(vec![
            entry("", Kind::Dir),
            entry("file", Kind::File { size: 1 << 40, digest }),
            entry("hard", Kind::Hardlink { target: path("file") }),
            entry("link", Kind::Symlink { target: b"/a".to_vec() }),
            entry("char", Kind::Char { device: (1, 300) }),
            entry("block", Kind::Block { device: (1, 300) }),
            entry("fifo", Kind::Fifo),
            entry("gone", Kind::Whiteout),
            entry("a", Kind::Dir),
            entry("a/b", Kind::Fifo),
        ])
    }

    #[test]
    fn what_was_written_here_is_read_there() {
        for index in [Index::default(), of_all_kinds()] {
            assert_eq!(Index::vetted(&index.to_bytes(), &index.layer_id()).unwrap(), index);
        }
    }

    #[test]
    fn what_is_that_of_another_layer_is_none() {
        let index = of_all_kinds();
        let reason = Index::vetted(&Index::default().to_bytes(), &index.layer_id()).unwrap_err();
        assert_eq!(reason, "it is that of another layer");
        assert!(Index::vetted(b"", &index.layer_id()).is_err());
    }

    #[test]
    fn what_no_archive_holds_is_refused() {
        let file = |size| Kind::File { size, digest: Some(FileDigest([7; 32])) };
        let of_device = Kind::Char { device: (0, 0) };
        for (entries, says) in [
            (vec![entry("a", Kind::File { size: 1, digest: None })], "nobody has read it"),
            (vec![entry("", Kind::Fifo)], "the root is no directory"),
            (vec![entry("a", of_device.clone()), entry("a/b", of_device)], "it lies in no directory"),
            (vec![entry("a", Kind::Dir), entry("a/b/c", Kind::Dir)], "it lies in no directory"),
            (vec![entry("a", Kind::Hardlink { target: path("a") })], "another name of nothing"),
            (vec![entry("a", Kind::Symlink { target: Vec::new() })], "no link says that"),
            (vec![entry("a", Kind::Dir), entry("a/.wh.b", Kind::Dir)], "says that another is gone"),
            (vec![entry("a", file(u64::MAX)), entry("b", file(1))], "larger than any"),
            (vec![Entry { implied: true, ..entry("a", Kind::Dir) }], "nobody says what it is"),
        ] {
            let index = Index::new(entries);
            let reason = Index::vetted(&index.to_bytes(), &index.layer_id()).unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn extended_attributes_without_number_weigh_too() {
        let mut heavy = entry("a", Kind::Dir);
        heavy.meta.xattrs = (0u32..3_000_000).map(|n| (n.to_le_bytes().to_vec(), Vec::new())).collect();
        let index = Index::new(vec![heavy]);
        let reason = Index::vetted(&index.to_bytes(), &index.layer_id()).unwrap_err();
        assert!(reason.contains("memory"), "{reason}");
    }
}
