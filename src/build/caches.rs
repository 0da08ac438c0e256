//! Cache mounts as archives: out of a machine, and into another one.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use coracle_runtime::container::Control;
use coracle_runtime::owner::{FileOwner, XATTR};
use rustix::fs::{FileType, Stat, lgetxattr, lstat};

use crate::layer::{self, DiskTree, LayerError, PackOptions, UnpackOptions};
use crate::progress::{Event, Sink};
use crate::store::{CacheInfo, CacheMounts, CacheName, Claim, note_owners, open_in};
use crate::tree::{Entry, Kind, Meta, Mtime, Owners, TreePath};

use super::BuildError;
use super::schedule::Builder;

impl Builder<'_> {
    /// Returns the cache mounts among `caches` that steps would see here: those of the way in which steps are run.
    ///
    /// # Errors
    /// [`BuildError`] where that way cannot be entered.
    pub fn caches(&mut self, caches: &CacheMounts) -> Result<Vec<CacheInfo>, BuildError> {
        self.enter()?;
        let realm = self.on_disk().realm;
        Ok(caches.list().into_iter().filter(|info| info.realm == realm).collect())
    }

    /// Writes what is in the cache mount with this id and variant to `out`, as an archive. Returns warnings: what is left out.
    ///
    /// # Errors
    /// [`BuildError`] where a file cannot be read or archived, or `out` fails.
    pub fn pack_cache(
        &mut self,
        caches: &CacheMounts,
        (id, variant): (&str, &str),
        out: &mut dyn Write,
    ) -> Result<Vec<String>, BuildError> {
        self.enter()?;
        let on_disk = self.on_disk();
        let cache = caches.take(
            CacheName { realm: &on_disk.realm, id, variant },
            Claim::Alone,
            &mut |_| Ok(()),
            &mut waiting(self.control, self.sink, id),
        )?;
        let mut warnings = Vec::new();
        let mut entries = entries(cache.dir(), on_disk.owners, &mut warnings)?;
        if on_disk.owners == Owners::Emulated {
            for owner in cache.owners() {
                if let Ok(at) = entries.binary_search_by(|entry| entry.path.cmp(&owner.path)) {
                    (entries[at].meta.uid, entries[at].meta.gid) = (owner.uid, owner.gid);
                }
            }
        }
        let mut open = |entry: &Entry| open_in(cache.dir(), &entry.path);
        layer::pack(&entries, &mut open, out, &PackOptions::default())?;
        Ok(warnings)
    }

    /// Makes the archive `input` the cache mount with this id and variant, in place of what was there. It may have `most` bytes, and is trusted in nothing.
    ///
    /// # Errors
    /// [`BuildError`] where it is no archive, too large, or holds what no cache has; then what was there stays.
    pub fn unpack_cache(
        &mut self,
        caches: &CacheMounts,
        (id, variant): (&str, &str),
        input: &mut dyn Read,
        most: u64,
    ) -> Result<(), BuildError> {
        self.enter()?;
        let on_disk = self.on_disk();
        let too_large = || BuildError::LargeCache { id: id.into(), limit: most };
        let mut fill = |dir: &Path| -> Result<(), BuildError> {
            let mut tree = DiskTree::open(dir, on_disk.owners)?;
            let options = UnpackOptions { max_bytes: most, ..UnpackOptions::default() };
            let mut input = Counted { input: &mut *input, bytes: 0 };
            let found = layer::unpack(&mut input, &mut tree, &options).map_err(|error| match error {
                LayerError::TooLarge { .. } | LayerError::IndexTooLarge { .. } => too_large(),
                _ if input.bytes > most => too_large(),
                other => other.into(),
            })?;
            let other = found.entries.iter().find_map(|entry| match entry.kind {
                Kind::Whiteout => Some((&entry.path, "a mark for layers")),
                Kind::Char { .. } | Kind::Block { .. } => Some((&entry.path, "a device")),
                _ => None,
            });
            let opaque = found.opaque.first().map(|path| (path, "a mark for layers"));
            if let Some((path, what)) = other.or(opaque) {
                return Err(BuildError::BadCache { path: format!("/{path}"), what });
            }
            tree.finish()?;
            if on_disk.owners == Owners::Emulated {
                let is_special = |entry: &&Entry| matches!(entry.kind, Kind::Symlink { .. } | Kind::Fifo);
                let special = found.entries.iter().filter(is_special);
                let owned = special.map(|entry| (&entry.path, entry.meta.uid, entry.meta.gid));
                note_owners(dir, owned.filter(|(_, uid, gid)| (*uid, *gid) != (0, 0)))?;
            }
            Ok(())
        };
        let name = CacheName { realm: &on_disk.realm, id, variant };
        caches.put(name, &mut fill, &mut waiting(self.control, self.sink, id))
    }
}

