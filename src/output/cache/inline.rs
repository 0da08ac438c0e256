use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{Document, LayerRecord, StepRecord, VERSION, check_keys, check_variant, check_version};
use crate::layer::Compression;
use crate::oci::{DiffId, INLINE_CACHE};
use crate::store::{Image, LayerId, Packed};

/// A step whose result goes into the configuration of the image that it is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineStep {
    /// Its cache keys, 64 hexadecimal digits each.
    pub keys: Vec<String>,
    /// The layer it made.
    pub layer: LayerId,
    /// When: seconds since 1970.
    pub created: i64,
    /// The digest of the layer's tar just as it is; `None` where that is not known.
    pub diff_id: Option<DiffId>,
}

/// What the configuration of an image says of the steps that made it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inline {
    version: u32,
    key_format: u32,
    steps: Vec<StepRecord>,
    images: BTreeMap<String, i64>,
    layers: BTreeMap<String, InlineLayer>,
}

/// A layer of the same image.
#[derive(Debug, Serialize, Deserialize)]
struct InlineLayer {
    /// Its number in the manifest, from 0, the lowest.
    at: usize,
    /// As in [`LayerRecord`].
    variant: String,
}

/// Returns the member [`INLINE_CACHE`] for the configuration of `image`, and how many of `steps` are in it: those whose layers are in the
/// image just as the steps made them. `made` says when images were made first, by their keys; `compression` is how the layers are packed.
pub fn inline_cache(
    steps: &[InlineStep],
    made: &[(String, i64)],
    key_format: u32,
    image: &Image,
    compression: Compression,
) -> (Value, usize) {
    let mut inline = Inline {
        version: VERSION,
        key_format,
        steps: Vec::new(),
        images: made.iter().cloned().collect(),
        layers: BTreeMap::new(),
    };
    let layers = image.layers();
    let variant = compression.to_string().replace(':', "-");
    for step in steps {
        let at = step.diff_id.and_then(|id| layers.iter().rposition(|layer| layer.diff_id == id));
        let Some(at) = at else { continue };
        let id = step.layer.to_string();
        inline.steps.push(StepRecord { keys: step.keys.clone(), layer: id.clone(), created: step.created });
        inline.layers.insert(id, InlineLayer { at, variant: variant.clone() });
    }
    let count = inline.steps.len();
    (serde_json::to_value(inline).expect("texts and numbers always serialise"), count)
}

/// Returns the cache that is in the configuration of `image`; `None` where there is none.
pub(super) fn cache_in(image: &Image, key_format: u32) -> Result<Option<Document>, String> {
    let Some(value) = image.config.other.get(INLINE_CACHE) else { return Ok(None) };
    let Inline { version, key_format: other, steps, images, layers } =
        Inline::deserialize(value).map_err(|error| error.to_string())?;
    check_version(version, other, key_format)?;
    check_keys(&steps)?;
    let known = image.layers();
    let mut found = BTreeMap::new();
    for (id, InlineLayer { at, variant }) in layers {
        check_variant(&id, &variant)?;
        let layer = known.get(at).ok_or_else(|| format!("its layer {id:?} is not in the image"))?;
        let packed = Packed {
            media_type: layer.descriptor.media_type().to_string(),
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
        };
        found.insert(id, LayerRecord { index: None, packed, variant });
    }
    Ok(Some(Document { version, key_format, steps, images, layers: found }))
}
