use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::active::remove_all;
use super::lock::Lock;
use super::prune::{What, age};
use super::{Act, CacheMounts, Keep, LayerId, PruneOptions, Store, StoreError};
use crate::oci::{ChainId, DiffId, Digest};

/// The largest manifest or configuration that is read.
const MAX_DOCUMENT: u64 = 8 << 20;

/// How long [`Store::collect`] waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What [`Store::collect`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Blobs that nothing refers to.
    pub blobs: u64,
    /// Layers on disk.
    pub layers: u64,
    /// Entries of the build cache.
    pub cache_entries: u64,
    /// Things that processes left half-made.
    pub leftovers: u64,
    /// Bytes on disk that all this took.
    pub bytes: u64,
    /// Things that could not be removed: files of other ids, outside the user namespace in which they were made.
    pub failed: u64,
    #[serde(skip)]
    act: Act,
}

/// What is still in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Marked {
    pub(super) blobs: BTreeSet<Digest>,
    /// Manifests and indexes that were followed. To be named is not enough: what is a manifest may be named as a layer, too.
    read: BTreeSet<Digest>,
    pub(super) layers: BTreeSet<LayerId>,
    chains: BTreeSet<ChainId>,
}

/// How long half a download is kept by those who leave the cache: the next pull goes on with it.
const DOWNLOADS: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Removes what is no longer in use from the store in the folder `root`. Where other processes use it, calls `on_wait` and
    /// waits for them, a minute at the most: what a running build needs is never removed. To [`Act::Look`] waits for nobody.
    ///
    /// # Errors
    /// [`StoreError::Busy`] after that minute; others where the store cannot be read. Then nothing was removed.
    pub fn collect(root: &Path, options: &PruneOptions, on_wait: &dyn Fn()) -> Result<Collected, StoreError> {
        if options.act == Act::Look {
            let store = Store::open_read(root)?;
            let marked = store.marked(options)?;
            let gone = store.going(options, &marked)?;
            return store.sweep(options, marked, &gone, Act::Look);
        }
        let store = Store::open(root)?;
        // Nobody need wait to hear that it cannot be read.
        store.marked(options)?;
        let root = store.root().to_path_buf();
        drop(store);
        // From here on nobody else is in the store, and nobody comes in. In between names may have come, and parts of what had
        // one, so nothing counts that was found before.
        let _alone = Lock::exclusive(&root.join("lock"), LONGEST_WAIT, on_wait)?;
        let store = Store::unlocked(&root);
        let marked = store.marked(options)?;
        let gone = store.going(options, &marked)?;
        store.sweep(options, marked, &gone, Act::Remove)
    }

    fn marked(&self, options: &PruneOptions) -> Result<Marked, StoreError> {
        let mut marked = Marked::default();
        for digest in self.roots()? {
            self.mark(digest, &mut marked);
        }
        self.mark_unnamed(options, &mut marked)?;
        Ok(marked)
    }

    /// Returns what of the cache goes.
    fn going(&self, options: &PruneOptions, marked: &Marked) -> Result<BTreeSet<What>, StoreError> {
        let units = self.units(marked);
        let mut gone = self.old(&units, options);
        if let Some(most) = options.max_size {
            let garbage = self.sweep(options, marked.clone(), &gone, Act::Look)?.bytes;
            let have = disk_usage(self.root()).saturating_sub(garbage);
            self.make_room(&units, (have, most), options, &mut gone);
        }
        Ok(gone)
    }

    /// What index.json names, with or without a name of its own.
    pub(super) fn roots(&self) -> Result<Vec<Digest>, StoreError> {
        let entries = self.index_layout().entries()?.unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| crate::oci::digest_of(&entry.descriptor).ok()).collect())
    }

    /// Marks all that the document `digest` refers to, however deep. What cannot be read refers to nothing.
    pub(super) fn mark(&self, digest: Digest, marked: &mut Marked) {
        let mut todo = vec![digest];
        while let Some(digest) = todo.pop() {
            marked.blobs.insert(digest);
            if marked.read.insert(digest) {
                todo.extend(self.mark_parts(&digest, marked));
            }
        }
    }

    /// Marks what the manifest `digest` is made of; or returns the manifests in the index `digest`.
    fn mark_parts(&self, digest: &Digest, marked: &mut Marked) -> Vec<Digest> {
        let Some(document) = self.document(digest) else { return Vec::new() };
        let list =
            |name: &str| document.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(digest_in);
        let children = list("manifests").collect();
        marked.blobs.extend(list("layers"));
        let Some(config) = document.get("config").and_then(digest_in) else { return children };
        marked.blobs.insert(config);
        let diff_ids: Vec<DiffId> = self
            .document(&config)
            .and_then(|config| serde_json::from_value(config.pointer("/rootfs/diff_ids")?.clone()).ok())
            .unwrap_or_default();
        for chain in ChainId::chain(&diff_ids) {
            marked.chains.insert(chain);
            marked.layers.insert(LayerId::of_chain(chain));
            marked.layers.insert(self.layer_of_chain(chain));
        }
        children
    }

    /// Moves a folder out of the way, so that none of its names is ever there with half of the files. Returns where it is then.
    fn aside(&self, path: &Path, act: Act) -> PathBuf {
        if act == Act::Look {
            return path.to_path_buf();
        }
        let name = path.file_name().unwrap_or_default();
        let aside = self.tmp().join(name);
        if fs::rename(path, &aside).is_ok() { aside } else { path.to_path_buf() }
    }

    /// Returns whether the disk is all but full: then what may be needed again goes, too.
    fn is_crowded(&self) -> bool {
        let disk = rustix::fs::statvfs(self.root()).ok().filter(|disk| disk.f_blocks > 0);
        disk.is_some_and(|disk| disk.f_bavail.saturating_mul(20) < disk.f_blocks)
    }

    fn document(&self, digest: &Digest) -> Option<Value> {
        serde_json::from_slice(&self.read_blob(digest, MAX_DOCUMENT).ok()?).ok()
    }

    /// Removes what is neither marked nor of the cache, and what of the cache is `gone`; or only says what that is.
    fn sweep(
        &self,
        options: &PruneOptions,
        mut marked: Marked,
        gone: &BTreeSet<What>,
        act: Act,
    ) -> Result<Collected, StoreError> {
        let mut done = Collected { act, ..Collected::default() };
        // Cache entries first: an entry whose layer is gone would only be a miss, but a layer without an entry is lost.
        for file in files(&self.root().join("cache/steps"), 2) {
            let record = super::stamp::read_json::<Value>(&file);
            let layer: Option<LayerId> = record.and_then(|r| serde_json::from_value(r.get("layer")?.clone()).ok());
            match layer {
                // Steps of a named image stay too: its next build finds them.
                Some(layer) if marked.layers.contains(&layer) => {}
                Some(layer) if !gone.contains(&What::Layer(layer)) && self.layer_dir(&layer).is_dir() => {
                    marked.layers.insert(layer);
                }
                _ => done.remove(&file, Kind::CacheEntry),
            }
        }
        // What explains a step goes with its record.
        for file in files(&self.why_dir(), 1) {
            let has_record = |key: &str| self.cache_file(key).exists();
            // One that cannot be read explains nothing.
            if self.forget_why(&file, act, has_record).unwrap_or(true) {
                done.remove(&file, Kind::Record);
            }
        }
        for what in gone {
            if let What::Path(path) = what {
                // Half of a cache mount, or of a repository, must not be taken for one.
                let hidden = match path.starts_with(self.cache_mounts().root()) {
                    true if act == Act::Remove => CacheMounts::out_of_sight(path),
                    true => path.clone(),
                    false => self.aside(path, act),
                };
                done.remove(&hidden, Kind::CacheEntry);
                if let Some(lock) = super::prune::lock_of(path) {
                    done.remove(&lock, Kind::Record);
                }
            }
        }
        // The record that a layer is whole goes before its files, and both before its index: a kill in between leaves a layer
        // that nobody trusts.
        let mut snapshots = files(&self.root().join("snapshots"), 2);
        snapshots.sort_by_key(|file| file.extension().is_none());
        for file in snapshots {
            let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if !LayerId::from_hex(name).is_some_and(|id| marked.layers.contains(&id)) {
                done.remove(&self.aside(&file, act), Kind::Record);
            }
        }
        for file in files(&self.root().join("layers"), 1) {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(chain) = name.strip_prefix("chain-").and_then(|name| name.strip_suffix(".json")) {
                let chain = format!("sha256:{chain}").parse().ok().map(ChainId);
                if !chain.is_some_and(|chain| marked.chains.contains(&chain)) {
                    done.remove(&file, Kind::Record);
                }
                continue;
            }
            match LayerId::from_hex(name) {
                Some(id) if marked.layers.contains(&id) => {
                    for record in files(&file, 1) {
                        let digest = super::stamp::read_json::<Value>(&record).and_then(|r| digest_in(&r));
                        marked.blobs.extend(digest);
                    }
                }
                _ => done.remove(&self.aside(&file, act), Kind::Layer),
            }
        }
        for file in files(&self.layout().join("blobs/sha256"), 1) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = format!("sha256:{name}").parse::<Digest>().ok();
            if !digest.is_some_and(|digest| marked.blobs.contains(&digest)) {
                done.remove(&file, Kind::Blob);
            }
        }
        for file in files(&self.root().join("origins"), 1) {
            let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = format!("sha256:{name}").parse::<Digest>().ok();
            if !digest.is_some_and(|digest| marked.blobs.contains(&digest)) {
                done.remove(&file, Kind::Record);
            }
        }
        let crowded = self.is_crowded();
        for file in files(&self.root().join("partial"), 1) {
            if options.keep == Keep::Named || crowded || age(&file) > DOWNLOADS {
                done.remove(&file, Kind::Leftover);
            }
        }
        for file in files(&self.root().join("uploads"), 1) {
            if options.keep == Keep::Named || age(&file) > super::uploads::LONGEST {
                done.remove(&file, Kind::Leftover);
            }
        }
        // Nobody else is here, so all that is still there is left over. Who only looks is not alone.
        for file in files(&self.tmp(), 1) {
            if act == Act::Remove {
                super::workplace::end_left_over(&file);
            } else if in_use(&file) {
                continue;
            }
            done.remove(&file, Kind::Leftover);
        }
        Ok(done)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Blob,
    Layer,
    CacheEntry,
    Leftover,
    /// Counts with something else.
    Record,
}

impl Collected {
    fn remove(&mut self, path: &Path, kind: Kind) {
        let bytes = disk_usage(path);
        if self.act == Act::Remove && remove_all(path).is_err() {
            self.failed += 1;
            return;
        }
        self.bytes += bytes;
        match kind {
            Kind::Blob => self.blobs += 1,
            Kind::Layer => self.layers += 1,
            Kind::CacheEntry => self.cache_entries += 1,
            Kind::Leftover => self.leftovers += 1,
            Kind::Record => {}
        }
    }
}

/// The files and folders `depth` levels below `dir`.
pub(super) fn files(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    for _ in 1..depth {
        found = found.iter().flat_map(fs::read_dir).flatten().flatten().map(|e| e.path()).collect();
    }
    found.sort();
    found
}

/// Whether somebody has a lock on the file or folder.
pub(super) fn in_use(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// Bytes on disk of the file or folder at `path`.
pub(super) fn disk_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut todo) = (0, vec![path.to_path_buf()]);
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

pub(super) fn digest_in(document: &Value) -> Option<Digest> {
    document.get("digest")?.as_str()?.parse().ok()
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
