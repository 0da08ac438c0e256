use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::arrivals::Tail;
use super::blob::{is_sound, remove_unused, unique_name};
use super::error::is_full;
use super::prune::age;
use super::{Layout, Store, StoreError};
use crate::oci::{Digest, DigestWriter};

/// A blob that comes in over an unreliable way. Dropped before its end, what is there is kept for the next one who wants this
/// blob, be it in another process; `prune` takes it away. What fills the disk is not kept.
#[derive(Debug)]
pub struct PartialBlob {
    /// `None` only while a method replaces or consumes it.
    writer: Option<DigestWriter<Target>>,
    path: PathBuf,
    blob: PathBuf,
    digest: Digest,
    size: u64,
    /// Whether it is only ours: somebody else is writing the one that is kept.
    own: bool,
    /// Whether there was no more room for it.
    full: bool,
    /// Where those look who read it as it comes.
    tail: Option<Arc<Tail>>,
}

#[derive(Debug)]
struct Target {
    file: BufWriter<File>,
    /// What comes is in the file already, and only counted.
    replay: bool,
}

impl Write for Target {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.replay { Ok(buffer.len()) } else { self.file.write(buffer) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Begins to take the blob `digest` of `size` bytes, or goes on where an earlier attempt stopped.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn partial_blob(&self, digest: &Digest, size: u64) -> Result<PartialBlob, StoreError> {
        let dir = self.root.join("partial");
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        partial(&dir, self.blob_path(digest), (digest, size), &|| self.temp_file())
    }
}

impl Layout {
    /// As [`Store::partial_blob`], for a layout anywhere. What is not complete lies in a hidden folder of it.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] where somebody put something else in the place of that folder.
    pub fn partial_blob(&self, digest: &Digest, size: u64) -> Result<PartialBlob, StoreError> {
        loop {
            match self.begin_partial(digest, size) {
                // Who ended just now took the folder away.
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && self.dir().is_dir() => {}
                result => return result,
            }
        }
    }

    fn begin_partial(&self, digest: &Digest, size: u64) -> Result<PartialBlob, StoreError> {
        let dir = self.partial_dir();
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|source| StoreError::io("create", &dir, source))?,
        }
        if !fs::symlink_metadata(&dir).map_err(|source| StoreError::io("stat", &dir, source))?.is_dir() {
            return Err(StoreError::Damaged { path: dir, reason: "it is not a directory".into() });
        }
        let temp = || {
            loop {
                let path = dir.join(format!("{}.{}", digest.hex(), unique_name()));
                match open_partial(&path, OFlags::EXCL) {
                    Ok(file) => {
                        file.lock().map_err(|source| StoreError::io("lock", &path, source))?;
                        return Ok((path, file));
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(source) => return Err(StoreError::io("create", &path, source)),
                }
            }
        };
        partial(&dir, self.blob(digest), (digest, size), &temp)
    }

    /// Removes what nobody went on with for a long time, and the hidden folder, if it is empty then.
    pub fn forget_partial(&self) {
        let dir = self.partial_dir();
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && age(&entry.path()) > FORGOTTEN {
                remove_unused(&entry.path());
            }
        }
        let _ = fs::remove_dir(&dir);
    }

    fn partial_dir(&self) -> PathBuf {
        self.dir().join(".coracle-partial")
    }
}

/// After so long nobody goes on with a blob.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

