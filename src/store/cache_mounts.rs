//! The folders of `RUN --mount=type=cache`: what they hold stays from build to build, and is in no layer and no key.
//!
//! Normative for what lies where: docs/store.md. A folder is used under a lock (flock(2)), so builds of several processes
//! share them, wait for each other, or get one each, as the Dockerfile says.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::active::{make_dir, remove_all};
use super::cache_owners::move_list;
use super::lock::Lock;

/// How often a lock that somebody holds is tried.
const PAUSE: Duration = Duration::from_millis(20);
/// How often who comes in tries, before that is waiting: a millisecond each.
const KNOCKS: u32 = 50;
/// Folders of one id at the most, for those who want one of their own.
const MOST: usize = 256;
/// What says whose a folder is.
const LABEL: &str = "id.json";
/// Where a cache is while it is removed.
const GONE: &str = ".gone";
/// Where the files of a cache are while others take their place.
const REPLACED: &str = "replaced";

/// All cache mounts below one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMounts {
    root: PathBuf,
}

/// Which cache mount is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheName<'a> {
    /// Which ways to run a step use it: a realm (docs/store.md).
    pub realm: &'a str,
    /// Its id.
    pub id: &'a str,
    /// What it begins with; "" for an empty folder of root's. Those of one id that begin with something else are others.
    pub variant: &'a str,
}

/// How a cache mount is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// With others at the same time.
    Shared,
    /// Alone; who comes second waits.
    Alone,
    /// Alone; who comes second gets another folder.
    Own,
}

/// A cache mount in use, until it is dropped.
#[derive(Debug)]
pub struct CacheMount {
    dir: PathBuf,
    /// A program that a step starts must not keep it when it is given up.
    #[allow(dead_code)]
    lock: Lock,
}

/// What is known of the cache mounts of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheInfo {
    /// Its id.
    pub id: String,
    /// What it begins with; "" for an empty folder of root's.
    pub variant: String,
    /// Which ways to run a step use it: a realm (docs/store.md).
    pub realm: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was used last: seconds since 1970.
    pub used: i64,
    /// Whether somebody uses it now.
    pub busy: bool,
    /// Its folder.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// What a cache mount says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    id: String,
    #[serde(default)]
    variant: String,
}

impl CacheMount {
    /// Returns the folder with the files. While nobody else has it, it may be moved away and back.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl CacheMounts {
    /// Returns those below the folder `root`, which need not exist yet.
    pub fn at(root: &Path) -> Self {
        CacheMounts { root: root.to_path_buf() }
    }

