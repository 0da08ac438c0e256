use std::fs::File;
use std::path::{Path, PathBuf};

use super::active::{make_dir, remove_all};
use super::{Store, StoreError};

/// How the names of these folders begin.
pub(super) const KIND: &str = "tree";

/// A folder for the files of a stage that its steps work on in place: locked, and removed with all in it when the value is
/// dropped. A crash leaves the folder without its lock, and the next build removes it.
#[derive(Debug)]
pub struct Workplace {
    dir: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Returns a number for all processes that work in it, by which those that were left over are found.
    pub fn mark(&self) -> u64 {
        mark_of(&self.dir)
    }

    /// Returns the folder, for what goes with the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the folder of the files: the root of a container. It is there, and empty at first.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Returns an empty folder for what is moved out of the way of a step, on the same file system.
    pub fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }
}

/// Returns the number for the folder `dir`: from its name, in which there is a time. FNV-1a; the highest number means
/// "unlimited", which every process has.
fn mark_of(dir: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let name = dir.file_name().unwrap_or_default().as_bytes();
    let hash =
        name.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash >> 2 | 1 << 61
}

/// Ends the processes that still work in the folder `dir`, if it is one to work in, though nobody holds its lock: somebody
/// killed their build and all who watched over them.
pub(super) fn end_left_over(dir: &Path) {
    if dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(KIND.as_bytes())) {
        coracle_runtime::container::end_marked(mark_of(dir));
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        let _ = remove_all(&self.dir);
    }
}

impl Store {
    /// Returns a new folder to work in, empty.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn workplace(&self) -> Result<Workplace, StoreError> {
        let (dir, lock) = self.locked_dir(KIND)?;
        let place = Workplace { dir, _lock: lock };
        make_dir(&place.root(), 0o755)?;
        make_dir(&place.aside(), 0o700)?;
        Ok(place)
    }
}
