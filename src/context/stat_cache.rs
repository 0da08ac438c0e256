//! Which file has which SHA-256, remembered between builds by what stat(2) says.
//!
//! The file: magic, number of records (u64), records of 84 bytes, SHA-256 of all before it. Numbers are little-endian.
//! A file that is not exactly so counts as empty: the cache saves time and is never the reason of an error.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::tree::FileDigest;

const MAGIC: &[u8; 8] = b"CORSTAT1";
const RECORD: usize = 84;
/// Files remembered for one context at the most: 42 MB.
const MAX_RECORDS: usize = 500_000;
/// How often the cache may be loaded without a use of a record until that is dropped.
const MAX_AGE: u32 = 16;
/// Two changes of a file closer together than this may carry the same time: some ticks of the kernel's clock.
const TICK: Duration = Duration::from_millis(20);
/// The same for file systems that keep whole seconds (or, as FAT, two).
const COARSE_TICK: Duration = Duration::from_secs(2);

/// Seconds since 1970, and nanoseconds.
type Time = (i64, u32);

/// What stat(2) says about a file that changes whenever the contents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device number, in any form.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the contents: seconds since 1970, nanoseconds.
    pub mtime: (i64, u32),
    /// Time of the last change of contents or attributes, which nobody can set: seconds since 1970, nanoseconds.
    pub ctime: (i64, u32),
}

/// The digests of files that were read in earlier builds.
#[derive(Debug, Default)]
pub struct StatCache {
    records: HashMap<FileKey, Record>,
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    digest: FileDigest,
    /// How often the cache was loaded since this was used.
    age: u32,
}

impl FileKey {
    /// Returns whether a change of the file after `now` is sure to change this key. If not, the file was written so
    /// recently that a further change could get the same times.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let margin = if self.ctime.1 == 0 { COARSE_TICK } else { TICK };
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        let Some(limit) = now.checked_sub(margin) else { return false };
        let limit: Time = (i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), limit.subsec_nanos());
        self.mtime < limit && self.ctime < limit
    }
}

impl StatCache {
    /// Returns what the file `path` holds; an empty cache where it is missing, damaged, too long or something else.
    pub fn load(path: &Path) -> Self {
        let records = read(path).and_then(|bytes| decode(&bytes)).unwrap_or_default();
        StatCache { records, changed: false }
    }

    /// Returns the digest of the file that has `key`, where it is known.
    pub fn get(&mut self, key: &FileKey) -> Option<FileDigest> {
        let record = self.records.get_mut(key)?;
        record.age = 0;
        Some(record.digest)
    }

    /// Remembers the digest of the file that had `key` before and after it was read; `read_at` is a time before the first
    /// of these. It is not remembered when the file was written just before that.
    pub fn insert(&mut self, key: FileKey, digest: FileDigest, read_at: SystemTime) {
        if key.is_settled(read_at) {
            self.records.insert(key, Record { digest, age: 0 });
            self.changed = true;
        }
    }

    /// Returns whether there is anything to save.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Writes the cache to `path`, whole or not at all. Records that no build has used for long are left out.
    ///
    /// # Errors
    /// What the file system reports. The cache in memory stays as it is.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        let mut records: Vec<_> = self.records.iter().filter(|(_, record)| record.age <= MAX_AGE).collect();
        if records.len() > MAX_RECORDS {
            records.sort_by_key(|(_, record)| record.age);
            records.truncate(MAX_RECORDS);
        }
        let bytes = encode(&records);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{:?}.tmp", std::process::id(), std::thread::current().id()));
        let temporary = Path::new(&name);
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(temporary)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(temporary, path));
        if written.is_err() {
            // It is of no use to anybody.
            let _ = fs::remove_file(temporary);
        }
        self.changed &= written.is_err();
        written
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file: File = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let meta = file.metadata().ok()?;
    let limit = (MAX_RECORDS * RECORD + 1024) as u64;
    if !meta.is_file() || meta.len() > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).ok()? + 1);
    (&file).take(limit).read_to_end(&mut bytes).ok()?;
    // When it was used last, even where nothing in it changes. A store that is only read stays as it is.
    let _ = file.set_modified(SystemTime::now());
    Some(bytes)
}

