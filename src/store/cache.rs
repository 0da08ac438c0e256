use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, read_json};
use super::{CacheMounts, LayerId, Store, StoreError};

/// The result of a step, as the cache has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedStep {
    /// The layer it made.
    pub layer: LayerId,
    /// When it was made: seconds since 1970. History and `created` of the image show it.
    pub created: i64,
    /// All cache keys that it had when it was made here; none where that was not recorded.
    pub keys: Vec<String>,
    /// The cache elsewhere that says so; `None` for what was made here. It counts in builds that name that cache.
    pub from: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    layer: LayerId,
    created: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    stamp: Stamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct MadeRecord {
    made: i64,
    stamp: Stamp,
}

impl Store {
    /// Returns what the step with the cache key `key` (64 hexadecimal digits) made, if that is known.
    pub fn cached(&self, key: &str) -> Option<CachedStep> {
        let file = self.cache_file(key);
        let record: CacheRecord = read_json(&file)?;
        if !self.is_whole(&record.stamp) {
            return None;
        }
        // The time of the file is when it was used last: by it prune chooses. A store that is only read stays as it is.
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &file, &times, rustix::fs::AtFlags::empty());
        Some(CachedStep { layer: record.layer, created: record.created, keys: record.keys, from: record.from })
    }

    /// Records what the step with the cache key `key` made.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember(&self, key: &str, step: &CachedStep) -> Result<(), StoreError> {
        // One key alone is that of the record itself.
        let keys = if step.keys.len() > 1 { step.keys.clone() } else { Vec::new() };
        let (layer, created, from) = (step.layer, step.created, step.from.clone());
        self.write_json(&self.cache_file(key), &CacheRecord { layer, created, keys, from, stamp: Stamp::now() })
    }

    /// Returns when the image with the key `key` was made first, if that is known: seconds since 1970.
    pub fn made(&self, key: &str) -> Option<i64> {
        let record: MadeRecord = read_json(&self.made_file(key))?;
        self.is_whole(&record.stamp).then_some(record.made)
    }

    /// Records when the image with the key `key` was made first: seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_made(&self, key: &str, made: i64) -> Result<(), StoreError> {
        self.write_json(&self.made_file(key), &MadeRecord { made, stamp: Stamp::now() })
    }

    fn made_file(&self, key: &str) -> PathBuf {
        self.root().join("cache").join("images").join(format!("{key}.json"))
    }

    /// Returns the folder for the stat caches of build contexts.
    pub fn context_cache(&self) -> PathBuf {
        self.root().join("cache").join("contexts")
    }

    /// Returns the cache mounts in the store.
    pub fn cache_mounts(&self) -> CacheMounts {
        CacheMounts::at(&self.root().join("cache").join("mounts"))
    }

    /// Returns the folder for what was fetched from elsewhere. It need not exist.
    pub fn fetch_cache(&self) -> PathBuf {
        self.root().join("cache").join("fetched")
    }

    pub(super) fn cache_file(&self, key: &str) -> PathBuf {
        self.root().join("cache").join("steps").join(key.get(..2).unwrap_or("xx")).join(format!("{key}.json"))
    }
}
