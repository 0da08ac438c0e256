use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::gc::{Marked, disk_usage, files};
use super::{LayerId, Store, StoreError};
use crate::oci::{MAX_DOCUMENT, digest_of};

/// What [`Store::collect`] leaves in the store, however little room there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// Images with a name, and the build cache.
    #[default]
    Cache,
    /// Images with a name, and nothing else.
    Named,
}

/// Whether [`Store::collect`] removes anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Act {
    /// It does.
    #[default]
    Remove,
    /// It only says what it would remove.
    Look,
}

/// A condition on the labels of images without a name: only those for which it holds are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelIs {
    /// The label.
    pub key: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
    /// Whether the image has it, or has it not.
    pub wanted: bool,
}

/// What goes and what stays. Never does an image with a name go, nor what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// What stays in any case.
    pub keep: Keep,
    /// How many bytes the store may have: of the cache, what was not used for the longest time goes until it has no more.
    pub max_size: Option<u64>,
    /// What was used within this time stays; of the cache, what was not goes.
    pub keep_for: Option<Duration>,
    /// Of images without a name only those go for which all of these hold; with any of them, the cache stays.
    pub labels: Vec<LabelIs>,
    /// Whether anything is removed.
    pub act: Act,
}

/// A thing of the cache that goes or stays as a whole.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) what: What,
    used: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The steps that made this layer, and the layer.
    Layer(LayerId),
    /// A file or a folder by itself.
    Path(PathBuf),
}

impl Store {
    /// Marks the images without a name that stay.
    pub(super) fn mark_unnamed(&self, options: &PruneOptions, marked: &mut Marked) -> Result<(), StoreError> {
        if options.labels.is_empty() && options.keep_for.is_none() {
            return Ok(());
        }
        for descriptor in self.unnamed()? {
            let digest = digest_of(&descriptor)?;
            let young = options.keep_for.is_some_and(|span| age(&self.blob_path(&digest)) < span);
            let labels = self.labels(&digest).unwrap_or_default();
            let fits = options.labels.iter().all(|label| {
                let found = labels.get(&label.key).and_then(Value::as_str);
                found.is_some_and(|found| label.value.as_deref().is_none_or(|value| value == found)) == label.wanted
            });
            if young || !fits {
                self.mark(digest, marked);
            }
        }
        Ok(())
    }

    fn labels(&self, manifest: &crate::oci::Digest) -> Option<Value> {
        let manifest: Value = serde_json::from_slice(&self.read_blob(manifest, MAX_DOCUMENT).ok()?).ok()?;
        let config = manifest.pointer("/config/digest")?.as_str()?.parse().ok()?;
        let config: Value = serde_json::from_slice(&self.read_blob(&config, MAX_DOCUMENT).ok()?).ok()?;
        config.pointer("/config/Labels").cloned()
    }

    /// Returns what of the cache no image with a name needs, the longest unused first.
    pub(super) fn units(&self, marked: &Marked) -> Vec<Unit> {
        let mut layers: BTreeMap<LayerId, SystemTime> = BTreeMap::new();
        for file in files(&self.root().join("cache/steps"), 2) {
            let record = super::stamp::read_json::<Value>(&file);
            let layer: Option<LayerId> = record.and_then(|r| serde_json::from_value(r.get("layer")?.clone()).ok());
            if let Some(layer) = layer.filter(|layer| !marked.layers.contains(layer)) {
                let used = used(&file);
                let latest = layers.entry(layer).or_insert(used);
                *latest = used.max(*latest);
            }
        }
        let mut units: Vec<Unit> =
            layers.into_iter().map(|(layer, used)| Unit { what: What::Layer(layer), used }).collect();
        for path in files(&self.root().join("cache/mounts"), 2) {
            let used = used(&path.join("id.json"));
            units.push(Unit { what: What::Path(path), used });
        }
        // When an image with a name was made is known as long as it has one: its next build makes the same.
        let stays = |path: &Path| self.config_made(path).is_some_and(|config| marked.blobs.contains(&config));
        for path in self.loose().into_iter().filter(|path| !stays(path)) {
            let used = used(&path);
            units.push(Unit { what: What::Path(path), used });
        }
        units.sort_by(|a, b| (a.used, &a.what).cmp(&(b.used, &b.what)));
        units
    }

    /// Returns the files and folders of the cache that go one by one, and are neither steps nor cache mounts.
    pub(super) fn loose(&self) -> Vec<PathBuf> {
        let below = |dir: &str, depth| files(&self.root().join("cache").join(dir), depth);
        let mut found = [below("contexts", 1), below("images", 1), below("fetched", 2)].concat();
        // The lock of a repository goes with it.
        found.retain(|path| path.extension().is_none_or(|end| end != "lock") || !path.with_extension("").is_dir());
        found
    }

    /// Returns what of `units`, which are sorted, goes for `options`, whatever the size of the store.
    pub(super) fn old(&self, units: &[Unit], options: &PruneOptions) -> BTreeSet<What> {
        if !options.labels.is_empty() {
            return BTreeSet::new();
        }
        let now = SystemTime::now();
        let goes = |unit: &&Unit| match options.keep_for {
            Some(span) => now.duration_since(unit.used).unwrap_or_default() >= span,
            None => options.keep == Keep::Named,
        };
        units.iter().filter(goes).map(|unit| unit.what.clone()).collect()
    }

    /// Adds to `gone` what must go so that `have` bytes become `most`, the longest unused first. What was used within the time
    /// of `options` stays all the same.
    pub(super) fn make_room(
        &self,
        units: &[Unit],
        (mut have, most): (u64, u64),
        options: &PruneOptions,
        gone: &mut BTreeSet<What>,
    ) {
        let now = SystemTime::now();
        for unit in units {
            if have <= most {
                break;
            }
            let young = options.keep_for.is_some_and(|span| now.duration_since(unit.used).unwrap_or_default() < span);
            if !young && gone.insert(unit.what.clone()) {
                have = have.saturating_sub(self.unit_size(&unit.what));
            }
        }
    }

    fn unit_size(&self, what: &What) -> u64 {
        match what {
            What::Path(path) => disk_usage(path),
            What::Layer(id) => {
                let name = id.to_string();
                let dir = self.layer_dir(id);
                let packed = files(&dir, 1).into_iter().filter_map(|record| {
                    let record = super::stamp::read_json::<Value>(&record)?;
                    let digest = record.get("digest")?.as_str()?.parse().ok()?;
                    self.blob_size(&digest)
                });
                let blobs: u64 = packed.sum();
                let snapshots = files(&self.root().join("snapshots"), 2).into_iter();
                let snapshots = snapshots.filter(|path| path.file_stem().is_some_and(|stem| *stem == *name));
                blobs + disk_usage(&dir) + snapshots.map(|path| disk_usage(&path)).sum::<u64>()
            }
        }
    }
}

/// Returns the file that is locked by who uses the repository at `path`, if there is one.
pub(super) fn lock_of(path: &Path) -> Option<PathBuf> {
    let lock = path.with_extension("lock");
    (lock != path && lock.is_file()).then_some(lock)
}

/// When the thing at `path` was used last: the time of its file, which whoever uses it renews.
pub(super) fn used(path: &Path) -> SystemTime {
    std::fs::symlink_metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// How long ago that was. A time that is yet to come is now.
pub(super) fn age(path: &Path) -> Duration {
    SystemTime::now().duration_since(used(path)).unwrap_or_default()
}
