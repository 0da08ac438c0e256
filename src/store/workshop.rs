use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::active::{make_dir, remove_all};
use super::{Active, Store, StoreError};

/// The folder in which a process makes layers, and the files that go with them: locked, and removed with all in it when the value is
/// dropped. One for all, because it lies in a part of the disk of its own, and a new one costs reads of another part. What is made in it is
/// moved to its place; of what is left there, the next layer takes what it can use.
#[derive(Debug)]
pub(super) struct Workshop {
    dir: PathBuf,
    _lock: File,
    /// Numbers the names in the folder.
    serial: AtomicU32,
    stock: Mutex<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    /// Folders for layers, made ahead.
    blanks: Vec<Blank>,
    /// Benches with nothing on them.
    benches: Vec<PathBuf>,
    /// What is left of layers that are done, the latest last.
    scraps: Vec<Scraps>,
}

/// The folders of a layer that is not yet made.
#[derive(Debug)]
pub(super) struct Blank {
    /// For its index: it becomes the layer's folder.
    pub(super) sheet: PathBuf,
    /// For its files.
    pub(super) upper: PathBuf,
}

/// What is left of a layer that is done.
#[derive(Debug)]
pub(super) struct Scraps {
    /// The folder that has overlayfs' `workdir` in it.
    pub(super) bench: PathBuf,
    /// Whether there are other things in it.
    pub(super) strewn: bool,
    /// What else is to be removed.
    pub(super) others: Vec<PathBuf>,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        let _ = remove_all(&self.dir);
    }
}

impl Workshop {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a path in the folder that nobody had before.
    pub(super) fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}-{kind}", self.serial.fetch_add(1, Ordering::Relaxed)))
    }

    /// Returns the folders for a layer, and its bench.
    pub(super) fn take(&self) -> Result<(Blank, PathBuf), StoreError> {
        let (blank, bench) = {
            let mut stock = self.stock();
            (stock.blanks.pop(), stock.benches.pop())
        };
        let blank = blank.map_or_else(|| self.blank(), Ok)?;
        Ok((blank, bench.map_or_else(|| self.bench(), Ok)?))
    }

    fn blank(&self) -> Result<Blank, StoreError> {
        let blank = Blank { sheet: self.path("layer"), upper: self.path("upper") };
        fs::create_dir(&blank.sheet).map_err(|source| StoreError::io("create", &blank.sheet, source))?;
        make_dir(&blank.upper, 0o755)?;
        Ok(blank)
    }

    fn bench(&self) -> Result<PathBuf, StoreError> {
        let bench = self.path("bench");
        make_dir(&bench, 0o700)?;
        make_dir(&bench.join("work"), 0o755)?;
        Ok(bench)
    }

    /// Replaces the file at `path`, whose folder is made where it is missing.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let own = self.path("file");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own)?;
            file.write_all(bytes)?;
            drop(file);
            match fs::rename(&own, path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_parent(path)?;
                    fs::rename(&own, path)
                }
                result => result,
            }
        };
        write().inspect_err(|_| drop(fs::remove_file(&own)))
    }

    /// Makes the folder of `path`. A new folder lies where the one lies that it is made in; here that is where no inodes were freed lately,
    /// which ext4 may pass over one by one.
    fn make_parent(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let own = self.path("folder");
        fs::create_dir(&own)?;
        if fs::rename(&own, parent).is_ok() {
            return Ok(());
        }
        let _ = fs::remove_dir(&own);
        fs::create_dir_all(parent)
    }
}

impl Store {
    /// Returns the folder in which this process makes layers, if it makes any.
    pub(super) fn open_workshop(&self) -> Option<Arc<Workshop>> {
        self.workshop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn workshop(&self) -> Result<Arc<Workshop>, StoreError> {
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = workshop.as_ref() {
            return Ok(Arc::clone(there));
        }
        let (dir, lock) = self.locked_dir(super::active::WORKSHOP)?;
        let new = Workshop { dir, _lock: lock, serial: AtomicU32::new(0), stock: Mutex::default() };
        Ok(Arc::clone(workshop.insert(Arc::new(new))))
    }

    /// Returns a new layer, empty.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn prepare(&self) -> Result<Active, StoreError> {
        let workshop = self.workshop()?;
        let (blank, bench) = workshop.take()?;
        Ok(Active::new(workshop, blank, bench))
    }

    /// Makes what the next [`prepare`](Self::prepare) needs: for a thread that has time for it.
    pub fn prepare_ahead(&self) {
        let Some(workshop) = self.open_workshop() else { return };
        if workshop.stock().blanks.is_empty()
            && let Ok(blank) = workshop.blank()
        {
            workshop.stock().blanks.push(blank);
        }
    }

