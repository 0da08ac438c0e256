//! Content on disk: blobs, images, layers, snapshots and the cache. `docs/store.md` is the norm for what lies where.
//!
//! This room mounts nothing, enters no namespace and makes no archive. Many processes use one store at the same
//! time: each holds a shared lock as long as its [`Store`] lives; [`Store::collect`] takes it alone.

mod active;
mod arrivals;
mod blob;
mod cache;
mod cache_mounts;
mod cache_owners;
mod error;
mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod gc;
mod image;
mod index;
mod layers;
mod layout;
mod lock;
mod origins;
mod partial;
mod pending;
mod prune;
mod remote;
mod stamp;
mod uploads;
mod usage;
mod vetted;
mod view;
mod workplace;
mod workshop;

pub use active::Active;
pub use arrivals::{Arrivals, Arriving};
pub use blob::{BlobWriter, is_sound};
pub use cache::CachedStep;
pub use cache_mounts::{CacheInfo, CacheMount, CacheMounts, CacheName, Claim};
pub use cache_owners::{CacheOwner, note_owners};
pub use error::StoreError;
pub(crate) use error::is_full;
pub use gc::Collected;
pub use image::{Image, ImageLayer, describe};
pub use index::{Index, LayerId};
pub use layers::Packed;
pub use layout::{Layout, TaggedImage, index_json, reference_name};
pub use origins::Turn;
pub use partial::PartialBlob;
pub use prune::{Act, Keep, LabelIs, PruneOptions};
pub use remote::RemoteSteps;
pub use uploads::UploadRecord;
pub use usage::{Usage, Used};
pub use view::{View, ViewLayer};
pub(crate) use view::{open_dir_in, open_in};
pub use workplace::Workplace;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use lock::Lock;

/// Tells ext4 that the folders in `dir` have nothing to do with each other (`chattr +T`), so that it makes each in another
/// part of the disk. Where it has no journal, all that was removed in one part within the last minutes is passed over inode by
/// inode for each new file: after a large removal, anybody's, thousands of files would take many times as long. Other file systems
/// do not know it.
fn spread(dir: &Path) {
    let Ok(dir) = fs::File::open(dir) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir) {
        let _ = rustix::fs::ioctl_setflags(&dir, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// The folders of a layer's files, each with its realm.
type Folders = Vec<(String, Arc<Path>)>;

/// A store: a folder, locked against being collected as long as this value lives.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Shared, as long as the value lives.
    lock: Option<Lock>,
    boot: OnceLock<String>,
    /// What is known of earlier boots, once that was asked.
    synced: Mutex<Option<stamp::Synced>>,
    whiteouts: OnceLock<bool>,
    /// Indexes that were read already.
    loaded: Mutex<HashMap<LayerId, Arc<Index>>>,
    /// Layers that were found whole.
    whole: Mutex<HashMap<LayerId, Folders>>,
    /// Where layers are made, once one is.
    workshop: Mutex<Option<Arc<workshop::Workshop>>>,
    /// Blobs that have no name yet.
    pending: Arc<pending::Pending>,
}

impl Store {
    /// Opens the store in the folder `root`, and makes it where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be made, written or locked.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for dir in ["oci/blobs/sha256", "layers", "snapshots", "cache/steps", "cache/images", "tmp"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(|source| StoreError::io("create", &path, source))?;
        }
        // A setuid program of an image belongs to the user of the store on disk: nobody else may come at it.
        for dir in ["snapshots", "tmp"] {
            let path = root.join(dir);
            let meta = fs::metadata(&path).map_err(|source| StoreError::io("stat", &path, source))?;
            if meta.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                    .map_err(|source| StoreError::io("chmod", &path, source))?;
                if dir == "tmp" {
                    spread(&path);
                }
            }
        }
        let mut store = Store::unlocked(root);
        store.lock = Some(Lock::shared(&root.join("lock"))?);
        store.index_layout().create()?;
        Ok(store)
    }

    /// Opens the store in the folder `root` to look at it: nothing is made or written, so it may lie on a file system that is
    /// read-only, or belong to another user. A store that is not there yet has no images.
    ///
    /// Where even the lock cannot be opened, there is none; then a prune by the owner can take away what is being read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the lock fails.
    pub fn open_read(root: &Path) -> Result<Self, StoreError> {
        let mut store = Store::unlocked(root);
        store.lock = Lock::shared_where_possible(&root.join("lock"))?;
        Ok(store)
    }

    /// A store in which the caller is alone already.
    fn unlocked(root: &Path) -> Self {
        Store {
            root: root.to_path_buf(),
            lock: None,
            boot: OnceLock::new(),
            synced: Mutex::default(),
            whiteouts: OnceLock::new(),
            loaded: Mutex::default(),
            whole: Mutex::default(),
            workshop: Mutex::default(),
            pending: Arc::default(),
        }
    }

    /// Returns the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of the OCI layout in the store.
    pub fn layout(&self) -> PathBuf {
        self.root.join("oci")
    }

    /// Returns the folder for things that are being made. It lies on the same file system as all else in the store, so
    /// that a rename out of it works. Whoever makes something in it holds a lock (flock(2)) on it.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Replaces the file at `path`: a reader sees the old bytes or the new ones. Its folder is made where it is missing.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let fail = |source| StoreError::io("write", path, source);
        if let Some(workshop) = self.open_workshop() {
            return workshop.write(path, bytes).map_err(fail);
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|source| StoreError::io("create", dir, source))?;
        }
        let mut file = tempfile::NamedTempFile::new_in(self.tmp()).map_err(fail)?;
        // So that nobody takes it for what a killed process left. Who just looks has the lock for a moment.
        file.as_file().lock().map_err(fail)?;
        file.write_all(bytes).map_err(fail)?;
        file.persist(path).map_err(|error| fail(error.error))?;
        Ok(())
    }

    fn write_json<T: serde::Serialize>(&self, path: &Path, value: &T) -> Result<(), StoreError> {
        self.write_file(path, &serde_json::to_vec(value).expect("records always serialise"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_what_could_go_is_not_in_the_way_of_who_writes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for _ in 0..1000 {
                    drop(store.blob_writer().unwrap());
                    store.write_file(&dir.path().join("file"), b"text").unwrap();
                }
            });
            while !writing.is_finished() {
                gc::files(&store.tmp(), 1).iter().for_each(|file| _ = gc::in_use(file));
            }
        });
    }

    #[test]
    fn layers_that_are_being_made_are_spread_over_the_disk() {
        const EXT4: i64 = 0xef53;
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(dir.path()).unwrap();
        if rustix::fs::statfs(dir.path()).unwrap().f_type as i64 != EXT4 {
            eprintln!("skipped: only ext4 spreads folders when it is told to");
            return;
        }
        let flags = rustix::fs::ioctl_getflags(fs::File::open(store.tmp()).unwrap()).unwrap();
        assert!(flags.contains(rustix::fs::IFlags::TOPDIR));
    }
}
