use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::gc::{Marked, disk_usage, files};
use super::{LayerId, Store, StoreError};

/// How much of the disk one kind of thing takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// How many there are.
    pub count: u64,
    /// How many of them images with a name need.
    pub active: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that `prune --all` would give back.
    pub reclaimable: u64,
}

/// What takes how much of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Manifests, configurations and packed layers.
    pub blobs: Used,
    /// Layers, unpacked.
    pub layers: Used,
    /// What steps made, by their keys; files of contexts; what was fetched.
    pub cache: Used,
    /// Cache mounts.
    pub mounts: Used,
    /// What is being made, or was left over, and downloads that stopped half-way.
    pub temporary: Used,
}

impl Used {
    fn add(&mut self, path: &Path, active: bool) {
        let bytes = disk_usage(path);
        self.count += 1;
        self.bytes += bytes;
        if active { self.active += 1 } else { self.reclaimable += bytes }
    }
}

impl Usage {
    /// Returns the sum of all.
    pub fn total(&self) -> Used {
        let all = [self.blobs, self.layers, self.cache, self.mounts, self.temporary];
        all.iter().fold(Used::default(), |sum, used| Used {
            count: sum.count + used.count,
            active: sum.active + used.active,
            bytes: sum.bytes + used.bytes,
            reclaimable: sum.reclaimable + used.reclaimable,
        })
    }
}

impl Store {
    /// Returns what takes how much of the disk. Files that are packed in a blob and unpacked as well count twice, as they do on
    /// the disk.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let (mut usage, mut marked) = (Usage::default(), Marked::default());
        for digest in self.roots()? {
            self.mark(digest, &mut marked);
        }
        for file in files(&self.root().join("cache/steps"), 2) {
            let record = super::stamp::read_json::<Value>(&file);
            let layer: Option<LayerId> = record.and_then(|r| serde_json::from_value(r.get("layer")?.clone()).ok());
            usage.cache.add(&file, layer.is_some_and(|layer| marked.layers.contains(&layer)));
        }
        for path in self.loose() {
            let active = self.config_made(&path).is_some_and(|config| marked.blobs.contains(&config));
            usage.cache.add(&path, active);
        }
        files(&self.root().join("cache/mounts"), 2).iter().for_each(|path| usage.mounts.add(path, false));
        for path in files(&self.root().join("snapshots"), 2) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let active = LayerId::from_hex(name).is_some_and(|id| marked.layers.contains(&id));
            if path.extension().is_none() {
                usage.layers.add(&path, active);
            }
        }
        for path in files(&self.root().join("layers"), 1) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let active = LayerId::from_hex(name).is_some_and(|id| marked.layers.contains(&id));
            let bytes = disk_usage(&path);
            usage.layers.bytes += bytes;
            if active {
                for record in files(&path, 1) {
                    let digest = super::stamp::read_json::<Value>(&record).and_then(|r| super::gc::digest_in(&r));
                    marked.blobs.extend(digest);
                }
            } else if !name.starts_with("chain-") {
                usage.layers.reclaimable += bytes;
            }
        }
        for path in files(&self.layout().join("blobs/sha256"), 1) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = format!("sha256:{name}").parse().ok();
            usage.blobs.add(&path, digest.is_some_and(|digest| marked.blobs.contains(&digest)));
        }
        for path in [files(&self.tmp(), 1), files(&self.root().join("partial"), 1)].concat() {
            usage.temporary.add(&path, false);
        }
        Ok(usage)
    }
}
