use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// When something was written, on a clock that a restart of the machine resets.
///
/// Files of the cache are written without fsync(2), which would cost more than the steps they save. A kill loses
/// nothing then, but a power cut may leave such files empty. So each record says in which boot of the machine it
/// was written; in a later boot it counts only if the store was synced after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    boot: String,
    nanos: u64,
}

/// For each boot, the time up to which all is on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Synced(BTreeMap<String, u64>);

/// Boots that are remembered at the most; what was written in earlier ones is made anew.
const MAX_BOOTS: usize = 32;

impl Stamp {
    pub(super) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let nanos = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        Stamp { boot: boot_id(), nanos }
    }
}

/// The kernel's random name of this boot; empty where it is hidden, and then nothing is trusted that an earlier process wrote.
fn boot_id() -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().chars().take(64).collect()
    };
    BOOT.get_or_init(read).clone()
}

impl Store {
    /// Returns whether what was written at `stamp` is surely whole.
    pub(super) fn is_whole(&self, stamp: &Stamp) -> bool {
        (!stamp.boot.is_empty() && stamp.boot == self.boot())
            || self.synced().0.get(&stamp.boot).is_some_and(|&until| stamp.nanos <= until)
    }

    /// Makes all that was written to the store so far survive a power cut. Blobs that waited for that get their names.
    ///
    /// # Errors
    /// [`StoreError`] where the file system reports an error, for example that it is full.
    pub fn sync(&self) -> Result<(), StoreError> {
        let before = Stamp::now();
        // What another thread adds meanwhile may be on disk or not.
        let due = self.pending.digests();
        let root = File::open(self.root()).map_err(|source| StoreError::io("open", self.root(), source))?;
        rustix::fs::syncfs(&root).map_err(|errno| StoreError::io("sync", self.root(), errno.into()))?;
        self.name_blobs(&due)?;
        if before.boot.is_empty() {
            // The next boot could not tell its own time from that of this one.
            return Ok(());
        }
        let mut synced = self.synced();
        let until = synced.0.entry(before.boot).or_default();
        *until = before.nanos.max(*until);
        while synced.0.len() > MAX_BOOTS {
            synced.0.pop_first();
        }
        let json = serde_json::to_vec(&synced).expect("a map of strings and numbers always serialises");
        self.write_file(&self.root().join("synced.json"), &json)
    }

    fn boot(&self) -> &str {
        self.boot.get_or_init(boot_id)
    }

    fn synced(&self) -> Synced {
        read_json(&self.root().join("synced.json")).unwrap_or_default()
    }
}

/// Returns the value in the JSON file at `path`; `None` where it is missing or damaged, which for all files read in
/// this way means that the thing is made anew.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
