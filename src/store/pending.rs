use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blob::{Temp, is_sound, open_regular};
use super::{Store, StoreError};
use crate::oci::Digest;

/// A blob of so many bytes does not wait: to write it takes longer than to wait for the disk, and can be done beside the next step.
pub(super) const LONG: u64 = 4 << 20;

/// Blobs of this process that have no name yet, because they may not survive a power cut: whoever finds a name in the store
/// takes the content for whole. To wait for the disk for each of them would hold up all who write to the same file system.
#[derive(Debug, Default)]
pub(super) struct Pending {
    blobs: Mutex<HashMap<Digest, PendingBlob>>,
}

#[derive(Debug)]
struct PendingBlob {
    temp: Temp,
    /// Its lock says that the file belongs to somebody.
    file: File,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, PendingBlob>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the blob `digest`, whose content is all in `file`.
    pub(super) fn add(&self, digest: Digest, temp: Temp, file: File) {
        self.lock().entry(digest).or_insert(PendingBlob { temp, file });
    }

    /// Returns the length in bytes of the blob `digest`, if it is here.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.lock().get(digest).and_then(|blob| Some(blob.file.metadata().ok()?.len()))
    }

    pub(super) fn is_sound(&self, digest: &Digest, size: u64) -> bool {
        self.lock().get(digest).is_some_and(|blob| is_sound(blob.temp.path(), digest, size))
    }

    /// Opens the blob `digest` for reading, if it is here.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        match self.lock().get(digest) {
            Some(blob) => open_regular(blob.temp.path()),
            None => Ok(None),
        }
    }

    /// Returns which are here now.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.lock().keys().copied().collect()
    }

    /// Gives each of `digests` its name in the folder `blobs`, after `settle` has seen to it that its content survives.
    fn name_all(
        &self,
        digests: &[Digest],
        blobs: &Path,
        settle: impl Fn(&File) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut all = self.lock();
        for digest in digests {
            let Some(blob) = all.get(digest) else { continue };
            let path = blob.temp.path();
            settle(&blob.file).map_err(|source| StoreError::io("sync", path, source))?;
            let name = blobs.join(digest.hex());
            fs::rename(path, &name).map_err(|source| StoreError::io("rename", &name, source))?;
            all.remove(digest);
        }
        Ok(())
    }
}

impl Store {
    /// Gives the blobs that wait for it their names, each when it is on disk: for a build that ends without a [`sync`](Store::sync).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn settle(&self) -> Result<(), StoreError> {
        self.pending.name_all(&self.pending.digests(), &self.blobs(), File::sync_data)
    }

    /// Gives these blobs their names, which are on disk: they waited before all was written there.
    pub(super) fn name_blobs(&self, digests: &[Digest]) -> Result<(), StoreError> {
        self.pending.name_all(digests, &self.blobs(), |_| Ok(()))
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("oci/blobs/sha256")
    }

    pub(super) fn pending(&self) -> Arc<Pending> {
        Arc::clone(&self.pending)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn later(store: &Store, bytes: &[u8]) -> Digest {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish_later().unwrap().0
    }

    #[test]
    fn a_blob_can_be_read_before_it_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = later(&store, b"hello");
        assert!(!store.blob_path(&digest).exists());
        assert_eq!((store.blob_size(&digest), store.blob_is_sound(&digest, 5)), (Some(5), true));
        assert_eq!(store.read_blob(&digest, 10).unwrap(), b"hello");
        // The same once more changes nothing.
        assert_eq!(later(&store, b"hello"), digest);
        // Another process does not see it.
        assert!(!Store::open(dir.path()).unwrap().has_blob(&digest));
        store.sync().unwrap();
        assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"hello");
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_blob_that_is_just_given_its_name_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let latest = Mutex::new(later(&store, b"first"));
        std::thread::scope(|scope| {
            let naming = scope.spawn(|| {
                for number in 0..1000u32 {
                    *latest.lock().unwrap() = later(&store, &number.to_le_bytes());
                    store.name_blobs(&store.pending.digests()).unwrap();
                }
            });
            while !naming.is_finished() {
                let digest = *latest.lock().unwrap();
                assert!(store.has_blob(&digest));
            }
        });
    }

    #[test]
    fn a_sync_gives_no_name_to_what_came_while_it_waited_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let before = later(&store, b"before");
        let due = store.pending.digests();
        let after = later(&store, b"after");
        store.name_blobs(&due).unwrap();
        assert!(store.blob_path(&before).is_file() && !store.blob_path(&after).exists());
        store.sync().unwrap();
        assert!(store.blob_path(&after).is_file());
    }

    #[test]
    fn what_has_no_name_goes_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        later(&store, b"hello");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
        let digest = later(&store, b"hello");
        store.settle().unwrap();
        drop(store);
        assert!(Store::open(dir.path()).unwrap().has_blob(&digest));
    }
}
