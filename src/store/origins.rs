use std::fs;
use std::path::PathBuf;

use super::lock::Lock;
use super::stamp::read_json;
use super::{Store, StoreError};
use crate::oci::Digest;

/// The most repositories that are remembered of one manifest.
const MOST: usize = 16;

/// A turn at something that only one process may do at a time; it ends when the value is dropped.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code)] Lock);

impl Store {
    /// Waits for the turn at changing lists of images: a read, a change and a new name, which must not mix.
    ///
    /// # Errors
    /// [`StoreError`] where the lock cannot be made.
    pub fn turn_at_lists(&self) -> Result<Turn, StoreError> {
        Ok(Turn(Lock::wait_alone(&self.root().join("lists.lock"))?))
    }

    /// Records that the manifest `digest` with all its blobs is in `repository` (host and name), so that it can be had from there,
    /// and mounted.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_origin(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        let path = self.origin_file(digest);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|source| StoreError::io("create", dir, source))?;
        }
        let mut known = self.origins(digest);
        known.retain(|other| other != repository);
        known.insert(0, repository.to_owned());
        known.truncate(MOST);
        self.write_json(&path, &known)
    }

    /// Returns the repositories that have the manifest `digest` with all its blobs, the latest first, as far as is known.
    pub fn origins(&self, digest: &Digest) -> Vec<String> {
        read_json(&self.origin_file(digest)).unwrap_or_default()
    }

    fn origin_file(&self, digest: &Digest) -> PathBuf {
        self.root().join("origins").join(format!("{}.json", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_origin_comes_first() {
        let (_dir, store) = super::super::fixture::store();
        let digest = Digest::of(b"manifest");
        assert_eq!(store.origins(&digest), [""; 0]);
        for name in ["a.example/x", "b.example/y", "a.example/x"] {
            store.remember_origin(&digest, name).unwrap();
        }
        assert_eq!(store.origins(&digest), ["a.example/x", "b.example/y"]);
    }
}
