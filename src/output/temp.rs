use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::OutputError;

/// The most exports into one folder at the same time.
const MAX_SLOTS: usize = 1000;
/// The most files that one process writes into a folder at the same time.
const WIDEST: usize = 4;

/// A file that is being written in the folder where it will be, under a name for the time being. It is locked, so that
/// the next one who comes along can tell it from what a killed process left, and removes that.
#[derive(Debug)]
pub(super) struct TempFile {
    path: PathBuf,
    file: File,
}

impl TempFile {
    /// Makes a new file in the folder `dir`.
    pub(super) fn create(dir: &Path) -> Result<Self, OutputError> {
        let mut last = None;
        for slot in 0..MAX_SLOTS {
            let path = slot_path(dir, slot);
            remove_stale(&path);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => {
                    let file = File::from(fd);
                    // Between the two calls another one may have taken it for stale.
                    let locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                    if locked && is_at(&file, &path) {
                        // Who wrote several at the same time may have been killed.
                        (slot + 1..slot + 1 + WIDEST).for_each(|slot| remove_stale(&slot_path(dir, slot)));
                        return Ok(TempFile { path, file });
                    }
                }
                Err(Errno::EXIST) => last = Some(Errno::EXIST),
                Err(errno) => return Err(OutputError::io("create", &path, errno.into())),
            }
        }
        Err(OutputError::io("create a temporary file in", dir, last.unwrap_or(Errno::BUSY).into()))
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns its name for the time being.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file to `target`, in place of what is there. Its content is on disk before.
    pub(super) fn place(self, target: &Path) -> Result<(), OutputError> {
        self.file.sync_data().map_err(|source| OutputError::io("write", target, source))?;
        fs::rename(&self.path, target).map_err(|source| OutputError::io("create", target, source))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After the rename the name is free, or another's.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn slot_path(dir: &Path, slot: usize) -> PathBuf {
    dir.join(format!(".coracle-{slot}.tmp"))
}

/// Removes what a killed process left: a file that nobody has locked.
fn remove_stale(path: &Path) {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    let file = File::from(fd);
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) && file.try_lock().is_ok() && is_at(&file, path) {
        let _ = fs::remove_file(path);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_placed_or_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        drop(TempFile::create(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let temp = TempFile::create(dir.path()).unwrap();
        temp.file().write_all(b"all").unwrap();
        temp.place(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"all");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".coracle-0.tmp"), b"left").unwrap();
        let first = TempFile::create(dir.path()).unwrap();
        let second = TempFile::create(dir.path()).unwrap();
        assert!(first.path().ends_with(".coracle-0.tmp") && second.path().ends_with(".coracle-1.tmp"));
        assert_eq!(fs::metadata(first.path()).unwrap().len(), 0);
        // And of several.
        [2, 4].iter().for_each(|slot| fs::write(slot_path(dir.path(), *slot), b"left").unwrap());
        drop(first);
        let third = TempFile::create(dir.path()).unwrap();
        assert!(third.path().ends_with(".coracle-0.tmp") && second.path().exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop((third, second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
