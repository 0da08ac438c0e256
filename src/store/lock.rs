use std::fs::{File, OpenOptions};
use std::path::Path;

use super::StoreError;

/// A lock on a file (flock(2)), held until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Waits for a lock that others may share.
    pub(super) fn shared(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock_shared().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Lock(file))
    }

    /// Waits for a lock that nobody shares.
    pub(super) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Lock(file))
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| StoreError::io("open", path, source))
}
