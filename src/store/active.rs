use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode};

use super::{Store, StoreError};

/// A thing younger than this in the folder for temporary things may not have been locked yet by its maker.
const GRACE: Duration = Duration::from_secs(10);

/// A layer that is being made: a folder in the locked one of its store, removed with all in it when the value is dropped. A
/// crash leaves that without its lock, and the next build removes it.
#[derive(Debug)]
pub struct Active {
    dir: PathBuf,
}

/// The folder in which a store makes layers: locked, and removed when the value is dropped. One for all layers, because a new
/// one costs reads of another part of the disk.
#[derive(Debug)]
pub(super) struct Workshop {
    dir: PathBuf,
    _lock: File,
    /// What is left of layers that are done, to be removed.
    scraps: Mutex<Vec<PathBuf>>,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        let _ = remove_all(&self.dir);
    }
}

impl Active {
    /// Returns the folder of this layer, for what goes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the folder of the layer's own files, which is there and empty at first: overlayfs' `upperdir`.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Returns an empty folder on the same file system: overlayfs' `workdir`.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build. Of one that was left nothing is here.
        let _ = remove_all(&self.dir);
    }
}

impl Store {
    /// Returns a new layer, empty.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn prepare(&self) -> Result<Active, StoreError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let active = Active { dir: self.workshop()?.dir.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string()) };
        make_dir(&active.dir, 0o700)?;
        make_dir(&active.upper(), 0o755)?;
        make_dir(&active.work(), 0o755)?;
        Ok(active)
    }

    fn workshop(&self) -> Result<Arc<Workshop>, StoreError> {
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = workshop.as_ref() {
            return Ok(Arc::clone(there));
        }
        let (dir, lock) = self.locked_dir("active")?;
        Ok(Arc::clone(workshop.insert(Arc::new(Workshop { dir, _lock: lock, scraps: Mutex::default() }))))
    }

    /// Leaves what is left of a layer that is done to [`sweep_workshop`](Self::sweep_workshop).
    pub(super) fn leave(&self, mut active: Active) {
        if let Ok(workshop) = self.workshop() {
            let dir = std::mem::take(&mut active.dir);
            workshop.scraps.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
        }
    }

    /// Removes what is left of the layers that are done, but of the last one: for a thread that has time for it. Otherwise it goes
    /// with the store. Overlayfs may still let go of the last one, and the kernel would wait for that with a busy processor.
    pub fn sweep_workshop(&self) {
        let workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(workshop) = workshop else { return };
        let scraps = {
            let mut scraps = workshop.scraps.lock().unwrap_or_else(PoisonError::into_inner);
            let last = scraps.len().saturating_sub(1);
            let rest = scraps.split_off(last);
            std::mem::replace(&mut *scraps, rest)
        };
        for dir in scraps {
            // What cannot be removed now goes with the rest.
            let _ = remove_all(&dir);
        }
    }

    /// Returns a new folder for things that are being made, with a lock on it; its name begins with `kind`.
    pub(super) fn locked_dir(&self, kind: &str) -> Result<(PathBuf, File), StoreError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let name = format!("{kind}-{}-{count}-{:x}{:08x}", std::process::id(), nanos.tv_sec, nanos.tv_nsec);
        let dir = self.tmp().join(name);
        make_dir(&dir, 0o700)?;
        let lock = File::open(&dir).map_err(|source| StoreError::io("open", &dir, source))?;
        lock.lock().map_err(|source| StoreError::io("lock", &dir, source))?;
        Ok((dir, lock))
    }

    /// Returns whether a whiteout can be made here as overlayfs has it: not on overlayfs itself, and not by an ordinary user of an
    /// old kernel.
    pub fn has_whiteouts(&self) -> bool {
        *self.whiteouts.get_or_init(|| {
            let Ok((dir, _lock)) = self.locked_dir("whiteout") else { return true };
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
            if entry.metadata().ok().and_then(young).unwrap_or(true) {
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
