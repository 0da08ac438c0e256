use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::stamp::{Stamp, read_json};
use super::{Active, Index, LayerId, Store, StoreError, ViewLayer};
use crate::oci::{ChainId, DiffId, Digest};

/// How a layer was packed: the blob that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The media type of the blob.
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The digest of the tar in it.
    pub diff_id: DiffId,
}

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotRecord {
    stamp: Stamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedRecord {
    stamp: Stamp,
    #[serde(flatten)]
    packed: Packed,
}

/// What a cache elsewhere says, and was found to be so: its blob holds the layer.
#[derive(Debug, Serialize, Deserialize)]
struct ClaimRecord {
    from: String,
    #[serde(flatten)]
    record: PackedRecord,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChainRecord {
    stamp: Stamp,
    layer: LayerId,
}

/// How the name of the record of a blob from elsewhere ends.
const CLAIM: &str = ".from.json";

impl Store {
    /// Returns whether the files of the layer are on disk, made under the id map `realm`.
    pub fn has_snapshot(&self, realm: &str, id: &LayerId) -> bool {
        self.snapshot(realm, id).is_some()
    }

    /// Returns the folder with the files of the layer, if they are on disk, made under the id map `realm`.
    fn snapshot(&self, realm: &str, id: &LayerId) -> Option<Arc<Path>> {
        // Nobody removes a layer while this store is open.
        if let Some(known) = self.whole.lock().unwrap_or_else(PoisonError::into_inner).get(id)
            && let Some((_, dir)) = known.iter().find(|(other, _)| other == realm)
        {
            return Some(Arc::clone(dir));
        }
        let dir = self.snapshot_dir(realm, id);
        let whole = read_json::<SnapshotRecord>(&dir.with_extension("json"))
            .is_some_and(|record| self.is_whole(&record.stamp))
            && dir.is_dir()
            && self.layer_dir(id).join("index").is_file();
        whole.then(|| self.found_whole(realm, id, dir))
    }

    fn found_whole(&self, realm: &str, id: &LayerId, dir: PathBuf) -> Arc<Path> {
        let dir: Arc<Path> = dir.into();
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let of_layer = whole.entry(*id).or_default();
        of_layer.retain(|(other, _)| other != realm);
        of_layer.push((realm.to_owned(), Arc::clone(&dir)));
        dir
    }

    /// Returns the layer as part of a [`View`](super::View); `None` where its files are not on disk.
    ///
    /// # Errors
    /// [`StoreError`] where its index cannot be read.
    pub fn layer(&self, realm: &str, id: &LayerId) -> Result<Option<ViewLayer>, StoreError> {
        let Some(dir) = self.snapshot(realm, id) else { return Ok(None) };
        Ok(self.index(id)?.map(|index| ViewLayer { id: *id, index, dir }))
    }

    /// Returns what is in the layer; `None` where the store does not know it.
    ///
    /// # Errors
    /// [`StoreError`] where its index cannot be read.
    pub fn index(&self, id: &LayerId) -> Result<Option<Arc<Index>>, StoreError> {
        if let Some(known) = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        match Index::read(&self.layer_dir(id).join("index")) {
            Ok(index) => {
                let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Some(Arc::clone(loaded.entry(*id).or_insert_with(|| Arc::new(index)))))
            }
            // A damaged index is as good as none: the layer is made anew.
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores the files in `active`, of which `index` tells what they are, and returns the layer. For a layer that came
    /// with an image, `id` is its chain id; else the id follows from the index. Where the layer is there already, the
    /// files are dropped.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn commit(
        &self,
        active: Active,
        realm: &str,
        id: Option<LayerId>,
        index: Index,
    ) -> Result<ViewLayer, StoreError> {
        let sheet = active.sheet();
        let own = index.write(&sheet.join("index"))?;
        let id = id.unwrap_or(own);
        let index = Arc::new(index);
        let dir = self.snapshot_dir(realm, &id);
        let layer_dir = self.layer_dir(&id);
        // Two processes that make the same layer take turns here: whose folder gets the place has its turn already.
        let mut turn = Lock::of_folder(sheet)?;
        let is_new = match fs::rename(sheet, &layer_dir) {
            Ok(()) => true,
            Err(error) if is_occupied(&error) => false,
            Err(source) => return Err(StoreError::io("rename", sheet, source)),
        };
        let mut others = Vec::new();
        if !is_new {
            turn = Lock::of_folder(&layer_dir)?;
            others.push(sheet.to_path_buf());
        }
        if !is_new && self.has_snapshot(realm, &id) && Index::read(&layer_dir.join("index")).is_ok() {
            others.push(active.upper());
        } else {
            let record = dir.with_extension("json");
            if is_new {
                put_files(&active, &record, &dir)?;
            } else {
                make_room(&active, &record, &dir)?;
                put_files(&active, &record, &dir)?;
                rename(&sheet.join("index"), &layer_dir.join("index"))?;
            }
            self.write_json(&record, &SnapshotRecord { stamp: Stamp::now() })?;
        }
        drop(turn);
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&index));
        // Whole it is, whatever its stamp says: without a /proc no stamp is trusted.
        let dir = self.found_whole(realm, &id, dir);
        self.leave(active, others);
        Ok(ViewLayer { id, index, dir })
    }

    /// Returns the blob that was made of the layer here, packed in the way that `variant` names; `None` where there is none.
    pub fn packed(&self, id: &LayerId, variant: &str) -> Option<Packed> {
        self.usable(read_json(&self.layer_dir(id).join(format!("{variant}.json")))?)
    }

    /// Returns the blob that holds the layer, packed in the way that `variant` names as one of the caches `from` says, from which it
    /// was brought; `None` where there is none.
    pub fn claimed(&self, id: &LayerId, variant: &str, from: &[String]) -> Option<Packed> {
        if from.is_empty() {
            return None;
        }
        let claim: ClaimRecord = read_json(&self.layer_dir(id).join(format!("{variant}{CLAIM}")))?;
        self.usable(claim.record).filter(|_| from.contains(&claim.from))
    }

    fn usable(&self, record: PackedRecord) -> Option<Packed> {
        (self.is_whole(&record.stamp) && self.has_blob(&record.packed.digest)).then_some(record.packed)
    }

    /// Returns any blob that holds the layer unchanged, to unpack it again; `None` where there is none. The files of one from elsewhere
    /// are those of the layer, but it need not be the blob that would be made here.
    pub fn packed_any(&self, id: &LayerId) -> Option<Packed> {
        let names = self.unchanged(id)?;
        let own = names.iter().filter(|name| !name.ends_with(CLAIM)).find_map(|name| {
            let variant = name.strip_suffix(".json")?;
            self.packed(id, variant)
        });
        let claims = || names.iter().filter(|name| name.ends_with(CLAIM));
        let claimed = |name: &String| self.usable(read_json::<ClaimRecord>(&self.layer_dir(id).join(name))?.record);
        own.or_else(|| claims().find_map(claimed))
    }

    /// Returns any blob that holds the layer unchanged, made here or brought from one of the caches `from`, and the name of the way in
    /// which it is packed; `None` where there is none.
    pub fn packed_as_it_is(&self, id: &LayerId, from: &[String]) -> Option<(String, Packed)> {
        let names = self.unchanged(id)?;
        let own = |name: &String| {
            let variant = name.strip_suffix(".json").filter(|_| !name.ends_with(CLAIM))?;
            Some((variant.to_owned(), self.packed(id, variant)?))
        };
        let claimed = |name: &String| {
            let variant = name.strip_suffix(CLAIM)?;
            Some((variant.to_owned(), self.claimed(id, variant, from)?))
        };
        names.iter().find_map(own).or_else(|| names.iter().find_map(claimed))
    }

    /// The names of the records of blobs in which no times were changed.
    fn unchanged(&self, id: &LayerId) -> Option<Vec<String>> {
        let files = fs::read_dir(self.layer_dir(id)).ok()?.flatten();
        let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".json") && !name.contains('@'));
        names.sort();
        Some(names)
    }

    /// Records that the blob `packed` was made of the layer here. A `variant` with a `@` in it has changed times.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_packed(&self, id: &LayerId, variant: &str, packed: &Packed) -> Result<(), StoreError> {
        let record = PackedRecord { stamp: Stamp::now(), packed: packed.clone() };
        self.write_json(&self.layer_dir(id).join(format!("{variant}.json")), &record)
    }

    /// Records that the blob `packed` holds the layer, as who calls this has seen, and that the cache `from` says that it is packed in
    /// the way `variant`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_claimed(&self, id: &LayerId, variant: &str, packed: &Packed, from: &str) -> Result<(), StoreError> {
        let dir = self.layer_dir(id);
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        let record = PackedRecord { stamp: Stamp::now(), packed: packed.clone() };
        self.write_json(&dir.join(format!("{variant}{CLAIM}")), &ClaimRecord { from: from.into(), record })
    }

    /// Forgets that the blob `digest` holds the layer: it was seen that it does not.
    pub fn forget_packed(&self, id: &LayerId, digest: &Digest) {
        let files = fs::read_dir(self.layer_dir(id)).into_iter().flatten().flatten();
        for file in files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "json")) {
            if read_json::<PackedRecord>(&file).is_some_and(|record| record.packed.digest == *digest) {
                let _ = fs::remove_file(file);
            }
        }
    }

    /// Records that the stack of layers `chain` has the layer `id` on top, so that an image that was built here is not
    /// unpacked when it is built upon.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn remember_chain(&self, chain: ChainId, id: &LayerId) -> Result<(), StoreError> {
        self.write_json(&self.chain_file(chain), &ChainRecord { stamp: Stamp::now(), layer: *id })
    }

    /// Returns the name in the store of the top layer of the stack `chain`: that of a layer built here, else its own.
    pub fn layer_of_chain(&self, chain: ChainId) -> LayerId {
        read_json::<ChainRecord>(&self.chain_file(chain))
            .filter(|record| self.is_whole(&record.stamp))
            .map_or_else(|| LayerId::of_chain(chain), |record| record.layer)
    }

    /// Forgets what layer the stack `chain` has on top: it was seen that it is another.
    pub fn forget_chain(&self, chain: ChainId) {
        let _ = fs::remove_file(self.chain_file(chain));
    }

    fn chain_file(&self, chain: ChainId) -> PathBuf {
        self.root().join("layers").join(format!("chain-{}.json", chain.0.hex()))
    }

    pub(super) fn layer_dir(&self, id: &LayerId) -> PathBuf {
        self.root().join("layers").join(id.to_string())
    }

    /// Returns the folder in which the files of the layer lie, or would lie.
    pub fn snapshot_dir(&self, realm: &str, id: &LayerId) -> PathBuf {
        self.root().join("snapshots").join(realm).join(id.to_string())
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))
}

/// Takes away what lies where the files of a layer and the record of them belong: it is half of something, so first nobody must
/// trust it, then it goes.
fn make_room(active: &Active, record: &Path, dir: &Path) -> Result<(), StoreError> {
    for (old, name) in [(record, "old.json"), (dir, "old")] {
        match fs::rename(old, active.dir().join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("rename", old, source)),
        }
    }
    Ok(())
}

/// Moves the files of a layer to `dir`.
fn put_files(active: &Active, record: &Path, dir: &Path) -> Result<(), StoreError> {
    match fs::rename(active.upper(), dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The first layer of its realm.
            let realm = dir.parent().unwrap_or(dir);
            fs::create_dir_all(realm).map_err(|source| StoreError::io("create", realm, source))?;
        }
        Err(error) if is_occupied(&error) => make_room(active, record, dir)?,
        Err(source) => return Err(StoreError::io("rename", &active.upper(), source)),
    }
    rename(&active.upper(), dir)
}

/// Whether a folder could not be moved because there is one already, with something in it.
fn is_occupied(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}