/// Returns what is called while a step uses the cache mount `id`: it says so once, and ends the waiting when the user wants that.
pub(super) fn waiting(control: &Control, sink: &dyn Sink, id: &str) -> impl FnMut() -> Result<(), BuildError> {
    let mut told = false;
    move || {
        if control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        if !std::mem::replace(&mut told, true) {
            let message = format!("waiting for the cache mount {id:?}, which a step uses");
            sink.emit(Event::Warning { message, line: None });
        }
        Ok(())
    }
}

/// Counts what is read.
struct Counted<'a> {
    input: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Returns the files below `dir` as an archive has them; nothing is changed.
fn entries(dir: &Path, owners: Owners, warnings: &mut Vec<String>) -> Result<Vec<Entry>, BuildError> {
    let mut found = Vec::new();
    let mut first: HashMap<(u64, u64), TreePath> = HashMap::new();
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        let disk = dir.join(path.as_os_path());
        let stat = lstat(&disk).map_err(|errno| BuildError::io("stat", &disk, errno.into()))?;
        let names = names(&disk, &stat)?;
        todo.extend(names.iter().map(|name| path.child(name)));
        found.push((path, disk, stat));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut entries = Vec::with_capacity(found.len());
    for (path, disk, stat) in found {
        let inode = (stat.st_dev, stat.st_ino);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => match first.get(&inode).filter(|_| stat.st_nlink > 1) {
                Some(target) => Kind::Hardlink { target: target.clone() },
                None => Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0), digest: None },
            },
            FileType::Symlink => {
                let target = fs::read_link(&disk).map_err(|source| BuildError::io("read the link", &disk, source))?;
                Kind::Symlink { target: target.into_os_string().into_encoded_bytes() }
            }
            FileType::Fifo => Kind::Fifo,
            _ => {
                warnings.push(format!("/{path} is a socket or a device: left out"));
                continue;
            }
        };
        if path.name().is_some_and(|name| name.starts_with(b".wh.")) {
            warnings.push(format!("/{path} has a name that no archive of this kind can hold: left out"));
            continue;
        }
        if let Kind::File { .. } = kind {
            first.insert(inode, path.clone());
        }
        let owner = owner(&disk, &stat, owners);
        let meta = Meta {
            mode: stat.st_mode & 0o7777,
            uid: owner.0,
            gid: owner.1,
            mtime: Mtime::from_secs(stat.st_mtime),
            xattrs: BTreeMap::new(),
        };
        entries.push(Entry { path, kind, meta, implied: false });
    }
    Ok(entries)
}

fn names(disk: &Path, stat: &Stat) -> Result<Vec<Vec<u8>>, BuildError> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(Vec::new());
    }
    let fail = |source| BuildError::io("read", disk, source);
    let entries = fs::read_dir(disk).map_err(fail)?;
    entries.map(|entry| Ok(entry.map_err(fail)?.file_name().into_encoded_bytes())).collect()
}

/// Returns whom a file belongs to in a step.
fn owner(disk: &Path, stat: &Stat, owners: Owners) -> (u32, u32) {
    if owners == Owners::Native {
        return (stat.st_uid, stat.st_gid);
    }
    let mut text = [0; 64];
    let said = lgetxattr(disk, XATTR, &mut text[..]).ok().and_then(|length| FileOwner::parse(&text[..length]));
    said.map_or((0, 0), |owner| (owner.uid, owner.gid))
}
