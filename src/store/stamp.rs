use std::fs::{self, File};
use std::path::Path;
use std::sync::{OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// For each boot, the time up to which all is on disk; the one that was synced last comes last.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Synced(Map<String, Value>);

/// Boots that are remembered at the most; what was written in earlier ones is made anew. Where each job of a CI system is a
/// boot of its own, this is for how many jobs a step is kept that all of them use.
const MAX_BOOTS: usize = 1024;

impl Synced {
    fn until(&self, boot: &str) -> Option<u64> {
        self.0.get(boot)?.as_u64()
    }

    /// Adds what is known now. The boot that was not synced for the longest time is forgotten first.
    fn note(&mut self, stamp: Stamp) {
        let known = self.until(&stamp.boot).unwrap_or_default();
        self.0.shift_remove(&stamp.boot);
        self.0.insert(stamp.boot, known.max(stamp.nanos).into());
        let surplus = self.0.len().saturating_sub(MAX_BOOTS);
        let forgotten: Vec<String> = self.0.keys().take(surplus).cloned().collect();
        for boot in forgotten {
            self.0.shift_remove(&boot);
        }
    }
}

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
            || self.synced_until(&stamp.boot).is_some_and(|until| stamp.nanos <= until)
    }

    /// Returns the time up to which all that was written in an earlier boot is on disk. No process of that boot adds to it any
    /// more, so it is enough to read the file once.
    fn synced_until(&self, boot: &str) -> Option<u64> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.get_or_insert_with(|| self.read_synced()).until(boot)
    }

    /// Makes all that was written to the store so far survive a power cut. Blobs that waited for that get their names.
    ///
    /// # Errors
    /// [`StoreError`] where the file system reports an error, for example that it is full.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_at(Stamp::now())
    }

    /// Does it at the time `before`.
    fn sync_at(&self, before: Stamp) -> Result<(), StoreError> {
        // What another thread adds meanwhile may be on disk or not.
        let due = self.pending.digests();
        let root = File::open(self.root()).map_err(|source| StoreError::io("open", self.root(), source))?;
        rustix::fs::syncfs(&root).map_err(|errno| StoreError::io("sync", self.root(), errno.into()))?;
        self.name_blobs(&due)?;
        if before.boot.is_empty() {
            // The next boot could not tell its own time from that of this one.
            return Ok(());
        }
        let mut known = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have written it meanwhile.
        let mut synced = self.read_synced();
        synced.note(before);
        let json = serde_json::to_vec(&synced).expect("a map of strings and numbers always serialises");
        *known = Some(synced);
        self.write_file(&self.root().join("synced.json"), &json)
    }

    fn boot(&self) -> &str {
        self.boot.get_or_init(boot_id)
    }

    fn read_synced(&self) -> Synced {
        read_json(&self.root().join("synced.json")).unwrap_or_default()
    }
}

/// Returns the value in the JSON file at `path`; `None` where it is missing or damaged, which for all files read in
/// this way means that the thing is made anew.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::store;
    use super::*;

    fn stamp(boot: &str, nanos: u64) -> Stamp {
        Stamp { boot: boot.into(), nanos }
    }

    /// Boot ids are random: what is kept must not depend on how they sort.
    #[test]
    fn the_boots_that_are_remembered_are_those_that_were_synced_last() {
        let (dir, store) = store();
        let name = |at: usize| format!("{:04x}", 0xffff - at);
        let boots: Map<String, Value> = (0..MAX_BOOTS + 8).map(|at| (name(at), 5.into())).collect();
        fs::write(store.root().join("synced.json"), serde_json::to_vec(&boots).unwrap()).unwrap();
        store.sync_at(stamp("0001", 7)).unwrap();
        let later = Store::open(&dir.path().join("store")).unwrap();
        for store in [&store, &later] {
            assert!(store.is_whole(&stamp("0001", 7)) && !store.is_whole(&stamp("0001", 8)));
            assert!((0..9).all(|at| !store.is_whole(&stamp(&name(at), 5))));
            assert!((9..MAX_BOOTS + 8).all(|at| store.is_whole(&stamp(&name(at), 5))));
        }
        // To be synced again is to be younger.
        later.sync_at(stamp(&name(9), 2)).unwrap();
        later.sync_at(stamp("0000", 1)).unwrap();
        assert!(later.is_whole(&stamp(&name(9), 5)) && !later.is_whole(&stamp(&name(10), 5)));
    }

    #[test]
    fn what_was_synced_by_somebody_else_is_kept_and_a_damaged_file_says_nothing() {
        let (_dir, store) = store();
        let file = store.root().join("synced.json");
        fs::write(&file, r#"{"b": 12, "a": 3, "c": "soon"}"#).unwrap();
        assert!(store.is_whole(&stamp("b", 12)) && store.is_whole(&stamp("a", 3)) && !store.is_whole(&stamp("c", 0)));
        fs::write(&file, r#"{"b": 12, "a": 3, "d": 4}"#).unwrap();
        store.sync_at(stamp("e", 1)).unwrap();
        assert!(["b", "a", "d", "e"].iter().all(|boot| store.is_whole(&stamp(boot, 1))));
        fs::write(&file, "{").unwrap();
        store.sync_at(stamp("f", 1)).unwrap();
        assert!(store.is_whole(&stamp("f", 1)) && !store.is_whole(&stamp("b", 1)));
    }
}
