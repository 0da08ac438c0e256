use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, Mode};

use super::blob::unique_name;
use super::workshop::{Blank, Scraps, Workshop};
use super::{Store, StoreError};

/// A thing younger than this in the folder for temporary things may not have been locked yet by its maker.
const GRACE: Duration = Duration::from_secs(10);

/// How the names of folders begin that have their locks before they have those names ([`Store::locked_dir`]): without a lock
/// nobody works in them, however young they are.
const LOCKED: [&str; 3] = [WORKSHOP, super::workplace::KIND, WHITEOUT];
pub(super) const WORKSHOP: &str = "active";
const WHITEOUT: &str = "whiteout";

/// A layer that is being made: folders in the locked one of its store, removed with all in them when the value is dropped. A
/// crash leaves that without its lock, and the next build removes it.
#[derive(Debug)]
pub struct Active {
    workshop: Arc<Workshop>,
    blank: Blank,
    bench: PathBuf,
    /// Whether there may be more on the bench than overlayfs' folder.
    strewn: AtomicBool,
    /// Whether somebody else removes what is left.
    left: bool,
}

impl Active {
    pub(super) fn new(workshop: Arc<Workshop>, blank: Blank, bench: PathBuf) -> Self {
        Active { workshop, blank, bench, strewn: AtomicBool::new(false), left: false }
    }

    /// Returns a folder for what goes with the making of this layer, and ends with it.
    pub fn dir(&self) -> &Path {
        self.strewn.store(true, Ordering::Relaxed);
        &self.bench
    }

    /// Returns the folder of the layer's own files, which is there and empty at first: overlayfs' `upperdir`.
    pub fn upper(&self) -> PathBuf {
        self.blank.upper.clone()
    }

    /// Returns an empty folder on the same file system: overlayfs' `workdir`.
    pub fn work(&self) -> PathBuf {
        self.bench.join("work")
    }

    /// Returns the folder that becomes that of the layer's index, empty at first.
    pub(super) fn sheet(&self) -> &Path {
        &self.blank.sheet
    }

    /// Returns what is to be removed when the kernel has let go of it: the bench, and `others`.
    pub(super) fn into_scraps(mut self, others: Vec<PathBuf>) -> (Arc<Workshop>, Scraps) {
        self.left = true;
        let scraps = Scraps { bench: self.bench.clone(), strewn: self.strewn.load(Ordering::Relaxed), others };
        (Arc::clone(&self.workshop), scraps)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        for path in [&self.blank.upper, &self.blank.sheet, &self.bench] {
            // What cannot be removed now is removed by the next build.
            let _ = remove_all(path);
        }
    }
}

impl Store {
    /// Returns a new folder for things that are being made, with a lock on it; its name begins with `kind`, one of [`LOCKED`].
    pub(super) fn locked_dir(&self, kind: &str) -> Result<(PathBuf, File), StoreError> {
        let name = format!("{kind}-{}", unique_name());
        let new = self.tmp().join(format!(".{name}"));
        let dir = self.tmp().join(name);
        make_dir(&new, 0o700)?;
        let lock = File::open(&new).map_err(|source| StoreError::io("open", &new, source))?;
        lock.lock().map_err(|source| StoreError::io("lock", &new, source))?;
        fs::rename(&new, &dir).map_err(|source| StoreError::io("rename", &new, source))?;
        Ok((dir, lock))
    }

    /// Returns whether a whiteout can be made here as overlayfs has it: not on overlayfs itself, and not by an ordinary user of an
    /// old kernel.
    pub fn has_whiteouts(&self) -> bool {
        *self.whiteouts.get_or_init(|| {
            let Ok((dir, _lock)) = self.locked_dir(WHITEOUT) else { return true };
            let name = dir.join("0");
            let made = rustix::fs::mknodat(rustix::fs::CWD, &name, FileType::CharacterDevice, Mode::empty(), 0);
            let _ = remove_all(&dir);
            !matches!(made, Err(rustix::io::Errno::PERM))
        })
    }

    /// Removes what processes that are gone left in the folder for temporary things. Files of other ids can be removed
    /// only inside the user namespace in which they were made; what cannot be removed stays.
    pub fn clean(&self) {
        let Ok(entries) = fs::read_dir(self.tmp()) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let young = |meta: fs::Metadata| meta.modified().ok()?.elapsed().ok().map(|age| age < GRACE);
            let name = entry.file_name();
            let is_locked = LOCKED.iter().any(|kind| name.as_encoded_bytes().starts_with(kind.as_bytes()));
            if !is_locked && entry.metadata().ok().and_then(young).unwrap_or(true) {
                continue;
            }
            // Its maker holds the lock as long as it lives.
            let Ok(file) = File::open(&path) else { continue };
            let is_there = |meta: fs::Metadata| {
                fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino()))
            };
            if file.try_lock().is_ok() && file.metadata().is_ok_and(is_there) {
                super::workplace::end_left_over(&path);
                let _ = remove_all(&path);
            }
        }
    }
}

/// Makes a folder with just this mode: the umask of the caller must not show in an image.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|source| StoreError::io("create", path, source))
}

/// Removes the file or folder at `path` and all in it, also folders that forbid their owner to.
pub(crate) fn remove_all(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    // Overlayfs leaves folders of mode 000, and images have read-only ones.
    let mut todo = vec![path.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        todo.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    fs::remove_dir_all(path)
}
