//! Whom links and fifos in a cache mount belong to, where users are emulated: files carry their owner in an attribute, these
//! can not. It is written down beside the folder, by name and inode number; a name that has another file by now is root's.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache_mounts::CacheMount;
use super::stamp::read_json;
use super::{StoreError, active};
use crate::tree::TreePath;

/// A file in a cache mount that can not say whom it belongs to, and is not root's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheOwner {
    /// Where it is in the folder.
    pub path: TreePath,
    /// User id in a step.
    pub uid: u32,
    /// Group id in a step.
    pub gid: u32,
    inode: u64,
}

impl CacheMount {
    /// Returns the owners of the files that can not say it themselves, where they are not root's.
    pub fn owners(&self) -> Vec<CacheOwner> {
        read(self.dir())
    }

    /// Writes down whom files belong to after a step, which was `given` what they were before it. `now` has users and groups by
    /// device and inode number, of this folder and others; what is not in it is root's. What another step has written
    /// meanwhile about other files stays.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be read, or the list not written.
    pub fn keep_owners(&self, given: &[CacheOwner], now: &HashMap<(u64, u64), (u32, u32)>) -> Result<(), StoreError> {
        let dir = self.dir();
        if now.is_empty() && given.is_empty() {
            return Ok(());
        }
        let path = dir.with_file_name("owners.lock");
        let lock = File::create(&path).map_err(|source| StoreError::io("create", &path, source))?;
        lock.lock().map_err(|source| StoreError::io("lock", &path, source))?;
        let others: HashMap<u64, CacheOwner> = read(dir).into_iter().map(|owner| (owner.inode, owner)).collect();
        let mut kept = Vec::new();
        for (path, device, inode) in special(dir)? {
            let owner = match now.get(&(device, inode)) {
                Some(owner) => Some(*owner),
                None if given.iter().any(|owner| owner.inode == inode) => None,
                None => others.get(&inode).map(|owner| (owner.uid, owner.gid)),
            };
            kept.extend(owner.map(|(uid, gid)| CacheOwner { path, uid, gid, inode }));
        }
        write(dir, &kept)
    }
}

/// Writes down whom files in `dir` belong to, which is filled just now: path, user, group.
///
/// # Errors
/// [`StoreError`] where the list cannot be written.
pub fn note_owners<'a>(dir: &Path, owners: impl Iterator<Item = (&'a TreePath, u32, u32)>) -> Result<(), StoreError> {
    let mut kept = Vec::new();
    for (path, uid, gid) in owners {
        let disk = dir.join(path.as_os_path());
        let meta = fs::symlink_metadata(&disk).map_err(|source| StoreError::io("stat", &disk, source))?;
        kept.push(CacheOwner { path: path.clone(), uid, gid, inode: meta.ino() });
    }
    write(dir, &kept)
}

/// Moves the list of a folder to where that of the folder `to` is: it takes its place.
pub(super) fn move_list(from: &Path, to: &Path) -> Result<(), StoreError> {
    let (from, to) = (list_of(from), list_of(to));
    match fs::rename(&from, &to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            active::remove_all(&to).map_err(|source| StoreError::io("remove", &to, source))
        }
        result => result.map_err(|source| StoreError::io("rename", &from, source)),
    }
}

fn list_of(dir: &Path) -> PathBuf {
    dir.with_extension("owners")
}

fn read(dir: &Path) -> Vec<CacheOwner> {
    let all: Vec<CacheOwner> = read_json(&list_of(dir)).unwrap_or_default();
    let is_it = |owner: &CacheOwner| {
        fs::symlink_metadata(dir.join(owner.path.as_os_path())).is_ok_and(|meta| meta.ino() == owner.inode)
    };
    all.into_iter().filter(is_it).collect()
}

fn write(dir: &Path, owners: &[CacheOwner]) -> Result<(), StoreError> {
    let list = list_of(dir);
    if owners.is_empty() {
        return active::remove_all(&list).map_err(|source| StoreError::io("remove", &list, source));
    }
    let text = serde_json::to_vec(owners).expect("numbers and names always serialise");
    let new = dir.with_extension("owners-new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &list))
        .map_err(|source| StoreError::io("write", &list, source))
}

/// Returns the files below `dir` that can not carry an attribute: path, device, inode number.
fn special(dir: &Path) -> Result<Vec<(TreePath, u64, u64)>, StoreError> {
    let mut found = Vec::new();
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        let disk = dir.join(path.as_os_path());
        let fail = |source| StoreError::io("read", &disk, source);
        for entry in fs::read_dir(&disk).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let child = path.child(entry.file_name().as_encoded_bytes());
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_dir() {
                todo.push(child);
            } else if kind.is_symlink() || kind.is_fifo() {
                let meta = entry.metadata().map_err(fail)?;
                found.push((child, meta.dev(), meta.ino()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::{CacheMounts, Claim};

    #[test]
    fn a_link_keeps_its_owner_until_it_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let fill = &mut |_: &Path| Ok::<_, StoreError>(());
        let cache = mounts.take(("realm", "a"), Claim::Shared, fill, &mut || Ok(())).unwrap();
        let at = |name: &str| cache.dir().join(name);
        fs::create_dir(at("d")).unwrap();
        symlink("x", at("d/l")).unwrap();
        symlink("x", at("m")).unwrap();
        let key = |name: &str| {
            let meta = fs::symlink_metadata(at(name)).unwrap();
            (meta.dev(), meta.ino())
        };
        let list = || cache.owners().into_iter().map(|owner| (owner.path.to_string(), owner.uid)).collect::<Vec<_>>();
        cache.keep_owners(&[], &HashMap::from([(key("d/l"), (5, 6))])).unwrap();
        assert_eq!(list(), [("d/l".to_owned(), 5)]);
        // Another step at the same time, which knew nothing of it.
        cache.keep_owners(&[], &HashMap::from([(key("m"), (7, 0))])).unwrap();
        assert_eq!(list(), [("d/l".to_owned(), 5), ("m".to_owned(), 7)]);
        // A step that gave one back to root.
        let given = cache.owners();
        fs::rename(at("m"), at("n")).unwrap();
        cache.keep_owners(&given, &HashMap::from([(key("n"), (7, 0))])).unwrap();
        assert_eq!(list(), [("n".to_owned(), 7)]);
        symlink("y", at("other")).unwrap();
        fs::rename(at("other"), at("n")).unwrap();
        assert_eq!(list(), []);
    }
}
