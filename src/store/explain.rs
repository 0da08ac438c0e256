use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::{Act, Store, StoreError};

/// Records of one place in a Dockerfile are kept at the most.
const MOST: usize = 8;

/// Bytes that the file of a place may have before it is looked at whether there are too many records in it.
const LONG: u64 = 32 << 10;

/// A line of the file of a place.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    key: String,
    record: T,
}

impl Store {
    /// Keeps `record` beside the record of the step with the cache key `key` (64 hexadecimal digits), for whoever wants to
    /// know why a later step at the same `place` (hexadecimal digits) is another one. Of one place the latest are kept.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_why(&self, place: &str, key: &str, record: &impl Serialize) -> Result<(), StoreError> {
        let path = self.why_file(place);
        // Half a line may stand before it: who was writing it was killed.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, &Line { key: key.to_owned(), record }).expect("records always serialise");
        line.push(b'\n');
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(self.why_dir())
                .and_then(|()| open())
                .map_err(|source| StoreError::io("create", &path, source))?,
            result => result.map_err(|source| StoreError::io("open", &path, source))?,
        };
        let fail = |source| StoreError::io("write", &path, source);
        file.write_all(&line).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() > LONG {
            let text = fs::read_to_string(&path).map_err(fail)?;
            if text.lines().count() > 4 * MOST {
                self.write_file(&path, &joined(latest(&text)))?;
            }
        }
        Ok(())
    }

    /// Returns the records of `place`, latest first. What cannot be read is not there.
    pub fn why<T: DeserializeOwned>(&self, place: &str) -> Vec<T> {
        let text = fs::read_to_string(self.why_file(place)).unwrap_or_default();
        let lines = latest(&text).into_iter();
        lines.filter_map(|(_, line)| Some(serde_json::from_str::<Line<T>>(line).ok()?.record)).collect()
    }

    /// Forgets of the place with this file what is no longer wanted, by its key, and returns whether nothing is left; then the file is
    /// the caller's to remove.
    pub(super) fn forget_why(
        &self,
        file: &Path,
        act: Act,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<bool, StoreError> {
        let text = fs::read_to_string(file).map_err(|source| StoreError::io("read", file, source))?;
        let all = latest(&text);
        let left: Vec<_> = all.iter().filter(|(key, _)| is_wanted(key)).cloned().collect();
        if act == Act::Remove && !left.is_empty() && left.len() < all.len() {
            self.write_file(file, &joined(left.clone()))?;
        }
        Ok(left.is_empty())
    }

    fn why_file(&self, place: &str) -> PathBuf {
        self.why_dir().join(format!("{place}.jsonl"))
    }

    /// Returns the folder of all that explains.
    pub(super) fn why_dir(&self) -> PathBuf {
        self.root().join("cache").join("why")
    }
}

/// Returns the latest lines in the file of a place, each with its key, latest first.
fn latest(text: &str) -> Vec<(String, &str)> {
    let mut seen = HashSet::new();
    let lines = text.lines().rev().filter_map(|line| {
        let Line::<IgnoredAny> { key, .. } = serde_json::from_str(line).ok()?;
        seen.insert(key.clone()).then_some((key, line))
    });
    lines.take(MOST).collect()
}

/// Returns the file of these lines, which are latest first.
fn joined(lines: Vec<(String, &str)>) -> Vec<u8> {
    lines.iter().rev().flat_map(|(_, line)| [line.as_bytes(), b"\n"]).flatten().copied().collect()
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
        }
        let kept: Vec<usize> = store.why("00");
        assert_eq!(kept, (3..MOST + 3).rev().collect::<Vec<_>>());
        assert!(store.why::<usize>("01").is_empty());
        // The same step once more counts once, as the latest.
        store.remember_why("00", &format!("{:064x}", 5), &55).unwrap();
        assert_eq!(store.why::<usize>("00")[..2], [55, MOST + 2]);
    }

    #[test]
    fn half_a_line_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.remember_why("00", "a", &1).unwrap();
        let mut file = OpenOptions::new().append(true).open(store.why_file("00")).unwrap();
        file.write_all(b"\n{\"key\":\"b\",\"rec").unwrap();
        store.remember_why("00", "c", &3).unwrap();
        assert_eq!(store.why::<usize>("00"), [3, 1]);
    }

    #[test]
    fn the_file_of_a_place_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let long = "x".repeat(2000);
        for n in 0..200 {
            store.remember_why("00", &n.to_string(), &(n, &long)).unwrap();
        }
        assert!(fs::metadata(store.why_file("00")).unwrap().len() < 2 * LONG);
        let kept: Vec<(usize, String)> = store.why("00");
        assert_eq!(kept.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (192..200).rev().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_longer_wanted_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            store.remember_why("00", key, &value).unwrap();
        }
        let file = store.why_file("00");
        assert!(!store.forget_why(&file, Act::Remove, |key| key != "b").unwrap());
        assert_eq!(store.why::<usize>("00"), [3, 1]);
        assert!(store.forget_why(&file, Act::Remove, |_| false).unwrap());
    }
}
