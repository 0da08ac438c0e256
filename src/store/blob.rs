use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::lock::Lock;
use super::pending::{LONG, Pending};
use super::workshop::Workshop;
use super::{Store, StoreError};
use crate::oci::{Digest, DigestWriter, ImageError};

/// Numbers the temporary files of this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Returns where the blob `digest` lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("oci/blobs/sha256").join(digest.hex())
    }

    /// Returns whether the blob `digest` is in the store. It may still be damaged.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_some()
    }

    /// Returns the length in bytes of the blob `digest`; `None` where it is not in the store.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let named = |metadata: fs::Metadata| metadata.is_file().then_some(metadata.len());
        let named = || fs::symlink_metadata(self.blob_path(digest)).ok().and_then(named);
        // It may get its name between the first two.
        named().or_else(|| self.pending.size(digest)).or_else(named)
    }

    /// Returns whether the blob `digest` is in the store and its content is `size` bytes with that digest. Reads all of it.
    pub fn blob_is_sound(&self, digest: &Digest, size: u64) -> bool {
        let named = || is_sound(&self.blob_path(digest), digest, size);
        named() || self.pending.is_sound(digest, size) || named()
    }

    /// Opens the blob `digest` for reading. Its content is not verified.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`], and [`StoreError::Damaged`] where it is not a regular file.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let named = || open_regular(&self.blob_path(digest));
        for open in [&named as &dyn Fn() -> _, &|| self.pending.open(digest), &named] {
            // It may get its name between the first two.
            if let Some(file) = open()? {
                return Ok(file);
            }
        }
        Err(StoreError::NoBlob(*digest))
    }

    /// Returns the content of the blob `digest`, verified. For manifests and configurations, `limit` is
    /// [`crate::oci::MAX_DOCUMENT`].
    ///
    /// # Errors
    /// As [`Store::open_blob`]; [`ImageError::TooLarge`] where it has more than `limit` bytes;
    /// [`StoreError::Mismatch`] where its content is not what was written once.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(|source| StoreError::io("read", &path, source))?.len();
        let what = || format!("blob {digest}");
        if size > limit {
            return Err(ImageError::TooLarge { what: what(), found: size, unit: "bytes", limit }.into());
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| StoreError::io("read", &path, source))?;
        verify(&what(), (digest, size), (&Digest::of(&bytes), bytes.len() as u64))?;
        Ok(bytes)
    }

    /// Returns a writer for a new blob. Nothing is in the store until one of its `finish` methods returns.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let workshop = self.open_workshop();
        let (path, file) = match &workshop {
            Some(workshop) => {
                let path = workshop.path("blob");
                let file = create_new(&path).map_err(|errno| StoreError::io("create", &path, errno.into()))?;
                (path, file)
            }
            None => self.temp_file()?,
        };
        Ok(BlobWriter {
            writer: Some(DigestWriter::new(BufWriter::with_capacity(128 << 10, file))),
            temp: Temp(path, workshop),
            blobs: self.root.join("oci/blobs/sha256"),
            pending: self.pending(),
        })
    }

    /// Writes `bytes` as a blob, where it is missing or damaged, and returns its digest.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.put(bytes, BlobWriter::finish)
    }

    /// As [`put_blob`](Store::put_blob), for a blob that is given its name by the next [`sync`](Store::sync).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_blob_later(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.put(bytes, BlobWriter::finish_later)
    }

    fn put(
        &self,
        bytes: &[u8],
        finish: fn(BlobWriter) -> Result<(Digest, u64), StoreError>,
    ) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.blob_is_sound(&digest, bytes.len() as u64) {
            let mut writer = self.blob_writer()?;
            writer.write_all(bytes).map_err(|source| writer.error(source))?;
            finish(writer)?;
        }
        Ok(digest)
    }

    pub(super) fn temp_file(&self) -> Result<(PathBuf, File), StoreError> {
        loop {
            let path = self.tmp().join(format!("blob-{}", unique_name()));
            match create_new(&path) {
                Ok(file) => {
                    // So that nobody takes it for what a killed process left. Who just looks has the lock for a moment.
                    file.lock().map_err(|source| StoreError::io("lock", &path, source))?;
                    return Ok((path, file));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(StoreError::io("create", &path, errno.into())),
            }
        }
    }
}