    /// Clears away what is left of the layers that are done, but of the last one: for a thread that has time for it. Otherwise it goes
    /// with the store. Overlayfs may still let go of the last one, and the kernel would wait for that with a busy processor.
    pub fn sweep_workshop(&self) {
        let Some(workshop) = self.open_workshop() else { return };
        let done = {
            let mut stock = workshop.stock();
            let last = stock.scraps.len().saturating_sub(1);
            let rest = stock.scraps.split_off(last);
            std::mem::replace(&mut stock.scraps, rest)
        };
        for Scraps { bench, strewn, others } in done {
            // What cannot be removed now goes with the rest.
            others.iter().for_each(|other| drop(remove_all(other)));
            if !strewn && clear(&bench.join("work")).is_ok() {
                workshop.stock().benches.push(bench);
            } else {
                let _ = remove_all(&bench);
            }
        }
    }

    /// Leaves what is left of a layer that is done to [`sweep_workshop`](Self::sweep_workshop).
    pub(super) fn leave(&self, active: Active, others: Vec<PathBuf>) {
        let (workshop, scraps) = active.into_scraps(others);
        workshop.stock().scraps.push(scraps);
    }
}

/// Removes what overlayfs made in the folder `work`. It takes no folder in which something of an earlier mount is left.
fn clear(work: &Path) -> io::Result<()> {
    let made = work.join("work");
    // For nearly every step this is all. What is left then is found below.
    let marks = made.join("incompat/volatile");
    let _ = fs::remove_file(marks.join("dirty"));
    let _ = fs::remove_dir(&marks);
    let _ = fs::remove_dir(made.join("incompat"));
    if fs::remove_dir(&made).is_err() {
        remove_all(&made)?;
    }
    match fs::read_dir(work)?.next() {
        None => Ok(()),
        Some(_) => Err(ErrorKind::DirectoryNotEmpty.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Index;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    /// What overlayfs leaves.
    fn mounted(active: &Active) {
        let marks = active.work().join("work/incompat/volatile");
        fs::create_dir_all(&marks).unwrap();
        fs::write(marks.join("dirty"), "").unwrap();
    }

    fn commit(store: &Store, active: Active) {
        store.commit(active, "direct", None, Index::default()).unwrap();
    }

    #[test]
    fn what_is_left_of_a_layer_serves_another_one_later() {
        let (_dir, store) = store();
        let first = store.prepare().unwrap();
        let work = first.work();
        mounted(&first);
        commit(&store, first);
        store.sweep_workshop();
        // The kernel may not have let go of it.
        let second = store.prepare().unwrap();
        assert_ne!(second.work(), work);
        mounted(&second);
        commit(&store, second);
        store.sweep_workshop();
        let third = store.prepare().unwrap();
        assert_eq!(third.work(), work);
        assert_eq!(fs::read_dir(third.work()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(third.upper()).unwrap().count(), 0);
    }

    #[test]
    fn a_bench_with_other_things_on_it_is_not_used_again() {
        let (_dir, store) = store();
        let first = store.prepare().unwrap();
        let work = first.work();
        fs::write(first.dir().join("script"), "").unwrap();
        let strange = store.prepare().unwrap();
        fs::create_dir(strange.work().join("index")).unwrap();
        let works = [work, strange.work()];
        commit(&store, first);
        commit(&store, strange);
        commit(&store, store.prepare().unwrap());
        store.sweep_workshop();
        assert!(works.iter().all(|work| !work.exists()));
    }

    #[test]
    fn layers_made_ahead_are_empty_and_go_with_the_store() {
        let (_dir, store) = store();
        store.prepare_ahead();
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
        let first = store.prepare().unwrap();
        store.prepare_ahead();
        store.prepare_ahead();
        assert_eq!(store.open_workshop().unwrap().stock().blanks.len(), 1);
        let second = store.prepare().unwrap();
        assert_ne!(first.upper(), second.upper());
        assert_eq!(fs::read_dir(second.upper()).unwrap().count(), 0);
        store.prepare_ahead();
        drop((first, second));
        let tmp = store.tmp();
        drop(store);
        assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_replaced_and_its_folder_made() {
        let (dir, store) = store();
        let active = store.prepare().unwrap();
        let path = dir.path().join("cache/a/b/file");
        for text in ["one", "two"] {
            store.write_file(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        drop(active);
    }
}