fn encode(records: &[(&FileKey, &Record)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.len() * RECORD + 48);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(records.len() as u64).to_le_bytes());
    for (key, record) in records {
        for number in [key.device, key.inode, key.size, key.mtime.0.cast_unsigned(), key.ctime.0.cast_unsigned()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [key.mtime.1, key.ctime.1, record.age] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&record.digest.0);
    }
    let sum: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<FileKey, Record>> {
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    let rest = body.strip_prefix(MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    if count.checked_mul(RECORD)? != rest.len() || <[u8; 32]>::from(Sha256::digest(body)) != *sum {
        return None;
    }
    let (records, _) = rest.as_chunks::<RECORD>();
    Some(records.iter().map(record).collect())
}

fn record(bytes: &[u8; RECORD]) -> (FileKey, Record) {
    // Five long numbers, then three short ones.
    let long = |at: usize| u64::from_le_bytes(bytes.as_chunks().0[at]);
    let short = |at: usize| u32::from_le_bytes(bytes.as_chunks().0[10 + at]);
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[RECORD - 32..]);
    let key = FileKey {
        device: long(0),
        inode: long(1),
        size: long(2),
        mtime: (long(3).cast_signed(), short(0)),
        ctime: (long(4).cast_signed(), short(1)),
    };
    (key, Record { digest: FileDigest(digest), age: short(2).saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: FileDigest = FileDigest([7; 32]);

    fn key(inode: u64) -> FileKey {
        FileKey { device: 1, inode, size: 3, mtime: (1_000, 5), ctime: (-2_000, 6) }
    }

    fn filled(count: u64) -> StatCache {
        let mut cache = StatCache::default();
        (0..count).for_each(|inode| cache.insert(key(inode), DIGEST, SystemTime::now()));
        cache
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cache");
        let mut cache = filled(3);
        assert!(cache.is_changed());
        cache.save(&path).expect("saved");
        assert!(!cache.is_changed());
        let mut loaded = StatCache::load(&path);
        assert_eq!(loaded.get(&key(2)), Some(DIGEST));
        assert_eq!(loaded.get(&key(3)), None);
        for other in
            [FileKey { size: 4, ..key(2) }, FileKey { ctime: (-2_000, 7), ..key(2) }, FileKey { device: 2, ..key(2) }]
        {
            assert_eq!(loaded.get(&other), None);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cache");
        filled(3).save(&path).expect("saved");
        let good = fs::read(&path).expect("read");
        let mut flipped = good.clone();
        flipped[50] ^= 1;
        let mut count = good.clone();
        count[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        for bad in [&good[..good.len() - 1], &good[..40], &flipped, &count, b"", b"something else entirely"] {
            fs::write(&path, bad).expect("written");
            assert_eq!(StatCache::load(&path).records.len(), 0);
        }
        assert_eq!(StatCache::load(dir.path()).records.len(), 0, "a folder");
        assert_eq!(StatCache::load(&dir.path().join("missing")).records.len(), 0);
    }

    #[test]
    fn a_file_written_just_now_is_not_remembered() {
        let at = |secs: u64, millis: u64| UNIX_EPOCH + Duration::from_secs(secs) + Duration::from_millis(millis);
        let fine = FileKey { mtime: (90, 1), ctime: (100, 500_000_000), ..key(1) };
        assert!(!fine.is_settled(at(100, 500)));
        assert!(!fine.is_settled(at(100, 519)));
        assert!(fine.is_settled(at(100, 521)));
        let coarse = FileKey { mtime: (100, 0), ctime: (100, 0), ..key(1) };
        assert!(!coarse.is_settled(at(101, 999)));
        assert!(coarse.is_settled(at(102, 1)));
        // A clock that went back.
        assert!(!fine.is_settled(at(50, 0)));
        assert!(!fine.is_settled(UNIX_EPOCH));
        let mut cache = StatCache::default();
        cache.insert(fine, DIGEST, at(100, 510));
        assert_eq!(cache.get(&fine), None);
        assert!(!cache.is_changed());
    }

    #[test]
    fn records_that_nobody_uses_are_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cache");
        filled(2).save(&path).expect("saved");
        for _ in 0..=MAX_AGE {
            let mut cache = StatCache::load(&path);
            cache.get(&key(1));
            cache.save(&path).expect("saved");
        }
        let mut cache = StatCache::load(&path);
        assert_eq!(cache.get(&key(0)), None);
        assert_eq!(cache.get(&key(1)), Some(DIGEST));
    }

    #[test]
    fn twenty_thousand_records_load_quickly() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cache");
        filled(20_000).save(&path).expect("saved");
        let start = std::time::Instant::now();
        assert_eq!(StatCache::load(&path).records.len(), 20_000);
        eprintln!("loaded 20,000 records in {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(500));
    }
}