/// Takes the content of a new blob. Dropped without `finish`, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    /// `None` only while a `finish` method consumes this value.
    writer: Option<DigestWriter<BufWriter<File>>>,
    temp: Temp,
    blobs: PathBuf,
    pending: Arc<Pending>,
}

/// A file that is removed when this is dropped; and the folder that it lies in, where that would go with the store.
#[derive(Debug)]
pub(super) struct Temp(PathBuf, #[allow(dead_code)] Option<Arc<Workshop>>);

impl Temp {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After the rename there is nothing to remove; what else cannot be removed is left to gc.
        let _ = fs::remove_file(&self.0);
    }
}

impl BlobWriter {
    /// Puts the blob into the store and returns its digest and its length in bytes. A blob that is there already is
    /// kept if it is sound, and replaced if it is damaged.
    ///
    /// The content is on disk then, its name perhaps not yet: [`Store::tag`] sees to that for all blobs at once.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        self.place(|_, _| Ok(()))
    }

    /// As [`finish`](BlobWriter::finish), without waiting for the disk: this process can read the blob at once, others after the next
    /// [`sync`](Store::sync) or [`settle`](Store::settle). Without one it is gone with the process.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish_later(mut self) -> Result<(Digest, u64), StoreError> {
        let (file, digest, size) = self.all_written()?;
        if size >= LONG {
            self.name(&file, &digest, size)?;
        } else if !is_sound(&self.blobs.join(digest.hex()), &digest, size) {
            self.pending.add(digest, self.temp, file);
        }
        Ok((digest, size))
    }

    /// Puts the blob into the store if it is `size` bytes with the digest `expected`.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`], and nothing is put into the store; [`StoreError::Io`].
    pub fn finish_as(self, expected: &Digest, size: u64) -> Result<(), StoreError> {
        let what = format!("blob {expected}");
        self.place(|digest, length| verify(&what, (expected, size), (digest, length))).map(|_| ())
    }

    /// Returns `source`, an error of a write to this, as an error of the store.
    pub fn error(&self, source: io::Error) -> StoreError {
        StoreError::io("write", &self.temp.0, source)
    }

    fn place(
        mut self,
        check: impl FnOnce(&Digest, u64) -> Result<(), StoreError>,
    ) -> Result<(Digest, u64), StoreError> {
        let (file, digest, size) = self.all_written()?;
        check(&digest, size)?;
        self.name(&file, &digest, size)?;
        Ok((digest, size))
    }

    fn all_written(&mut self) -> Result<(File, Digest, u64), StoreError> {
        let writer = self.writer.take().expect("only this method takes the writer, and its callers consume the value");
        let (buffer, digest, size) = writer.finish();
        let file = buffer.into_inner().map_err(|error| self.error(error.into_error()))?;
        Ok((file, digest, size))
    }

    /// Gives the blob its name when it is on disk.
    fn name(&self, file: &File, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let blob = self.blobs.join(digest.hex());
        if !is_sound(&blob, digest, size) {
            file.sync_data().map_err(|source| StoreError::io("sync", &self.temp.0, source))?;
            fs::rename(&self.temp.0, &blob).map_err(|source| StoreError::io("rename", &blob, source))?;
        }
        Ok(())
    }

    fn inner(&mut self) -> &mut DigestWriter<BufWriter<File>> {
        self.writer.as_mut().expect("the writer is there until a `finish` method consumes the value")
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

pub(super) fn create_new(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map(File::from)
}

/// Returns a name for a temporary thing that nobody else has: processes of different pid namespaces that use one store may have
/// the same number, and count alike, but hardly in the same nanosecond.
pub(super) fn unique_name() -> String {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    format!("{}-{serial}-{:x}{:08x}", std::process::id(), time.tv_sec, time.tv_nsec)
}

/// Opens the regular file `path`, not through a symbolic link; `None` where there is nothing.
pub(super) fn open_regular(path: &Path) -> Result<Option<File>, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged { path: path.to_path_buf(), reason: reason.into() };
    // Without NONBLOCK the open of a fifo would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => {
            let file = File::from(fd);
            let metadata = file.metadata().map_err(|source| StoreError::io("open", path, source))?;
            if metadata.is_file() { Ok(Some(file)) } else { Err(damaged("it is not a regular file")) }
        }
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(damaged("it is a symbolic link")),
        Err(errno) => Err(StoreError::io("open", path, errno.into())),
    }
}

