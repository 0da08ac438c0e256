use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::store::{LayerId, Packed};

/// The type of the manifest.
pub const ARTIFACT: &str = "application/vnd.coracle.cache.v1";
/// The type of its configuration, which is a [`Document`].
pub const CONFIG: &str = "application/vnd.coracle.cache.config.v1+json";
/// The type of the index of a layer: as in the store, with zstd.
pub const INDEX: &str = "application/vnd.coracle.cache.index.v1+zstd";
/// The version of [`Document`].
pub const VERSION: u32 = 1;

/// What a cache knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The version of cache keys (docs/cache-key.md).
    pub key_format: u32,
    /// The results of steps.
    pub steps: Vec<StepRecord>,
    /// When images were made first, by their keys: seconds since 1970.
    pub images: BTreeMap<String, i64>,
    /// Their layers, by id.
    pub layers: BTreeMap<String, LayerRecord>,
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its cache keys, 64 hexadecimal digits each.
    pub keys: Vec<String>,
    /// The id of the layer it made.
    pub layer: String,
    /// When: seconds since 1970.
    pub created: i64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The blob with its index; where there is none, it is made from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<BlobRecord>,
    /// The blob with its files.
    pub packed: Packed,
    /// The name in the store of the way in which that is packed.
    pub variant: String,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Document {
    /// Returns the document in `bytes`.
    ///
    /// # Errors
    /// The reason why it is none that can be used.
    pub fn parse(bytes: &[u8], key_format: u32) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        check_version(document.version, document.key_format, key_format)?;
        document.layers.iter().try_for_each(|(id, layer)| check_variant(id, &layer.variant))?;
        check_keys(&document.steps)?;
        Ok(document)
    }
}

/// Refuses what another version has written.
pub(super) fn check_version(version: u32, other: u32, key_format: u32) -> Result<(), String> {
    if version == VERSION && other == key_format {
        return Ok(());
    }
    Err(format!(
        "it was written by another version of coracle (format {version}, keys {other}; this one has {VERSION}, keys {key_format})"
    ))
}

/// Refuses steps with a key that no step has.
pub(super) fn check_keys(steps: &[StepRecord]) -> Result<(), String> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_key = |key: &&String| key.len() == 64 && key.bytes().all(is_digit);
    match steps.iter().flat_map(|step| &step.keys).find(|key| !is_key(key)) {
        Some(odd) => Err(format!("its key {:?} is none", odd.chars().take(80).collect::<String>())),
        None => Ok(()),
    }
}

/// Refuses what is no id of a layer, and what is no name of a way of packing, which becomes a file name.
pub(super) fn check_variant(id: &str, variant: &str) -> Result<(), String> {
    let odd = variant.is_empty() || variant.bytes().any(|b| !b.is_ascii_alphanumeric() && b != b'-');
    if odd || LayerId::from_hex(id).is_none() { Err(format!("its layer {id:?} makes no sense")) } else { Ok(()) }
}
