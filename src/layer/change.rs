//! What a step changed: the upper directory of an overlay → the entries of a layer.
//!
//! Afterwards the directory holds just those entries: copies that changed nothing are removed from it, an opaque
//! directory has become explicit whiteouts, and times are whole seconds. So what is on disk depends on the entries
//! alone, and not on how the kernel came to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_runtime::owner::{FileOwner, XATTR};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, Timespec, Timestamps};
use sha2::Digest as _;

use super::tar::MemberKind;
use crate::tree::{Entry, Error, FileDigest, Kind, Meta, Mtime, Tree, TreePath};

/// Overlayfs' mark on a directory that hides what lies below it (mount option `userxattr`).
/// The attribute of a directory of which overlayfs shows nothing that is in the layers below.
pub const OPAQUE: &str = "user.overlay.opaque";

/// How the owners of the files that a step left are known.
#[derive(Clone, Copy)]
pub enum Ownership<'a> {
    /// They are those on disk. A device that stands as a file has the owner and the permissions of that file.
    Native,
    /// Regular files, directories and devices tell them by their attribute, where they are not 0:0.
    Emulated {
        /// Those of all other files, by the inode that the container saw; 0:0 where it is not here.
        special: &'a HashMap<u64, (u32, u32)>,
        /// Returns the inode of the file of the layers below at this path, where it has one name only. Overlayfs shows
        /// its copy under the same number, though on disk that has another.
        lower_inode: &'a dyn Fn(&TreePath) -> Option<u64>,
    },
}

impl std::fmt::Debug for Ownership<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ownership::Native => "Native",
            Ownership::Emulated { .. } => "Emulated",
        })
    }
}

/// A file that may belong to the layer.
pub(super) struct Found {
    pub(super) path: TreePath,
    disk: PathBuf,
    kind: Kind,
    pub(super) meta: Meta,
    /// The same for all names of one file; device and inode, where it has several.
    pub(super) inode: Option<(u64, u64)>,
    opaque: bool,
}

/// Returns the entries of the layer that turns `below` into what a container with the upper directory `upper` saw,
/// sorted by path, directories that lead to a change included.
///
/// # Errors
/// [`Error`] where a file cannot be read or changed.
pub fn changes(upper: &Path, below: &dyn Tree, ownership: Ownership<'_>) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    let mut whiteouts = BTreeSet::new();
    scan(upper, below, ownership, &mut found, &mut whiteouts)?;
    digest(&mut found)?;
    for at in 0..found.len() {
        if found[at].opaque {
            let (dir, disk) = (found[at].path.clone(), found[at].disk.clone());
            hide_below(&dir, &disk, below, &found, &mut whiteouts)?;
            rustix::fs::removexattr(&disk, OPAQUE)
                .map_err(|errno| Error::in_image("remove attribute of", &dir, errno))?;
        }
    }
    let keep = changed(&found, &whiteouts, below)?;
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for (file, keep) in found.into_iter().zip(keep) {
        if keep { kept.push(file) } else { dropped.push(file) }
    }
    for file in &kept {
        whole_seconds(&file.path, &file.disk, &file.meta)?;
    }
    let entries = entries(kept, whiteouts);
    // Children before the directories that hold them.
    for file in dropped.iter().rev().filter(|file| !file.path.is_root()) {
        let flags = if file.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(CWD, &file.disk, flags).map_err(|errno| Error::in_image("remove", &file.path, errno))?;
    }
    // Removing changed the times of what is left.
    for entry in entries.iter().filter(|entry| entry.kind.is_dir()) {
        whole_seconds(&entry.path, &upper.join(entry.path.as_os_path()), &entry.meta)?;
    }
    Ok(entries)
}

