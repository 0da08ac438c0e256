use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::Store;
use super::blob::{remove_unused, same_file};
use super::prune::age;
use crate::oci::Digest;

/// How long a session is believed in: registries forget theirs after some hours or days.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The longest record that is read.
const MAX_RECORD: u64 = 64 << 10;

/// What is known of the upload of a blob to a repository, so that another process can go on with it. As long as this value lives no
/// other process does.
///
/// The address of a session may be all that it takes to write to it: the file is for its owner alone.
#[derive(Debug)]
pub struct UploadRecord {
    file: File,
    path: PathBuf,
    place: String,
    digest: Digest,
    known: Option<Known>,
}

/// Where a session is, and when it began.
#[derive(Clone, PartialEq, Eq)]
struct Known {
    location: String,
    began: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    place: String,
    digest: Digest,
    location: String,
    /// Seconds since 1970.
    began: u64,
}

impl std::fmt::Debug for Known {
    /// Does not show the address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({})", self.began)
    }
}

impl Store {
    /// Returns what is known of the upload of the blob `digest` to `place`, a host and a repository. `None` where another process is
    /// about it, or where nothing can be kept here: then the upload is not one that can be gone on with.
    pub fn upload(&self, place: &str, digest: &Digest) -> Option<UploadRecord> {
        let dir = self.root().join("uploads");
        DirBuilder::new().mode(0o700).recursive(true).create(&dir).ok()?;
        forget_old(&dir);
        let path = dir.join(format!("{}.json", Digest::of(format!("{place} {digest}").as_bytes()).hex()));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).ok()?);
        file.try_lock().ok().filter(|()| same_file(&file, &path))?;
        file.set_permissions(Permissions::from_mode(0o600)).ok()?;
        let mut text = Vec::new();
        (&file).take(MAX_RECORD).read_to_end(&mut text).ok()?;
        let known = serde_json::from_slice::<Written>(&text).ok().filter(|written| {
            let age = now().checked_sub(written.began);
            written.place == place && written.digest == *digest && age.is_some_and(|age| age < LONGEST.as_secs())
        });
        let known = known.map(|Written { location, began, .. }| Known { location, began });
        Some(UploadRecord { file, path, place: place.to_owned(), digest: *digest, known })
    }
}

impl UploadRecord {
    /// Returns the address of the session, where there is one.
    pub fn location(&self) -> Option<&str> {
        self.known.as_ref().map(|known| known.location.as_str())
    }

    /// Records the address of a session that begins.
    pub fn begin(&mut self, location: &str) {
        self.known = Some(Known { location: location.to_owned(), began: now() });
        self.write();
    }

    /// Records that the session goes on at another address.
    pub fn go_on(&mut self, location: &str) {
        if let Some(known) = self.known.as_mut().filter(|known| known.location != location) {
            location.clone_into(&mut known.location);
            self.write();
        }
    }

    /// Forgets the session: the blob is there.
    pub fn end(mut self) {
        self.known = None;
    }

    fn write(&mut self) {
        let Some(Known { location, began }) = self.known.clone() else { return };
        let written = Written { place: self.place.clone(), digest: self.digest, location, began };
        let text = serde_json::to_vec(&written).expect("records always serialise");
        let mut file = &self.file;
        // Half a record is none, and then the upload begins anew.
        let done = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(&text));
        if done.is_err() {
            let _ = file.set_len(0);
        }
    }
}

impl Drop for UploadRecord {
    fn drop(&mut self) {
        if self.known.is_none() {
            let _ = fs::remove_file(&self.path);
        }
        // As every lock of the store ([`Lock`](super::lock::Lock)): a child that is starting must not keep it.
        let _ = self.file.unlock();
    }
}

/// Removes the records that are too old for anybody.
fn forget_old(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| age(&entry.path()) > LONGEST) {
        remove_unused(&entry.path());
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PLACE: &str = "registry.example/app";

    #[test]
    fn a_session_is_found_again_until_it_ends() {
        let (_dir, store) = super::super::fixture::store();
        let digest = Digest::of(b"blob");
        let mut record = store.upload(PLACE, &digest).unwrap();
        assert_eq!(record.location(), None);
        assert!(store.upload(PLACE, &digest).is_none(), "it is being used");
        record.begin("https://registry.example/upload/1?state=secret");
        record.go_on("https://registry.example/upload/2?state=secret");
        assert!(!format!("{record:?}").contains("secret"));
        let path = record.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(record);
        assert_eq!(store.upload("other.example/app", &digest).unwrap().location(), None);
        assert_eq!(store.upload(PLACE, &Digest::of(b"other")).unwrap().location(), None);
        let record = store.upload(PLACE, &digest).unwrap();
        assert_eq!(record.location(), Some("https://registry.example/upload/2?state=secret"));
        record.end();
        assert_eq!(fs::read_dir(store.root().join("uploads")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_old_or_damaged_or_a_link_is_nothing() {
        let (dir, store) = super::super::fixture::store();
        let digest = Digest::of(b"blob");
        let mut record = store.upload(PLACE, &digest).unwrap();
        record.begin("https://registry.example/upload/1");
        record.known.as_mut().unwrap().began = now() - LONGEST.as_secs() - 1;
        record.write();
        let path = record.path.clone();
        drop(record);
        assert_eq!(store.upload(PLACE, &digest).unwrap().location(), None);
        assert!(!path.exists());
        fs::write(&path, b"{\"place\":").unwrap();
        assert_eq!(store.upload(PLACE, &digest).unwrap().location(), None);
        let target = dir.path().join("target");
        fs::write(&target, b"{}").unwrap();
        symlink(&target, &path).unwrap();
        assert!(store.upload(PLACE, &digest).is_none());
        assert_eq!(fs::read(&target).unwrap(), b"{}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"{}").unwrap();
        let old = SystemTime::now() - 2 * LONGEST;
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(store.upload("other.example/app", &digest).is_some());
        assert!(!path.exists());
    }
}