fn open_partial(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags | more, Mode::from_raw_mode(0o666))?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Begins to take a blob whose parts lie in `dir`, and whose place is `blob`; `temp` makes a file for where another process writes.
fn partial(
    dir: &Path,
    blob: PathBuf,
    (digest, size): (&Digest, u64),
    temp: &dyn Fn() -> Result<(PathBuf, File), StoreError>,
) -> Result<PartialBlob, StoreError> {
    let kept = dir.join(digest.hex());
    let mut file = open_partial(&kept, OFlags::empty()).map_err(|source| StoreError::io("open", &kept, source))?;
    let same = || super::blob::same_file(&file, &kept);
    // Another process may have put it into its place just now; then it is not ours to append to.
    let (path, own) = match file.try_lock() {
        Ok(()) if same() => (kept, false),
        _ => {
            let (path, other) = temp()?;
            file = other;
            (path, true)
        }
    };
    let mut length = file.metadata().map_err(|source| StoreError::io("read", &path, source))?.len();
    if length > size {
        file.set_len(0).map_err(|source| StoreError::io("write", &path, source))?;
        length = 0;
    }
    if room(&file).is_some_and(|room| size - length > room) {
        // Nor does what is there bring anybody further: it is in the way of whatever makes room.
        let _ = fs::remove_file(&path);
        return Err(StoreError::io("write", &path, rustix::io::Errno::NOSPC.into()));
    }
    let reader =
        if own { None } else { Some(File::open(&path).map_err(|source| StoreError::io("open", &path, source))?) };
    let target = Target { file: BufWriter::with_capacity(128 << 10, file), replay: true };
    let mut writer = DigestWriter::new(target);
    if let Some(mut reader) = reader {
        io::copy(&mut Read::take(&mut reader, size), &mut writer)
            .map_err(|source| StoreError::io("read", &path, source))?;
    }
    writer.get_mut().replay = false;
    Ok(PartialBlob { writer: Some(writer), path, blob, digest: *digest, size, own, full: false, tail: None })
}

/// Returns how many bytes there is room for where `file` lies; `None` where nobody says so.
pub(super) fn room(file: &File) -> Option<u64> {
    let disk = rustix::fs::fstatvfs(file).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl PartialBlob {
    /// From now on `tail` is told what is there.
    pub(super) fn follow(&mut self, tail: Arc<Tail>) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("open", &self.path, source);
        self.writer.as_mut().map_or(Ok(()), Write::flush).map_err(failed)?;
        tail.begin(File::open(&self.path).map_err(failed)?, self.kept());
        self.tail = Some(tail);
        Ok(())
    }

    /// Returns how many bytes are there.
    pub fn kept(&self) -> u64 {
        self.writer.as_ref().map_or(0, DigestWriter::written)
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// Those of the file.
    pub fn restart(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (target, _, _) = writer.finish();
        let file = target.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // First nobody must read on.
        self.tail.iter().for_each(|tail| tail.lose());
        let result = file.set_len(0).and_then(|()| io::Seek::seek(&mut &file, io::SeekFrom::Start(0)).map(drop));
        let target = Target { file: BufWriter::with_capacity(128 << 10, file), replay: false };
        self.writer = Some(DigestWriter::new(target));
        if let (Ok(()), Some(tail)) = (&result, &self.tail) {
            tail.begin(File::open(&self.path)?, 0);
        }
        result
    }

    /// Puts the blob into the store if all of it is there and has the right digest: then `None`. Else what is there is thrown
    /// away, and its digest is returned.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self) -> Result<Option<Digest>, StoreError> {
        let result = self.put();
        if let Err(StoreError::Io { source, .. }) = &result
            && is_full(source)
        {
            let _ = fs::remove_file(&self.path);
        }
        result
    }

    fn put(&mut self) -> Result<Option<Digest>, StoreError> {
        let failed = |source| StoreError::io("write", &self.path, source);
        let writer = self.writer.take().expect("only this method takes the writer for good, and it consumes the value");
        let (target, found, length) = writer.finish();
        let file = target.file.into_inner().map_err(|error| failed(error.into_error()))?;
        if found != self.digest || length != self.size {
            self.tail.iter().for_each(|tail| tail.lose());
            let _ = fs::remove_file(&self.path);
            return Ok(Some(found));
        }
        // Whoever reads it can go on while it is put into its place.
        self.tail.take().iter().for_each(|tail| tail.finish(length));
        if is_sound(&self.blob, &self.digest, self.size) {
            // Another process was quicker.
            let _ = fs::remove_file(&self.path);
            return Ok(None);
        }
        file.sync_data().map_err(|source| StoreError::io("sync", &self.path, source))?;
        fs::rename(&self.path, &self.blob).map_err(|source| StoreError::io("rename", &self.blob, source))?;
        Ok(None)
    }
}

