use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
use std::path::Path;
use std::time::{Duration, Instant};

use super::StoreError;

/// A lock on a file or a folder (flock(2)), held until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that another thread is starting has it open too, until it becomes another
        // program, and so long it would hold the lock.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Returns the lock that is on `file` already.
    pub(super) fn had(file: File) -> Self {
        Lock(file)
    }

    /// Takes a lock that nobody shares, if it is free.
    pub(super) fn alone_at_once(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        file.try_lock().is_ok().then_some(Lock(file))
    }

    /// Returns the file that has the lock.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Waits for a lock that others may share.
    pub(super) fn shared(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock_shared().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Lock(file))
    }

    /// As [`Lock::shared`], without writing anything; `None` where the file is not there or must not be opened.
    pub(super) fn shared_where_possible(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem) => return Ok(None),
            Err(source) => return Err(StoreError::io("open", path, source)),
        };
        file.lock_shared().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Some(Lock(file)))
    }

    /// Waits for a lock that nobody shares; where it is not free at once, calls `on_wait` and tries again for `longest`.
    pub(super) fn exclusive(path: &Path, longest: Duration, on_wait: &dyn Fn()) -> Result<Self, StoreError> {
        let file = open(path)?;
        let mut begin = None;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", path, source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let begin = begin.get_or_insert_with(|| {
                on_wait();
                Instant::now()
            });
            if begin.elapsed() > longest {
                return Err(StoreError::Busy { path: path.to_path_buf() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a lock that nobody shares, as long as it takes.
    pub(super) fn wait_alone(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Lock(file))
    }

    /// Waits for a lock on a folder that nobody shares, as long as it takes.
    pub(super) fn of_folder(path: &Path) -> Result<Self, StoreError> {
        let folder = File::open(path).map_err(|source| StoreError::io("open", path, source))?;
        folder.lock().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Lock(folder))
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
