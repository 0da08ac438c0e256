use std::fs;

use super::lock::Lock;
use super::{CachedStep, Index, LayerId, Packed, Store, StoreError};

/// Results of steps that lie elsewhere: caches in registries and folders.
///
/// A layer is brought in two parts, when each is needed: what is in it (its index), and the blob with its files. What cannot be had is
/// said to the user by who implements this, once, and is a miss: a cache never breaks a build.
pub trait RemoteSteps: Sync {
    /// Returns what the step with the cache key `key` made, if that is known there.
    fn step(&self, key: &str) -> Option<CachedStep>;

    /// Returns when the image with the key `key` was made first, if that is known there: seconds since 1970.
    fn made(&self, key: &str) -> Option<i64>;

    /// Returns whether the index of `layer` is in the store now.
    fn bring_index(&self, layer: &LayerId) -> bool;

    /// Returns whether a blob that holds `layer` is in the store now.
    fn bring_blob(&self, layer: &LayerId) -> bool;

    /// Returns the blob that holds `layer`, packed in the way `variant`, where it can be made part of an image without being brought:
    /// who wants the image finds it where that goes.
    fn promised(&self, _layer: &LayerId, _variant: &str) -> Option<Packed> {
        None
    }
}

impl Store {
    /// Puts the index of a layer that was built elsewhere into the store: `bytes` are those of [`Store::index_bytes`]. Where they are not
    /// just those of the layer `id`, nothing is put in, and the reason is returned.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn put_index(&self, id: &LayerId, bytes: &[u8]) -> Result<Result<(), String>, StoreError> {
        if let Err(reason) = Index::vetted(bytes, id) {
            return Ok(Err(reason));
        }
        let dir = self.layer_dir(id);
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        let _turn = Lock::of_folder(&dir)?;
        if self.index(id)?.is_none() {
            self.write_file(&dir.join("index"), bytes)?;
        }
        Ok(Ok(()))
    }

    /// Returns the bytes of the index of the layer `id`, as docs/store.md has them; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn index_bytes(&self, id: &LayerId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.layer_dir(id).join("index");
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }
}
