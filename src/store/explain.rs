use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stamp::read_json;
use super::{Store, StoreError};

/// Records of one place in a Dockerfile are kept at the most.
const MOST: usize = 8;

impl Store {
    /// Keeps `record` beside the record of the step with the cache key `key` (64 hexadecimal digits), for whoever wants to
    /// know why a later step at the same `place` (hexadecimal digits) is another one. Of one place the latest are kept.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_why(&self, place: &str, key: &str, record: &impl Serialize) -> Result<(), StoreError> {
        let dir = self.why_dir().join(place);
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        self.write_json(&dir.join(format!("{key}.json")), record)?;
        let mut all = self.why_files(place);
        if all.len() > MOST {
            all.sort();
            for (_, old) in &all[..all.len() - MOST] {
                let _ = fs::remove_file(old);
            }
        }
        Ok(())
    }

    /// Returns the records of `place`, latest first. What cannot be read is not there.
    pub fn why<T: DeserializeOwned>(&self, place: &str) -> Vec<T> {
        let mut files = self.why_files(place);
        files.sort();
        files.iter().rev().filter_map(|(_, file)| read_json(file)).collect()
    }

    fn why_files(&self, place: &str) -> Vec<(SystemTime, PathBuf)> {
        let entries = fs::read_dir(self.why_dir().join(place)).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect()
    }

    /// Returns the folder of all that explains.
    pub(super) fn why_dir(&self) -> PathBuf {
        self.root().join("cache").join("why")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_place_the_latest_records_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for n in 0..MOST + 3 {
            store.remember_why("00", &format!("{n:064x}"), &n).unwrap();
            // The clock of a file system may be coarse.
            let file = fs::File::open(store.why_dir().join("00").join(format!("{n:064x}.json"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        let kept: Vec<usize> = store.why("00");
        assert_eq!(kept, (3..MOST + 3).rev().collect::<Vec<_>>());
        assert!(store.why::<usize>("01").is_empty());
    }
}
