//! Locks between processes that fetch into one folder.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::FetchError;
use crate::net::Agent;

/// Takes the lock at `path`, and waits for it as long as nobody interrupts.
pub(super) fn lock(path: &Path, agent: &Agent) -> Result<File, FetchError> {
    let fail = |call, source| FetchError::Io { call, path: path.to_path_buf(), source };
    let file = File::options().create(true).append(true).open(path).map_err(|source| fail("create", source))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => agent.wait(Duration::from_millis(50))?,
            Err(TryLockError::Error(source)) => return Err(fail("lock", source)),
        }
    }
}
