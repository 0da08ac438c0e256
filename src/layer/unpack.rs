use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::disk::{Contents, DiskTree};
use super::index::{Index, Slot, implied_meta};
use super::tar::{Member, MemberKind, Reader, shown};
use super::{LayerError, xattr};
use crate::tree::{Entry, FileDigest, Kind, Meta, Mtime, TreePath};

/// Bounds for what is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Bytes that the archive may have, and its files in all, holes included. Default: 128 GiB.
    pub max_bytes: u64,
    /// Bytes of memory that the index may take, about. Default: 2 GiB, some four million files.
    pub max_index: u64,
    /// What names in the archive mean. Default: what they mean in a layer.
    pub names: Names,
}

/// What the names in an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Those that begin with `.wh.` say what is gone, as in a layer.
    OfLayer,
    /// All are names of files, as in an archive that a user made. Then one that begins with `.wh.` is an error, because no layer
    /// could hold it; and of extended attributes only file capabilities are kept.
    Plain,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        UnpackOptions { max_bytes: 128 << 30, max_index: 2 << 30, names: Names::OfLayer }
    }
}

/// What an archive says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// All files, sorted by path. The root comes first, and the parents of every file are there: those that the archive
    /// does not name are marked as implied. Whiteouts are entries; a file and a whiteout of one path are the file.
    pub entries: Vec<Entry>,
    /// Directories that hide all that is in them in the layers below, sorted by path. They are in `entries`, too. On
    /// disk nothing says so: whoever knows the layers below makes whiteouts of it.
    pub opaque: Vec<TreePath>,
}

/// Reads the uncompressed archive `input` to its end, makes its files in `tree`, and returns the index of the layer.
///
/// An entry can not reach out of the tree. Its name is cleaned by its text: `..` stays at the root. Where a directory
/// on the way is a symbolic link of this same archive, the link is followed inside the root, by the index alone; links of
/// layers below are not seen. A later entry replaces an earlier one with the same name, but a directory keeps what is in
/// it. A hard link names an earlier file of this archive. Files whose name begins with `.wh..wh.` (aufs) are skipped,
/// other than the opaque marker. See [`DiskTree::create`] for what is on disk in the end; devices are not.
///
/// [`DiskTree::finish`] is left to the caller.
///
/// # Errors
/// [`LayerError`]: what is on disk then is to be removed.
pub fn unpack(input: &mut dyn Read, tree: &mut DiskTree, options: &UnpackOptions) -> Result<Unpacked, LayerError> {
    Unpacker { index: Index::new(), disk: Some(tree), options, bytes: 0 }.run(input)
}

/// As [`unpack`], but makes no file: reads the archive to its end and returns the index.
///
/// # Errors
/// As [`unpack`], without those of the disk.
pub fn scan(input: &mut dyn Read, options: &UnpackOptions) -> Result<Unpacked, LayerError> {
    Unpacker { index: Index::new(), disk: None, options, bytes: 0 }.run(input)
}

/// Longest path that the kernel takes, PATH_MAX, with its NUL.
const MAX_PATH: usize = 4096;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

struct Unpacker<'a> {
    index: Index,
    disk: Option<&'a mut DiskTree>,
    options: &'a UnpackOptions,
    /// Contents so far.
    bytes: u64,
}