impl Write for PartialBlob {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let writer = self.writer.as_mut().expect("it is there until `finish` consumes the value");
        let length = writer.write(buffer).inspect_err(|error| self.full |= is_full(error))?;
        if let Some(tail) = &self.tail {
            let written = writer.written();
            tail.grow(written - writer.get_mut().file.buffer().len() as u64);
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.flush()?;
        self.tail.iter().for_each(|tail| tail.grow(writer.written()));
        Ok(())
    }
}

impl Drop for PartialBlob {
    fn drop(&mut self) {
        self.tail.iter().for_each(|tail| tail.lose());
        if let Some(writer) = &mut self.writer {
            // What does not get to the disk comes again.
            self.full |= writer.flush().is_err_and(|error| is_full(&error));
            let empty = writer.written() == 0;
            if self.own || self.full || empty {
                let _ = fs::remove_file(&self.path);
            }
            // As every lock of the store ([`Lock`](super::lock::Lock)): a child that is starting must not keep it.
            let _ = writer.get_mut().file.get_ref().unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn what_was_interrupted_goes_on() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello world");
        let mut blob = store.partial_blob(&digest, 11).unwrap();
        blob.write_all(b"hello").unwrap();
        drop(blob);
        let mut blob = store.partial_blob(&digest, 11).unwrap();
        assert_eq!(blob.kept(), 5);
        blob.write_all(b" world").unwrap();
        assert_eq!(blob.finish().unwrap(), None);
        assert_eq!(store.read_blob(&digest, 11).unwrap(), b"hello world");
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_wrong_is_thrown_away() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello world");
        let mut blob = store.partial_blob(&digest, 11).unwrap();
        blob.write_all(b"hello").unwrap();
        blob.restart().unwrap();
        blob.write_all(b"hullo world").unwrap();
        assert_eq!(blob.finish().unwrap(), Some(Digest::of(b"hullo world")));
        assert!(!store.has_blob(&digest));
        assert_eq!(store.partial_blob(&digest, 11).unwrap().kept(), 0);
        fs::write(store.root().join("partial").join(digest.hex()), [0; 100]).unwrap();
        assert_eq!(store.partial_blob(&digest, 11).unwrap().kept(), 0);
    }

    #[test]
    fn those_who_end_do_not_take_the_folder_away_from_those_who_begin() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path());
        let digest = Digest::of(b"hello");
        std::thread::scope(|scope| {
            let begin = || (0..1000).for_each(|_| drop(layout.partial_blob(&digest, 5).unwrap()));
            let beginning = [scope.spawn(begin), scope.spawn(begin)];
            while beginning.iter().any(|one| !one.is_finished()) {
                layout.forget_partial();
            }
        });
    }

    #[test]
    fn what_a_program_that_is_starting_has_open_too_is_gone_on_with() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello world");
        let mut blob = store.partial_blob(&digest, 11).unwrap();
        blob.write_all(b"hello").unwrap();
        // As a child has it before it becomes another program.
        let copy = blob.writer.as_mut().unwrap().get_mut().file.get_ref().try_clone().unwrap();
        drop(blob);
        assert_eq!(store.partial_blob(&digest, 11).unwrap().kept(), 5);
        drop(copy);
    }

    #[test]
    fn two_at_once_do_not_disturb_each_other() {
        let (_dir, store) = store();
        let digest = Digest::of(b"hello");
        let mut one = store.partial_blob(&digest, 5).unwrap();
        let mut two = store.partial_blob(&digest, 5).unwrap();
        one.write_all(b"he").unwrap();
        two.write_all(b"hello").unwrap();
        assert_eq!(two.finish().unwrap(), None);
        one.write_all(b"llo").unwrap();
        assert_eq!(one.finish().unwrap(), None);
        assert_eq!(store.read_blob(&digest, 5).unwrap(), b"hello");
    }
}
