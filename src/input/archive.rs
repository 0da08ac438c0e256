//! What a stream holds: an archive, whose files are unpacked, or the text of a Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;

use super::InputError;
use crate::layer::{self, DiskTree, Names, UnpackOptions};
use crate::tree::{Entry, Kind, Owners, TreePath};

/// The largest Dockerfile, in bytes.
const DOCKERFILE: u64 = 16 << 20;

/// Bytes that tell what a stream is: a header of tar.
const HEAD: usize = 512;

/// What was in a stream.
pub(super) enum Content {
    /// An archive: what it says of its files, whose contents are on disk.
    Archive(Vec<Entry>),
    /// A Dockerfile.
    Text(String),
}

/// Reads `input` to its end. The files of an archive, in any compression, are made in the empty folder `root`.
pub(super) fn read(input: &mut (dyn Read + Send), root: &Path, name: &str) -> Result<Content, InputError> {
    let lost = |source| InputError::Read { name: name.into(), source };
    let mut head = Vec::with_capacity(HEAD);
    input.take(HEAD as u64).read_to_end(&mut head).map_err(lost)?;
    if head.is_empty() {
        return Err(InputError::Empty { name: name.into() });
    }
    if !is_archive(&head) {
        return text(Cursor::new(head).chain(input), name).map(Content::Text);
    }
    let bad = |source| InputError::Archive { name: name.into(), source };
    let mut plain = layer::decompress(Cursor::new(head).chain(input)).map_err(lost)?;
    // Nobody but this process needs the files on disk, so they belong to it, and what is known of them is in the entries.
    let mut tree = DiskTree::open(root, Owners::Caller).map_err(bad)?;
    // No name in it is that of a whiteout: what it would hide, and itself, would be missing without a word.
    let options = UnpackOptions { names: Names::Plain, ..UnpackOptions::default() };
    let unpacked = layer::unpack(&mut plain, &mut tree, &options).map_err(bad)?;
    tree.finish().map_err(bad)?;
    Ok(Content::Archive(unpacked.entries))
}

/// Returns the entries in the directory `below`, by their paths from there. Of a file whose first name is elsewhere the first one in
/// there is the file.
pub(super) fn below(entries: Vec<Entry>, below: &TreePath) -> Vec<Entry> {
    let leads_out = |entry: &Entry| match &entry.kind {
        Kind::Hardlink { target } if entry.path.starts_with(below) => {
            Some(target.clone()).filter(|t| !t.starts_with(below))
        }
        _ => None,
    };
    let outside: BTreeSet<TreePath> = entries.iter().filter_map(leads_out).collect();
    let named = |entry: &&Entry| outside.contains(&entry.path);
    let mut files: BTreeMap<TreePath, Elsewhere> = entries
        .iter()
        .filter(named)
        .map(|entry| (entry.path.clone(), Elsewhere { kind: entry.kind.clone(), first: None }))
        .collect();
    let inside = |mut entry: Entry| {
        entry.path = entry.path.strip_prefix(below)?;
        if let Kind::Hardlink { target } = &entry.kind {
            entry.kind = match target.strip_prefix(below) {
                Some(target) => Kind::Hardlink { target },
                None => files.get_mut(target)?.name(&entry.path),
            };
        }
        Some(entry)
    };
    entries.into_iter().filter_map(inside).collect()
}

/// A file whose first name is not among those that count.
struct Elsewhere {
    kind: Kind,
    /// The first that counts, once it is known.
    first: Option<TreePath>,
}

impl Elsewhere {
    /// Returns what stands at its next name.
    fn name(&mut self, path: &TreePath) -> Kind {
        match &self.first {
            Some(first) => Kind::Hardlink { target: first.clone() },
            None => {
                self.first = Some(path.clone());
                self.kind.clone()
            }
        }
    }
}

/// Returns `input` as the text of a Dockerfile.
pub(super) fn text(input: impl Read, name: &str) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    let read = input.take(DOCKERFILE + 1).read_to_end(&mut bytes);
    read.map_err(|source| InputError::Read { name: name.into(), source })?;
    if bytes.len() as u64 > DOCKERFILE {
        return Err(InputError::TooLong { name: name.into(), limit: DOCKERFILE });
    }
    let bad = |error: std::string::FromUtf8Error| InputError::NotUtf8 {
        name: name.into(),
        at: error.utf8_error().valid_up_to(),
    };
    String::from_utf8(bytes).map_err(bad)
}

/// Returns whether a file that begins with `head`, 512 bytes where it has so many, is a tar archive, or compressed: the contents
/// decide, not the name.
pub fn is_archive(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];
    let compressed = MAGIC.iter().any(|magic| head.starts_with(magic));
    // "BZh" could begin a text.
    let compressed = compressed && (!head.starts_with(b"BZh") || matches!(head.get(4..7), Some(b"1AY" | b"\x17rE")));
    compressed || is_tar(head)
}

/// Returns whether `head` is a header of tar: its checksum is right. An archive without files is zeros.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..HEAD) else { return false };
    if header.iter().all(|&b| b == 0) {
        return true;
    }
    let Ok(field) = std::str::from_utf8(&header[148..156]) else { return false };
    let Ok(written) = u64::from_str_radix(field.trim_matches(['\0', ' ']), 8) else { return false };
    let bytes = || header.iter().enumerate().map(|(at, &b)| if (148..156).contains(&at) { b' ' } else { b });
    let sum: u64 = bytes().map(u64::from).sum();
    // Old programs took the bytes for numbers with a sign.
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    written == sum || i64::try_from(written) == Ok(signed)
}
