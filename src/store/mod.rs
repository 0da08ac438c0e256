//! Content on disk: blobs, images, layers, snapshots and the cache. `docs/store.md` is the norm for what lies where.
//!
//! This room mounts nothing, enters no namespace and makes no archive. Many processes use one store at the same
//! time: each holds a shared lock as long as its [`Store`] lives; [`gc`](Store::collect) takes it alone.

mod error;
mod lock;

pub use error::StoreError;

use std::fs;
use std::path::{Path, PathBuf};

use lock::Lock;

/// A store: a folder, locked against being collected as long as this value lives.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    lock: Lock,
}

impl Store {
    /// Opens the store in the folder `root`, and makes it where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be made, written or locked.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for dir in ["oci/blobs/sha256", "layers", "snapshots", "cache", "tmp"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(|source| StoreError::io("create", &path, source))?;
        }
        let lock = Lock::shared(&root.join("lock"))?;
        Ok(Store { root: root.to_path_buf(), lock })
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
    /// that a rename out of it works.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