    /// Returns the folder of them all.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, CacheName { realm, id, variant }: CacheName<'_>) -> PathBuf {
        // An id is any text, and may look like a path.
        let mut hash = Sha256::new_with_prefix(id.as_bytes());
        if !variant.is_empty() {
            // No text has this byte.
            hash.update(b"\xff");
            hash.update(variant.as_bytes());
        }
        let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.root.join(realm).join(name)
    }

    /// Returns a folder of the cache mount `name`. A new one is filled by `fill`, which is given an empty folder. Where others have it,
    /// `wait` is called again and again while it cannot be had; an error of it ends the waiting.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be made or locked; what `fill` and `wait` return.
    pub fn take<E: From<StoreError>>(
        &self,
        name: CacheName<'_>,
        claim: Claim,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
        wait: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<CacheMount, E> {
        let (dir, realm) = (self.folder(name), name.realm);
        let (mut number, mut knocks) = (0, 0);
        let mut come_in = || -> Result<Option<Lock>, StoreError> {
            // While it is open nobody removes a cache, so locks that are made here are locks of what is there. Who just looks
            // holds it for a moment.
            let _door = loop {
                let door = self.door(realm)?;
                match had(door.try_lock_shared(), &self.door_path(realm))? {
                    true => break Lock::had(door),
                    false if knocks == KNOCKS => return Ok(None),
                    false => knocks += 1,
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
            private(&self.root.join(realm))?;
            loop {
                let path = dir.join(format!("{number}.lock"));
                let file = open(&path)?;
                let tried = match claim {
                    Claim::Shared => file.try_lock_shared(),
                    Claim::Alone | Claim::Own => file.try_lock(),
                };
                match had(tried, &path)? {
                    true => return Ok(Some(Lock::had(file))),
                    false if claim == Claim::Own && number + 1 < MOST => number += 1,
                    false => return Ok(None),
                }
            }
        };
        let lock = loop {
            match come_in()? {
                Some(lock) => break lock,
                None => wait()?,
            }
            std::thread::sleep(PAUSE);
        };
        let data = dir.join(number.to_string());
        self.make(&dir, &data, name, fill)?;
        super::cache::touch(&dir.join(LABEL));
        Ok(CacheMount { dir: data, lock })
    }

    /// Makes what `fill` puts into an empty folder the cache mount `name`, in place of what was there. Waits as
    /// [`take`](Self::take) does.
    ///
    /// # Errors
    /// As [`take`](Self::take); then what was there stays.
    pub fn put<E: From<StoreError>>(
        &self,
        name: CacheName<'_>,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
        wait: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let mount = self.take(name, Claim::Alone, &mut |_| Ok(()), wait)?;
        let new = mount.dir.with_file_name("imported");
        remove_all(&new).map_err(|source| StoreError::io("remove", &new, source))?;
        make_dir(&new, 0o755)?;
        if let Err(error) = fill(&new) {
            let _ = remove_all(&new);
            return Err(error);
        }
        // Half of the old one must not be taken for a whole one: who is killed in between leaves none.
        let old = mount.dir.with_file_name(REPLACED);
        let remove_old = || remove_all(&old).map_err(|source| StoreError::io("remove", &old, source));
        remove_old()?;
        fs::rename(&mount.dir, &old).map_err(|source| StoreError::io("rename", &mount.dir, source))?;
        move_list(&new, &mount.dir)?;
        fs::rename(&new, &mount.dir).map_err(|source| StoreError::io("rename", &new, source))?;
        Ok(remove_old()?)
    }

    /// Gives the folder of a cache, which nobody may use, the name of those that are no caches any more. Returns where it is then.
    pub(super) fn out_of_sight(dir: &Path) -> PathBuf {
        let gone = dir.with_file_name(GONE);
        // What is in the way is left over.
        let moved = dir == gone || (remove_all(&gone).is_ok() && fs::rename(dir, &gone).is_ok());
        if moved { gone } else { dir.to_path_buf() }
    }

    /// Makes the folder `data` with what `fill` puts into it, and the label, if they are not there.
    fn make<E: From<StoreError>>(
        &self,
        dir: &Path,
        data: &Path,
        CacheName { id, variant, .. }: CacheName<'_>,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let label = dir.join(LABEL);
        let has_data = || fs::symlink_metadata(data).is_ok_and(|meta| meta.is_dir());
        if has_data() && label.is_file() {
            return Ok(());
        }
        // Those who share it come here at the same time.
        let path = dir.join("new.lock");
        let _alone = Lock::wait_alone(&path)?;
        if !label.is_file() {
            let text =
                serde_json::to_vec(&Label { id: id.into(), variant: variant.into() }).expect("text always serialises");
            let new = dir.join(".id");
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, &label))
                .map_err(|source| StoreError::io("write", &label, source))?;
        }
        if has_data() {
            return Ok(());
        }
        let new = dir.join("new");
        remove_all(&new).map_err(|source| StoreError::io("remove", &new, source))?;
        make_dir(&new, 0o755)?;
        fill(&new)?;
        move_list(&new, data)?;
        fs::rename(&new, data).map_err(|source| StoreError::io("rename", &new, source))?;
        Ok(())
    }

    /// Returns what there is, by id.
    pub fn list(&self) -> Vec<CacheInfo> {
        let mut found = Vec::new();
        for realm in folders(&self.root) {
            for dir in folders(&realm).into_iter().filter(|dir| !dir.ends_with(GONE)) {
                let label = dir.join(LABEL);
                let Some(Label { id, variant }) = super::stamp::read_json::<Label>(&label) else { continue };
                let used = fs::metadata(&label).and_then(|meta| meta.modified()).ok();
                let used = used.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
                let name = realm.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push(CacheInfo {
                    id,
                    variant,
                    realm: name.clone(),
                    bytes: super::gc::disk_usage(&dir),
                    used: used.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
                    busy: self.is_busy(&name, &dir),
                    dir,
                });
            }
        }
        found.sort_by(|a, b| (&a.id, &a.variant, &a.realm).cmp(&(&b.id, &b.variant, &b.realm)));
        found
    }

    /// Removes the cache mount `info` with all its folders. Returns false where somebody uses it: then it stays.
    ///
    /// # Errors
    /// [`StoreError`] where a file cannot be removed: outside of the user namespace in which it was made.
    pub fn remove(&self, info: &CacheInfo) -> Result<bool, StoreError> {
        let realm = info.dir.parent().unwrap_or(&self.root);
        let _door = Lock::wait_alone(&self.door_path(&info.realm))?;
        let Some(_locks) = locks(&info.dir) else { return Ok(false) };
        // Half of a cache must not be taken for one.
        let gone = realm.join(GONE);
        remove_all(&gone).map_err(|source| StoreError::io("remove", &gone, source))?;
        match fs::rename(&info.dir, &gone) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("rename", &info.dir, source));
            }
            _ => remove_all(&gone).map_err(|source| StoreError::io("remove", &gone, source))?,
        }
        Ok(true)
    }

    /// Returns whether somebody uses the cache mount in `dir`.
    fn is_busy(&self, realm: &str, dir: &Path) -> bool {
        // Who looks has its locks for a moment; nobody who comes must take that for use. A folder of somebody else has no door
        // that could be opened.
        let _door = Lock::wait_alone(&self.door_path(realm)).ok();
        locks(dir).is_none()
    }

    /// Returns what those hold shared who are about to lock a cache of `realm`, and who removes one alone.
    fn door(&self, realm: &str) -> Result<File, StoreError> {
        open(&self.door_path(realm))
    }

    fn door_path(&self, realm: &str) -> PathBuf {
        self.root.join(format!("{realm}.lock"))
    }
}

