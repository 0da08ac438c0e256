use std::collections::BTreeMap;

use oci_spec::image::Descriptor;
use serde_json::json;

use super::document::{ARTIFACT, BlobRecord, CONFIG, Document, INDEX, LayerRecord, StepRecord, VERSION};
use crate::oci::{Digest, media_type};
use crate::output::OutputError;
use crate::output::content::Content;
use crate::store::{LayerId, Packed, Store, StoreError, describe};

/// A step whose result goes into a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheStep {
    /// Its cache keys, 64 hexadecimal digits each.
    pub keys: Vec<String>,
    /// The layer it made.
    pub layer: LayerId,
    /// When: seconds since 1970.
    pub created: i64,
    /// The blob with the files of the layer.
    pub packed: Packed,
    /// The name in the store of the way in which that is packed.
    pub variant: String,
}

/// Returns a cache of `steps`, and of the time of the making of each of `images`, by its key; its documents are in the store then. `key_format` is the
/// version of cache keys.
///
/// # Errors
/// [`OutputError`] where the store cannot be read or written.
pub fn gather_cache(
    steps: &[CacheStep],
    images: Vec<(String, i64)>,
    key_format: u32,
    store: &Store,
) -> Result<Content, OutputError> {
    let mut document = Document {
        version: VERSION,
        key_format,
        steps: Vec::new(),
        images: images.into_iter().collect(),
        layers: BTreeMap::new(),
    };
    let mut blobs: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    let mut layers: Vec<Descriptor> = Vec::new();
    for step in steps {
        let id = step.layer.to_string();
        document.steps.push(StepRecord { keys: step.keys.clone(), layer: id.clone(), created: step.created });
        if document.layers.contains_key(&id) {
            continue;
        }
        let bytes = store.index_bytes(&step.layer)?.ok_or_else(|| StoreError::Damaged {
            path: store.root().join("layers").join(&id),
            reason: "the index is gone".into(),
        })?;
        // One thread and one level: the same index is the same blob wherever it is written.
        let bytes =
            zstd::bulk::compress(&bytes, 3).map_err(|source| StoreError::io("compress", store.root(), source))?;
        let index = BlobRecord { digest: store.put_blob(&bytes)?, size: bytes.len() as u64 };
        let packed = &step.packed;
        for (kind, digest, size) in
            [(INDEX, index.digest, index.size), (packed.media_type.as_str(), packed.digest, packed.size)]
        {
            let descriptor = describe(kind, &digest, size);
            if blobs.insert(digest, descriptor.clone()).is_none() {
                layers.push(descriptor);
            }
        }
        let record = LayerRecord { index: Some(index), packed: packed.clone(), variant: step.variant.clone() };
        document.layers.insert(id, record);
    }
    let config = serde_json::to_vec(&document).expect("records always serialise");
    let config = describe(CONFIG, &store.put_blob(&config)?, config.len() as u64);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "artifactType": ARTIFACT,
        "config": config,
        "layers": layers,
    }))
    .expect("JSON values always serialise");
    let top = describe(media_type::MANIFEST, &store.put_blob(&manifest)?, manifest.len() as u64);
    blobs.insert(crate::oci::digest_of(&config)?, config);
    Ok(Content { top: top.clone(), documents: vec![(top, manifest)], configs: BTreeMap::new(), blobs })
}
