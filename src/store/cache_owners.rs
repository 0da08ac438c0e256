//! Whom links and fifos in a cache mount belong to, where users are emulated: files carry their owner in an attribute, these
//! can not. It is written down beside the folder, by name and inode number; a name that has another file by now is root's.
//!
//! Other steps may work in the folder meanwhile. What they take away is passed over, and a link that they put in place of a
//! folder leads nowhere: no path is followed from its beginning to its end, but from folder to folder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::cache_mounts::CacheMount;
use super::lock::Lock;
use super::stamp::read_json;
use super::{StoreError, active, open_dir_in};
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
        let _lock = Lock::wait_alone(&path)?;
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
        let stat = stat(dir, path).map_err(|source| StoreError::io("stat", &disk, source))?;
        kept.push(CacheOwner { path: path.clone(), uid, gid, inode: stat.st_ino });
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
    let is_it = |owner: &CacheOwner| stat(dir, &owner.path).is_ok_and(|stat| stat.st_ino == owner.inode);
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

/// Looks at the file `path` in `dir`; a link on the way to it is refused.
fn stat(dir: &Path, path: &TreePath) -> io::Result<Stat> {
    match (path.parent(), path.name()) {
        (Some(parent), Some(name)) => Ok(statat(open_dir_in(dir, &parent)?, name, AtFlags::SYMLINK_NOFOLLOW)?),
        _ => Ok(rustix::fs::fstat(open_dir_in(dir, path)?)?),
    }
}

/// Whether this is said of a file that another step took away, or put something else in its place.
fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

/// Returns the files below `dir` that can not carry an attribute: path, device, inode number.
fn special(dir: &Path) -> Result<Vec<(TreePath, u64, u64)>, StoreError> {
    let mut found = Vec::new();
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        match special_in(dir, &path, &mut todo, &mut found) {
            Err(error) if !is_gone(&error) => {
                return Err(StoreError::io("read", &dir.join(path.as_os_path()), error));
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Adds what is in the folder `path` of `dir`: folders to `todo`, files as of [`special`] to `found`.
fn special_in(
    dir: &Path,
    path: &TreePath,
    todo: &mut Vec<TreePath>,
    found: &mut Vec<(TreePath, u64, u64)>,
) -> io::Result<()> {
    let mut entries = Dir::new(open_dir_in(dir, path)?)?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let may_be_special = matches!(entry.file_type(), FileType::Symlink | FileType::Fifo | FileType::Unknown);
        if matches!(name.to_bytes(), b"." | b"..") || !may_be_special && entry.file_type() != FileType::Directory {
            continue;
        }
        let child = path.child(name.to_bytes());
        if entry.file_type() == FileType::Directory {
            todo.push(child);
            continue;
        }
        let stat = match statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => todo.push(child),
            FileType::Symlink | FileType::Fifo => found.push((child, stat.st_dev, stat.st_ino)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::{CacheMounts, CacheName, Claim};

    #[test]
    fn a_link_keeps_its_owner_until_it_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let fill = &mut |_: &Path| Ok::<_, StoreError>(());
        let cache = mounts
            .take(CacheName { realm: "realm", id: "a", variant: "" }, Claim::Shared, fill, &mut || Ok(()))
            .unwrap();
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

    #[test]
    fn a_link_in_place_of_a_folder_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, outside) = (dir.path().join("cache"), dir.path().join("outside"));
        fs::create_dir_all(cache.join("d")).unwrap();
        symlink("x", cache.join("d/l")).unwrap();
        let path = TreePath::new("d/l").unwrap();
        note_owners(&cache, [(&path, 5, 6)].into_iter()).unwrap();
        assert_eq!(read(&cache).len(), 1);
        // It is the same file, by the same name.
        fs::rename(cache.join("d"), &outside).unwrap();
        symlink("../outside", cache.join("d")).unwrap();
        assert_eq!(read(&cache), []);
        assert!(note_owners(&cache, [(&path, 5, 6)].into_iter()).is_err());
    }

    #[test]
    fn what_another_step_takes_away_meanwhile_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, outside) = (dir.path().join("cache"), dir.path().join("outside"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(cache.join("stays")).unwrap();
        symlink("x", outside.join("secret")).unwrap();
        symlink("x", cache.join("stays/l")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        let deep = cache.join(format!("t/{number}/a"));
                        fs::create_dir_all(&deep).unwrap();
                        symlink("x", deep.join("l")).unwrap();
                    }
                    fs::remove_dir_all(cache.join("t")).unwrap();
                    for turn in 0..20 {
                        let swapped = cache.join("swapped");
                        match turn % 2 {
                            0 => fs::create_dir(&swapped).and_then(|()| fs::remove_dir(&swapped)),
                            _ => symlink("../outside", &swapped).and_then(|()| fs::remove_file(&swapped)),
                        }
                        .unwrap();
                    }
                }
            });
            let mut problem = None;
            for _ in 0..500 {
                match special(&cache) {
                    Ok(found) => {
                        let names: Vec<String> = found.iter().map(|(path, ..)| path.to_string()).collect();
                        if !names.contains(&"stays/l".to_owned()) || names.iter().any(|name| name.contains("secret")) {
                            problem = Some(names.join(" "));
                        }
                    }
                    Err(error) => problem = Some(format!("{error:?}")),
                }
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(problem, None);
        });
    }
}