/// Takes all locks of a cache mount; `None` where somebody has one.
fn locks(dir: &Path) -> Option<Vec<Lock>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = entries.filter(|path| path.extension().is_some_and(|extension| extension == "lock"));
    paths.map(|path| Lock::alone_at_once(&path)).collect()
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// A setuid program in a cache belongs to the user on disk: nobody else may come at it.
fn private(dir: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|source| StoreError::io("chmod", dir, source))
}

/// Returns whether a lock of the file `path` was had.
fn had(tried: Result<(), TryLockError>, path: &Path) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path, source)),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    match options.open(path) {
        // The first of its folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| options.open(path))
            .map_err(|source| StoreError::io("open", path, source)),
        other => other.map_err(|source| StoreError::io("open", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(id: &'a str, variant: &'a str) -> CacheName<'a> {
        CacheName { realm: "realm", id, variant }
    }

    fn take(mounts: &CacheMounts, id: &str, claim: Claim) -> Result<CacheMount, StoreError> {
        let mut busy = || Err(StoreError::Busy { path: "busy".into() });
        let mut fill = |dir: &Path| {
            fs::write(dir.join("first"), "").expect("a file");
            Ok(())
        };
        mounts.take(named(id, ""), claim, &mut fill, &mut busy)
    }

    #[test]
    fn who_shares_waits_for_nobody_who_locks_waits_and_who_wants_one_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let first = take(&mounts, "a", Claim::Shared).unwrap();
        assert!(first.dir().join("first").is_file());
        fs::write(first.dir().join("kept"), "").unwrap();
        let second = take(&mounts, "a", Claim::Shared).unwrap();
        assert!(second.dir().join("kept").is_file());
        assert!(take(&mounts, "a", Claim::Alone).is_err());
        let own = take(&mounts, "a", Claim::Own).unwrap();
        assert!(!own.dir().join("kept").exists() && own.dir().join("first").is_file());
        assert!(take(&mounts, "../../a", Claim::Alone).unwrap().dir().starts_with(dir.path()));
        let busy: Vec<_> = mounts.list().into_iter().map(|info| (info.id, info.busy)).collect();
        assert_eq!(busy, [("../../a".to_owned(), false), ("a".to_owned(), true)]);
        assert!(!mounts.remove(&mounts.list()[1]).unwrap());
        drop((first, second, own));
        take(&mounts, "a", Claim::Alone).unwrap();
        assert!(mounts.remove(&mounts.list()[1]).unwrap());
        assert!(!take(&mounts, "a", Claim::Shared).unwrap().dir().join("kept").exists());
    }

    #[test]
    fn those_of_one_id_that_begin_with_something_else_are_others() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let mut taken = Vec::new();
        for (id, variant) in [("a", ""), ("a", "uid=1"), ("a", "uid=2"), ("auid=1", ""), ("", "uid=1")] {
            let mut busy = || Err(StoreError::Busy { path: "busy".into() });
            taken.push(mounts.take(named(id, variant), Claim::Alone, &mut |_| Ok(()), &mut busy).unwrap());
        }
        drop(taken);
        let listed: Vec<_> = mounts.list().into_iter().map(|info| (info.id, info.variant)).collect();
        let text = |id: &str, variant: &str| (id.to_owned(), variant.to_owned());
        let all = [text("", "uid=1"), text("a", ""), text("a", "uid=1"), text("a", "uid=2"), text("auid=1", "")];
        assert_eq!(listed, all);
        // Where it lay before there were variants.
        assert_eq!(mounts.list()[1].dir, dir.path().join("realm/ca978112ca1bbdcafac231b39a23dc4d"));
    }

    #[test]
    fn who_looks_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        // On a busy machine somebody may stand in the door for long.
        let take = |mounts: &CacheMounts, id, claim| {
            mounts.take::<StoreError>(named(id, ""), claim, &mut |_| Ok(()), &mut || Ok(()))
        };
        drop(take(&mounts, "a", Claim::Own).unwrap());
        drop(take(&mounts, "gone", Claim::Own).unwrap());
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                for _ in 0..3000 {
                    mounts.list();
                }
            });
            while !looking.is_finished() {
                assert_eq!(take(&mounts, "a", Claim::Own).unwrap().dir().file_name().unwrap(), "0");
                take(&mounts, "a", Claim::Alone).unwrap();
            }
        });
        std::thread::scope(|scope| {
            let all = mounts.list();
            let looking = scope.spawn(|| {
                for _ in 0..1000 {
                    mounts.list();
                }
            });
            let coming = scope.spawn(|| (0..1000).for_each(|_| drop(take(&mounts, "a", Claim::Shared).unwrap())));
            while !looking.is_finished() || !coming.is_finished() {
                assert!(mounts.remove(&all[1]).unwrap());
                take(&mounts, "gone", Claim::Alone).unwrap();
            }
        });
    }

    #[test]
    fn who_left_is_not_there_for_what_a_program_that_is_starting_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let mount = take(&mounts, "a", Claim::Own).unwrap();
        // As a child has it before it becomes another program.
        let copy = mount.lock.file().try_clone().unwrap();
        drop(mount);
        assert_eq!(take(&mounts, "a", Claim::Own).unwrap().dir().file_name().unwrap(), "0");
        assert!(mounts.remove(&mounts.list()[0]).unwrap());
        drop(copy);
    }

    #[test]
    fn what_is_being_removed_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        drop(take(&mounts, "a", Claim::Own).unwrap());
        let info = &mounts.list()[0];
        fs::rename(&info.dir, info.dir.with_file_name(GONE)).unwrap();
        assert_eq!(mounts.list(), []);
    }

    #[test]
    fn another_content_takes_the_place_of_the_old_one_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let put = |name: &str, good: bool| {
            let mut fill = |dir: &Path| {
                fs::write(dir.join(name), "").expect("a file");
                if good { Ok(()) } else { Err(StoreError::Busy { path: "told".into() }) }
            };
            mounts.put(named("a", ""), &mut fill, &mut || Ok(()))
        };
        let names = || {
            let mount = take(&mounts, "a", Claim::Alone).unwrap();
            let mut names: Vec<_> = fs::read_dir(mount.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["first"]);
        put("bad", false).unwrap_err();
        assert_eq!(names(), ["first"]);
        put("new", true).unwrap();
        assert_eq!(names(), ["new"]);
        // As a kill leaves it while the old one is removed, and while the names change.
        let folder = take(&mounts, "a", Claim::Alone).unwrap().dir().to_path_buf();
        let old = folder.with_file_name(REPLACED);
        fs::create_dir(&old).unwrap();
        fs::write(old.join("half"), "").unwrap();
        assert_eq!(names(), ["new"]);
        fs::remove_dir_all(&old).unwrap();
        fs::rename(&folder, &old).unwrap();
        assert_eq!(names(), ["first"]);
        put("newer", true).unwrap();
        assert_eq!(names(), ["newer"]);
        assert!(!old.exists());
    }

    #[test]
    fn those_who_come_and_go_at_the_same_time_have_a_whole_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::at(dir.path());
        let come = |claim| {
            let mut wait = || Ok::<(), StoreError>(());
            let mut fill = |dir: &Path| {
                fs::write(dir.join("first"), "").expect("a file");
                Ok(())
            };
            for _ in 0..50 {
                let mount = mounts.take(named("a", ""), claim, &mut fill, &mut wait).unwrap();
                assert!(mount.dir().join("first").is_file());
                assert_eq!(mounts.list().len(), 1);
                assert!(mount.dir().join("first").is_file());
            }
        };
        std::thread::scope(|scope| {
            let comers = [Claim::Shared, Claim::Shared, Claim::Own, Claim::Alone];
            let all: Vec<_> = comers.into_iter().map(|claim| scope.spawn(move || come(claim))).collect();
            while all.iter().any(|one| !one.is_finished()) {
                mounts.list().iter().for_each(|info| assert!(mounts.remove(info).is_ok()));
            }
        });
        let left = mounts.list();
        assert!(left.iter().all(|info| mounts.remove(info).unwrap()) && mounts.list().is_empty());
        assert_eq!(fs::read_dir(dir.path().join("realm")).unwrap().count(), 0);
    }
}
