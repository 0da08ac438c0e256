//! Indexes of images: made of several, with the platform of each.

use oci_spec::image::Descriptor;
use serde_json::{Map, Value, json};

use crate::oci::{Digest, ImageConfig};
use crate::store::describe;

/// Returns an index with `members`, and the descriptor that leads to it. `media_type` is that of OCI or docker's list. The same
/// members give the same bytes.
pub fn assemble(media_type: &str, members: &[Descriptor]) -> (Descriptor, Vec<u8>) {
    let bytes = render(media_type, members.iter().map(entry).collect(), &Map::new());
    (describe(media_type, &Digest::of(&bytes), bytes.len() as u64), bytes)
}

/// Returns the bytes of an index with `entries` and `annotations`.
pub fn render(media_type: &str, entries: Vec<Value>, annotations: &Map<String, Value>) -> Vec<u8> {
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !annotations.is_empty() {
        index["annotations"] = annotations.clone().into();
    }
    serde_json::to_vec(&index).expect("JSON values always serialise")
}

/// Returns a descriptor as an entry of an index: annotations by key, since a hash map's order differs from run to run.
pub fn entry(descriptor: &Descriptor) -> Value {
    let mut entry = serde_json::to_value(descriptor).expect("descriptors always serialise");
    if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.sort_keys();
    }
    entry
}

/// Returns the platform of an image as an index says it.
pub fn platform_of(config: &ImageConfig) -> oci_spec::image::Platform {
    let mut platform = oci_spec::image::Platform::default();
    platform.set_architecture(config.platform.architecture.as_str().into());
    platform.set_os(config.platform.os.as_str().into());
    platform.set_variant(config.platform.variant.clone());
    if let Some(Value::String(version)) = config.other.get("os.version") {
        platform.set_os_version(Some(version.clone()));
    }
    platform
}