impl Unpacker<'_> {
    fn run(mut self, input: &mut dyn Read) -> Result<Unpacked, LayerError> {
        let mut archive = Reader::new(Bounded { input, left: self.options.max_bytes });
        self.make(&dir_entry(TreePath::root(), implied_meta(), true))?;
        while let Some(member) = archive.next_member()? {
            self.member(member, &mut archive)?;
        }
        archive.drain()?;
        for path in self.index.settle() {
            let whiteout = Entry { path, kind: Kind::Whiteout, meta: Meta::default(), implied: false };
            self.make(&whiteout)?;
        }
        let (entries, opaque) = self.index.into_entries();
        Ok(Unpacked { entries, opaque })
    }

    fn member(&mut self, mut member: Member, archive: &mut dyn Read) -> Result<(), LayerError> {
        if member.name.len() > 2 * MAX_PATH {
            return Err(long_path(&member.name));
        }
        let named = TreePath::new(&member.name)?;
        let (Some(dir), Some(name)) = (named.parent(), named.name()) else {
            return self.root(member);
        };
        if self.options.names == Names::Plain && named.components().any(|part| part.starts_with(WHITEOUT)) {
            return Err(LayerError::Reserved { path: named });
        }
        let opaque = name == OPAQUE;
        if named.components().any(|part| part.starts_with(AUFS) && !(opaque && part == OPAQUE)) {
            return Ok(());
        }
        if dir.components().any(|part| part.starts_with(WHITEOUT)) {
            return Err(LayerError::Reserved { path: named });
        }
        let dir = self.index.resolve(&dir, &named)?;
        if dir.as_bytes().len() + name.len() + 2 > MAX_PATH {
            return Err(long_path(&member.name));
        }
        for path in self.index.imply(&dir) {
            self.make(&dir_entry(path, implied_meta(), true))?;
        }
        if opaque {
            self.index.put_opaque(&dir);
        } else if let Some(gone) = name.strip_prefix(WHITEOUT) {
            if matches!(gone, b"" | b"." | b"..") {
                return Err(LayerError::BadWhiteout { path: named });
            }
            self.index.put_whiteout(&dir.child(gone));
        } else {
            let path = dir.child(name);
            let meta = self.meta(&mut member);
            self.file(path, member.kind, meta, archive)?;
        }
        if self.index.bytes > self.options.max_index {
            return Err(LayerError::IndexTooLarge { path: named, limit: self.options.max_index });
        }
        Ok(())
    }

    fn root(&mut self, mut member: Member) -> Result<(), LayerError> {
        if !matches!(member.kind, MemberKind::Dir) {
            return Err(LayerError::RootNotDir { kind: word(&member.kind) });
        }
        let meta = self.meta(&mut member);
        self.make(&dir_entry(TreePath::root(), meta.clone(), false))?;
        self.index.put_dir(&TreePath::root(), meta);
        Ok(())
    }

    /// Takes in a file whose parents are directories.
    fn file(&mut self, path: TreePath, kind: MemberKind, meta: Meta, archive: &mut dyn Read) -> Result<(), LayerError> {
        let kind = match kind {
            MemberKind::Dir => {
                let entry = dir_entry(path, meta, false);
                self.make(&entry)?;
                self.index.put_dir(&entry.path, entry.meta);
                return Ok(());
            }
            MemberKind::Hardlink { target } => return self.hardlink(path, &target, meta),
            MemberKind::File { size } => {
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > self.options.max_bytes {
                    return Err(LayerError::TooLarge { path, limit: self.options.max_bytes });
                }
                Kind::File { size, digest: None }
            }
            MemberKind::Symlink { target } => {
                if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
                    return Err(LayerError::BadLinkText { path });
                }
                Kind::Symlink { target }
            }
            MemberKind::Char(major, minor) => Kind::Char { device: (major, minor) },
            MemberKind::Block(major, minor) => Kind::Block { device: (major, minor) },
            MemberKind::Fifo => Kind::Fifo,
        };
        let entry = Entry { path, kind, meta, implied: false };
        let contents = if let Kind::File { .. } = entry.kind { Contents::Reader(archive) } else { Contents::None };
        let read = self.make_with(&entry, contents)?;
        let Entry { path, mut kind, meta, .. } = entry;
        if let Kind::File { digest, .. } = &mut kind {
            *digest = read;
        }
        self.index.put_file(&path, kind, meta);
        Ok(())
    }

    fn hardlink(&mut self, path: TreePath, target: &[u8], meta: Meta) -> Result<(), LayerError> {
        if target.len() > 2 * MAX_PATH {
            return Err(long_path(target));
        }
        let named = TreePath::new(target)?;
        let missing = || LayerError::NoLinkTarget { path: path.clone(), target: named.clone() };
        let (Some(dir), Some(name)) = (named.parent(), named.name()) else {
            return Err(missing());
        };
        let target = self.index.resolve(&dir, &path)?.child(name);
        let Some(&Slot::Inode(number)) = self.index.get(&target) else {
            return Err(missing());
        };
        // A directory in the place of the link goes away with all that is in it, maybe the target.
        if target != path && target.starts_with(&path) {
            return Err(missing());
        }
        let inode = self.index.inode(number);
        if let Kind::Symlink { .. } = inode.kind {
            // Two equal links are as good as one with two names, and nobody needs to know about those.
            let kind = inode.kind.clone();
            let entry = Entry { path, kind, meta, implied: false };
            self.make(&entry)?;
            self.index.put_file(&entry.path, entry.kind, entry.meta);
            return Ok(());
        }
        // What the header of the link says counts, as it does for container runtimes.
        let mut xattrs = inode.meta.xattrs.clone();
        xattrs.extend(meta.xattrs);
        if !matches!(inode.kind, Kind::File { .. }) {
            xattrs.clear();
        }
        let meta = Meta { xattrs, ..meta };
        let changed = inode.meta != meta;
        inode.meta = meta.clone();
        let kind = inode.kind.clone();
        let entry = Entry { path, kind: Kind::Hardlink { target }, meta, implied: false };
        self.make(&entry)?;
        self.index.put_link(&entry.path, number);
        if changed && let Some(disk) = &mut self.disk {
            // Of a device, its attributes are part of what it is on disk.
            disk.set_attributes(&Entry { kind, ..entry })?;
        }
        Ok(())
    }

    fn meta(&self, member: &mut Member) -> Meta {
        let mut xattrs = xattr::kept(std::mem::take(&mut member.xattrs), &member.kind);
        if self.options.names == Names::Plain {
            xattrs.retain(|name, _| name == xattr::CAPABILITY);
        }
        let Member { mode, uid, gid, .. } = *member;
        Meta { mode, uid, gid, mtime: Mtime::from_secs(member.mtime), xattrs }
    }

    fn make(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.make_with(entry, Contents::None).map(drop)
    }

    /// Makes a file on disk, if there is one, and returns the digest of its contents.
    fn make_with(&mut self, entry: &Entry, contents: Contents<'_>) -> Result<Option<FileDigest>, LayerError> {
        match (&mut self.disk, contents) {
            (Some(disk), contents) => disk.create(entry, contents),
            (None, Contents::Reader(reader)) => digest(reader).map(Some).map_err(|source| LayerError::Io {
                call: "read the contents of",
                path: entry.path.clone(),
                source,
            }),
            (None, _) => Ok(None),
        }
    }
}

fn digest(reader: &mut dyn Read) -> io::Result<FileDigest> {
    let mut hasher = Sha256::new();
    let mut buffer = [0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(FileDigest(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn dir_entry(path: TreePath, meta: Meta, implied: bool) -> Entry {
    Entry { path, kind: Kind::Dir, meta, implied }
}

fn long_path(name: &[u8]) -> LayerError {
    LayerError::LongPath { path: shown(name), length: name.len() }
}

fn word(kind: &MemberKind) -> &'static str {
    match kind {
        MemberKind::File { .. } => "file",
        MemberKind::Dir => "directory",
        MemberKind::Symlink { .. } => "symbolic link",
        MemberKind::Hardlink { .. } => "hard link",
        MemberKind::Char(..) | MemberKind::Block(..) => "device",
        MemberKind::Fifo => "fifo",
    }
}

/// Gives what `input` gives, up to so many bytes; more is an error.
struct Bounded<'a> {
    input: &'a mut dyn Read,
    left: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| io::Error::other("the layer is too large"))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
