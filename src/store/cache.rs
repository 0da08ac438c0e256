use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, read_json};
use super::{CacheMounts, LayerId, Store, StoreError};
use crate::oci::Digest;

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
    /// The configuration that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Digest>,
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
        touch(&file);
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
        let file = self.made_file(key);
        let record: MadeRecord = read_json(&file)?;
        if !self.is_whole(&record.stamp) {
            return None;
        }
        touch(&file);
        Some(record.made)
    }

    /// Records when the image with the key `key` was made first, in seconds since 1970, and the configuration that it has then.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_made(&self, key: &str, made: i64, config: &Digest) -> Result<(), StoreError> {
        let file = self.made_file(key);
        let record = MadeRecord { made, config: Some(*config), stamp: Stamp::now() };
        let is_known = read_json(&file).is_some_and(|known: MadeRecord| {
            (known.made, known.config) == (made, record.config) && self.is_whole(&known.stamp)
        });
        if is_known { Ok(()) } else { self.write_json(&file, &record) }
    }

    /// Returns the configuration of the image of which the file at `path` says when it was made.
    pub(super) fn config_made(&self, path: &Path) -> Option<Digest> {
        if path.parent() != Some(&self.made_dir()) {
            return None;
        }
        read_json::<MadeRecord>(path)?.config
    }

    fn made_dir(&self) -> PathBuf {
        self.root().join("cache").join("images")
    }

    fn made_file(&self, key: &str) -> PathBuf {
        self.made_dir().join(format!("{key}.json"))
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

/// Notes that the file is used now: by its time prune chooses. A store that is only read stays as it is.
pub(super) fn touch(file: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, file, &times, rustix::fs::AtFlags::empty());
}