/// Returns whether at `path` lies a regular file of `size` bytes with the digest `digest`. Reads all of it.
pub fn is_sound(path: &Path, digest: &Digest, size: u64) -> bool {
    let Ok(Some(mut file)) = open_regular(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.len() == size) {
        return false;
    }
    let mut hash = DigestWriter::new(io::sink());
    let read = io::copy(&mut BufReader::with_capacity(256 << 10, &mut file), &mut hash);
    let (_, found, length) = hash.finish();
    read.is_ok() && (found, length) == (*digest, size)
}

/// Removes the file at `path` if nobody has a lock on it. Who waits for the lock must look whether the file is still there.
pub(super) fn remove_unused(path: &Path) {
    if let Some(lock) = Lock::alone_at_once(path)
        && same_file(lock.file(), path)
    {
        let _ = fs::remove_file(path);
    }
}

/// Returns whether `file` is what lies at `path` now.
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

fn verify(what: &str, expected: (&Digest, u64), found: (&Digest, u64)) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::Mismatch {
        what: what.into(),
        expected: *expected.0,
        expected_size: expected.1,
        found: *found.0,
        found_size: found.1,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn left_over(store: &Store) -> usize {
        fs::read_dir(store.tmp()).unwrap().count()
    }

    #[test]
    fn a_blob_is_found_by_the_digest_of_its_content() {
        let (_dir, store) = store();
        let digest = store.put_blob(b"hello").unwrap();
        assert_eq!(digest, Digest::of(b"hello"));
        assert!(store.has_blob(&digest) && !store.has_blob(&Digest::of(b"")));
        assert_eq!(store.read_blob(&digest, 5).unwrap(), b"hello");
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_nothing() {
        let (_dir, store) = store();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(left_over(&store), 1);
        drop(writer);
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn a_blob_that_is_not_what_was_said_does_not_get_into_the_store() {
        let (_dir, store) = store();
        for (digest, size) in [(Digest::of(b"other"), 5), (Digest::of(b"hello"), 4)] {
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(b"hello").unwrap();
            assert!(matches!(writer.finish_as(&digest, size), Err(StoreError::Mismatch { .. })));
            assert!(!store.has_blob(&digest));
        }
        assert_eq!(left_over(&store), 0);
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"hello").unwrap();
        writer.finish_as(&Digest::of(b"hello"), 5).unwrap();
    }

    #[test]
    fn an_existing_blob_is_kept_and_a_damaged_one_is_replaced() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, store) = store();
        let digest = store.put_blob(b"hello").unwrap();
        let inode = || fs::metadata(store.blob_path(&digest)).unwrap().ino();
        let before = inode();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"hello").unwrap();
        writer.finish().unwrap();
        assert_eq!(inode(), before);
        for damaged in [b"hel".as_slice(), b"hullo"] {
            fs::write(store.blob_path(&digest), damaged).unwrap();
            store.put_blob(b"hello").unwrap();
            assert_eq!(store.read_blob(&digest, 10).unwrap(), b"hello");
            fs::write(store.blob_path(&digest), damaged).unwrap();
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(b"hello").unwrap();
            writer.finish_as(&digest, 5).unwrap();
            assert!(store.blob_is_sound(&digest, 5));
        }
    }

    #[test]
    fn damaged_blobs_are_noticed() {
        let (dir, store) = store();
        let digest = store.put_blob(b"hello").unwrap();
        let path = store.blob_path(&digest);
        fs::write(&path, b"hullo").unwrap();
        assert!(matches!(store.read_blob(&digest, 10), Err(StoreError::Mismatch { .. })));
        let error = store.read_blob(&digest, 4).unwrap_err().to_string();
        assert_eq!(error, format!("blob {digest} has 5 bytes, more than 4"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.open_blob(&digest), Err(StoreError::NoBlob(_))));
        symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(store.open_blob(&digest), Err(StoreError::Damaged { .. })));
        assert!(!store.has_blob(&digest));
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(store.open_blob(&digest), Err(StoreError::Damaged { .. })));
        drop(dir);
    }
}