/// Returns the entries of a layer with these files, sorted by path.
pub(super) fn entries(files: Vec<Found>, whiteouts: BTreeSet<TreePath>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = whiteouts
        .into_iter()
        .map(|path| Entry { path, kind: Kind::Whiteout, meta: Meta::default(), implied: false })
        .collect();
    let mut first_names: HashMap<(u64, u64), TreePath> = HashMap::new();
    for Found { path, mut kind, meta, inode, .. } in files {
        let first = inode.and_then(|inode| first_names.get(&inode));
        match (first, inode) {
            (Some(first), _) => kind = Kind::Hardlink { target: first.clone() },
            (None, Some(inode)) => {
                first_names.insert(inode, path.clone());
            }
            (None, None) => {}
        }
        let meta = Meta { mtime: Mtime::from_secs(meta.mtime.secs), ..meta };
        entries.push(Entry { path, kind, meta, implied: false });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

/// Finds all files in `upper`, parents first.
fn scan(
    upper: &Path,
    below: &dyn Tree,
    ownership: Ownership<'_>,
    found: &mut Vec<Found>,
    whiteouts: &mut BTreeSet<TreePath>,
) -> Result<(), Error> {
    let mut todo = vec![TreePath::root()];
    while let Some(dir) = todo.pop() {
        let disk = upper.join(dir.as_os_path());
        let stat = rustix::fs::lstat(&disk).map_err(|errno| Error::in_image("stat", &dir, errno))?;
        let opaque = get_xattr(&disk, OPAQUE).map_err(|errno| Error::in_image("read attribute of", &dir, errno))?;
        found.push(Found {
            kind: Kind::Dir,
            meta: meta(&dir, &disk, &stat, ownership)?.0,
            inode: None,
            // "x" says that there may be whiteouts in the form of attributes, which only a layer of another maker has.
            opaque: opaque.as_deref() == Some(b"y"),
            path: dir.clone(),
            disk: disk.clone(),
        });
        let listing = std::fs::read_dir(&disk).map_err(|source| Error::in_image("read directory", &dir, source))?;
        let mut names = Vec::new();
        for entry in listing {
            names.push(entry.map_err(|source| Error::in_image("read directory", &dir, source))?.file_name());
        }
        names.sort();
        for name in names {
            use std::os::unix::ffi::OsStrExt;
            let (path, disk) = (dir.child(name.as_bytes()), disk.join(&name));
            let stat = rustix::fs::lstat(&disk).map_err(|errno| Error::in_image("stat", &path, errno))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => todo.push(path),
                FileType::CharacterDevice if stat.st_rdev == 0 => {
                    if below.lookup(&path)?.is_some() {
                        whiteouts.insert(path);
                    } else {
                        rustix::fs::unlink(&disk).map_err(|errno| Error::in_image("remove", &path, errno))?;
                    }
                }
                // It is nothing without its process; but what was there before is gone.
                FileType::Socket => {
                    rustix::fs::unlink(&disk).map_err(|errno| Error::in_image("remove", &path, errno))?;
                    if below.lookup(&path)?.is_some() {
                        make_whiteout(&path, &disk)?;
                        whiteouts.insert(path);
                    }
                }
                _ => {
                    let inode = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
                    found.push(Found { inode, ..found_at(path, disk, &stat, ownership)? });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

/// Returns the file at `path`, which lies at `disk`.
pub(super) fn found(path: &TreePath, disk: PathBuf, ownership: Ownership<'_>) -> Result<Found, Error> {
    let stat = rustix::fs::lstat(&disk).map_err(|errno| Error::in_image("stat", path, errno))?;
    found_at(path.clone(), disk, &stat, ownership)
}

fn found_at(path: TreePath, disk: PathBuf, stat: &Stat, ownership: Ownership<'_>) -> Result<Found, Error> {
    let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => {
            let target =
                rustix::fs::readlink(&disk, Vec::new()).map_err(|errno| Error::in_image("read link", &path, errno))?;
            Kind::Symlink { target: target.into_bytes() }
        }
        FileType::CharacterDevice => Kind::Char { device: numbers },
        FileType::BlockDevice => Kind::Block { device: numbers },
        FileType::Fifo => Kind::Fifo,
        _ => Kind::File { size: stat.st_size.unsigned_abs(), digest: None },
    };
    let (meta, device) = meta(&path, &disk, stat, ownership)?;
    Ok(Found { path, disk, kind: device.unwrap_or(kind), meta, inode: None, opaque: false })
}

/// Returns the attributes of a file in the image; and what it is there, where it is a device.
fn meta(path: &TreePath, disk: &Path, stat: &Stat, ownership: Ownership<'_>) -> Result<(Meta, Option<Kind>), Error> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(MemberKind::File { size: 0 }),
        FileType::Directory => Some(MemberKind::Dir),
        _ => None,
    };
    let (xattrs, noted) = match &kind {
        Some(kind) => attributes(disk, kind).map_err(|errno| Error::in_image("read attributes of", path, errno))?,
        None => Default::default(),
    };
    let device = noted.and_then(|noted| noted.device).filter(|_| matches!(kind, Some(MemberKind::File { .. })));
    let mut mode = stat.st_mode & 0o7777;
    let (uid, gid) = match ownership {
        Ownership::Native => (stat.st_uid, stat.st_gid),
        Ownership::Emulated { .. } if kind.is_some() => {
            mode = device.map_or(mode, |device| device.mode & 0o7777);
            noted.map_or((0, 0), |noted| (noted.uid, noted.gid))
        }
        Ownership::Emulated { special, lower_inode } => {
            let of_lower = || special.get(&lower_inode(path)?);
            special.get(&stat.st_ino).or_else(of_lower).copied().unwrap_or((0, 0))
        }
    };
    let xattrs = if device.is_some() { BTreeMap::new() } else { xattrs };
    let mtime = Mtime { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
    let device = device.map(|device| {
        let numbers = (device.major, device.minor);
        if device.is_block() { Kind::Block { device: numbers } } else { Kind::Char { device: numbers } }
    });
    Ok((Meta { mode, uid, gid, mtime, xattrs }, device))
}

/// The extended attributes that belong to the image (see [`Meta::xattrs`]), and what our own one says.
type Attributes = (BTreeMap<Vec<u8>, Vec<u8>>, Option<FileOwner>);

fn attributes(disk: &Path, kind: &MemberKind) -> Result<Attributes, rustix::io::Errno> {
    let (mut attributes, mut noted) = (BTreeMap::new(), None);
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::llistxattr(disk, &mut names[..]) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) if names.len() < 1 << 16 => names.resize(names.len() * 4, 0),
            Err(rustix::io::Errno::OPNOTSUPP) => break 0,
            Err(errno) => return Err(errno),
        }
    };
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if text == XATTR {
            noted = get_xattr(disk, XATTR)?.and_then(|value| FileOwner::parse(&value));
            continue;
        }
        if !text.starts_with("user.") && text != "security.capability" {
            continue;
        }
        if let Some(value) = get_xattr(disk, text)? {
            attributes.insert(name.to_vec(), value);
        }
    }
    Ok((super::xattr::kept(attributes, kind), noted))
}

fn get_xattr(disk: &Path, name: &str) -> Result<Option<Vec<u8>>, rustix::io::Errno> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(disk, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(rustix::io::Errno::RANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Fills in the digests of the regular files, on all cores.
pub(super) fn digest(found: &mut [Found]) -> Result<(), Error> {
    let mut firsts: HashMap<(u64, u64), usize> = HashMap::new();
    let mut todo = Vec::new();
    for (at, file) in found.iter().enumerate() {
        if matches!(file.kind, Kind::File { .. }) && file.inode.is_none_or(|inode| firsts.insert(inode, at).is_none()) {
            todo.push(at);
        }
    }
    // Asking for them takes longer than a few small files.
    let threads = match todo.len() / 16 {
        few @ 0..2 => few,
        most => std::thread::available_parallelism().map_or(1, usize::from).min(most),
    };
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(todo.len())));
    let files = &*found;
    // To clear a long buffer takes longer than to read a short file.
    let longest = todo.iter().map(|&at| if let Kind::File { size, .. } = files[at].kind { size } else { 0 }).max();
    let length = longest.unwrap_or(0).clamp(4 << 10, 256 << 10) as usize + 1;
    let work = || {
        let mut buffer = vec![0; length];
        let mut own = Vec::new();
        while let Some(&at) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.push((at, digest_file(&files[at], &mut buffer)));
        }
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(own);
    };
    if !todo.is_empty() {
        std::thread::scope(|scope| {
            // This thread works too.
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
    let mut by_inode = HashMap::new();
    for (at, result) in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let (length, value) = result.map_err(|source| Error::in_image("read", &found[at].path, source))?;
        if let Some(inode) = found[at].inode {
            by_inode.insert(inode, value);
        }
        found[at].kind = Kind::File { size: length, digest: Some(value) };
    }
    for file in found {
        if let (Kind::File { digest, .. }, Some(inode)) = (&mut file.kind, file.inode) {
            *digest = by_inode.get(&inode).copied();
        }
    }
    Ok(())
}

fn digest_file(file: &Found, buffer: &mut [u8]) -> io::Result<(u64, FileDigest)> {
    let mut input = File::open(&file.disk)?;
    let (mut hasher, mut length) = (sha2::Sha256::new(), 0);
    loop {
        match input.read(buffer) {
            Ok(0) => return Ok((length, FileDigest(hasher.finalize().into()))),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Adds a whiteout, in `whiteouts` and on disk, for all that `below` has in the opaque directory `dir` and the step did
/// not make again.
fn hide_below(
    dir: &TreePath,
    disk: &Path,
    below: &dyn Tree,
    found: &[Found],
    whiteouts: &mut BTreeSet<TreePath>,
) -> Result<(), Error> {
    if !below.lookup(dir)?.is_some_and(|node| node.kind.is_dir()) {
        return Ok(());
    }
    for (name, node) in below.read_dir(dir)? {
        let path = dir.child(&name);
        let own = found.binary_search_by(|file| file.path.cmp(&path)).ok().map(|at| &found[at]);
        match own {
            // An opaque child hides its own contents.
            Some(file) if file.kind.is_dir() && node.kind.is_dir() && !file.opaque => {
                hide_below(&path, &file.disk, below, found, whiteouts)?;
            }
            Some(_) => {}
            None => {
                use std::os::unix::ffi::OsStrExt;
                let target = disk.join(std::ffi::OsStr::from_bytes(&name));
                if !whiteouts.contains(&path) {
                    make_whiteout(&path, &target)?;
                    whiteouts.insert(path);
                }
            }
        }
    }
    Ok(())
}

fn make_whiteout(path: &TreePath, disk: &Path) -> Result<(), Error> {
    rustix::fs::mknodat(CWD, disk, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(|errno| Error::in_image("make whiteout", path, errno))
}

/// Says of each file that was found whether it belongs to the layer: it changed, or leads to something that did.
pub(super) fn changed(found: &[Found], whiteouts: &BTreeSet<TreePath>, below: &dyn Tree) -> Result<Vec<bool>, Error> {
    let mut keep = vec![false; found.len()];
    let mut changed_inodes = HashMap::new();
    for (at, file) in found.iter().enumerate() {
        keep[at] = match below.lookup(&file.path)? {
            // Nobody described the root below; a root that nothing was put into is no change.
            Some(old) if file.path.is_root() => {
                let (old, new) = (&old.meta, &file.meta);
                (old.mode, old.uid, old.gid, &old.xattrs) != (new.mode, new.uid, new.gid, &new.xattrs)
            }
            Some(old) => !same(&old.kind, &old.meta, file),
            None => !file.path.is_root(),
        };
        if let Some(inode) = file.inode {
            *changed_inodes.entry(inode).or_insert(false) |= keep[at];
        }
    }
    // All names of a file stay together: a name that was there before comes along with those that it got. But not one of
    // several: which of them the new name was made from, nobody knows who works in place.
    for (at, file) in found.iter().enumerate() {
        let with_others = file.inode.is_some_and(|inode| changed_inodes.get(&inode) == Some(&true));
        if !keep[at] && with_others {
            keep[at] = !below.has_other_names(&file.path)?;
        }
    }
    let kept = found.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(file, _)| &file.path);
    let leading: Vec<TreePath> = whiteouts.iter().chain(kept).flat_map(TreePath::ancestors).collect();
    for parent in leading {
        if let Ok(at) = found.binary_search_by(|file| file.path.cmp(&parent)) {
            keep[at] = true;
        }
    }
    Ok(keep)
}

/// Overlayfs copies a file up with its times, so an equal time says that nobody wrote to it; the contents are compared all
/// the same, because a program can set a time back.
fn same(old_kind: &Kind, old: &Meta, new: &Found) -> bool {
    *old_kind == new.kind
        && old.mode == new.meta.mode
        && old.uid == new.meta.uid
        && old.gid == new.meta.gid
        && old.xattrs == new.meta.xattrs
        && same_time(old.mtime, new.meta.mtime)
}

/// Whether `new` is what a file system says of a file that was given the time `old`: ext4 knows the years 1901 to 2446, and
/// some know whole seconds only. What a step writes in the very second of the file below differs in the fraction, which no
/// layer of ours has; so it does not depend on how fast the steps were.
fn same_time(old: Mtime, new: Mtime) -> bool {
    const EARLIEST: i64 = -0x8000_0000;
    const LATEST: i64 = 0x3_7fff_ffff;
    let is_second = old.secs == new.secs || old.secs.clamp(EARLIEST, LATEST) == new.secs;
    is_second && (new.nanos == 0 || new.nanos == old.nanos)
}

fn whole_seconds(path: &TreePath, disk: &Path, meta: &Meta) -> Result<(), Error> {
    let time = Timespec { tv_sec: meta.mtime.secs, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, disk, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::in_image("set time of", path, errno))
}

#[cfg(test)]
mod tests;
