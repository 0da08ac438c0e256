use oci_spec::image::Descriptor;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::document::{check_descriptor, limit, printable};
use super::{ImageError, MAX_LAYERS, media_type};

/// The most entries that an index may have.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// What a manifest or an index of any kind refers to: also of artifacts (attestations, signatures, charts), which are handed on
/// and never run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Its media type.
    pub media_type: String,
    /// The entries, if it is an index; `None` for a manifest.
    pub children: Option<Vec<Descriptor>>,
    /// The configuration and the layers of a manifest, in that order.
    pub blobs: Vec<Descriptor>,
    /// The layers alone.
    pub layers: Vec<Descriptor>,
    /// The configuration alone.
    pub config: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    // Of schema 1, which has no digests of its own.
    fs_layers: Option<IgnoredAny>,
}

impl Parts {
    /// Returns what the document in `bytes` refers to. `declared` is the media type of the descriptor that led to it; `what`
    /// names it in errors. Counts, digests and sizes are checked; media types of configuration and layers are not.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<Self, ImageError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Json { what: what.into(), reason: printable(&error) })?;
        if (raw.layers.is_some() || raw.config.is_some()) && raw.manifests.is_some() {
            return Err(ImageError::Ambiguous { what: what.into() });
        }
        if raw.schema_version != Some(2) || raw.fs_layers.is_some() {
            let version = raw.schema_version.unwrap_or(0).min(1);
            return Err(ImageError::Schema { what: what.into(), version });
        }
        let is_index = raw.manifests.is_some();
        let plain = if is_index { media_type::INDEX } else { media_type::MANIFEST };
        let own = raw.media_type.as_deref().or(declared).unwrap_or(plain).to_owned();
        let fits = match own.as_str() {
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => !is_index,
            media_type::INDEX | media_type::DOCKER_INDEX => is_index,
            _ => false,
        };
        let expected = declared.unwrap_or(&own).to_owned();
        if expected != own || !fits {
            let found = if fits { own } else { plain.into() };
            return Err(ImageError::MediaType { what: what.into(), expected, found });
        }
        let (layers, children) = (raw.layers.unwrap_or_default(), raw.manifests);
        limit(what, "layers", layers.len(), MAX_LAYERS)?;
        limit(what, "entries", children.as_ref().map_or(0, Vec::len), MAX_ENTRIES)?;
        let blobs: Vec<Descriptor> = raw.config.iter().chain(&layers).cloned().collect();
        for descriptor in blobs.iter().chain(children.iter().flatten()) {
            check_descriptor(descriptor, &format!("{} in {what}", descriptor.digest()))?;
        }
        Ok(Parts { media_type: own, children, blobs, layers, config: raw.config })
    }

    /// Returns whether this is the manifest of an image, which can be run, and not of an artifact.
    pub fn is_image(&self) -> bool {
        let kind = self.config.as_ref().map(|config| config.media_type().as_ref().to_owned());
        matches!(kind.as_deref(), Some(media_type::CONFIG | media_type::DOCKER_CONFIG))
            && self.layers.iter().all(|layer| media_type::is_layer(layer.media_type().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oci::Digest;

    fn descriptor(kind: &str) -> serde_json::Value {
        json!({"mediaType": kind, "digest": Digest::of(kind.as_bytes()), "size": 3})
    }

    #[test]
    fn an_artifact_has_parts_and_is_no_image() {
        let artifact = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "config": descriptor("application/vnd.oci.empty.v1+json"), "layers": [descriptor("application/vnd.in-toto+json")]});
        let parts = Parts::parse(artifact.to_string().as_bytes(), Some(media_type::MANIFEST), "it").unwrap();
        assert_eq!((parts.blobs.len(), parts.layers.len(), parts.is_image()), (2, 1, false));
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(media_type::MANIFEST)]});
        let parts = Parts::parse(index.to_string().as_bytes(), None, "it").unwrap();
        assert_eq!((parts.media_type.as_str(), parts.children.unwrap().len()), (media_type::INDEX, 1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = descriptor(media_type::CONFIG);
        for (document, declared, says) in [
            (json!({"schemaVersion": 2, "layers": [], "manifests": []}), None, "both layers and manifests"),
            (json!({"schemaVersion": 1, "fsLayers": []}), None, "schema version 1"),
            (json!({"schemaVersion": 2, "manifests": []}), Some(media_type::MANIFEST), "was expected"),
            (json!({"schemaVersion": 2, "mediaType": "text/html", "config": config}), None, "was expected"),
            (
                json!({"schemaVersion": 2, "config": {"mediaType": "x", "digest": "sha256:../..", "size": 1}}),
                None,
                "valid",
            ),
            (json!({"schemaVersion": 2, "layers": vec![config.clone(); MAX_LAYERS + 1]}), None, "1001 layers"),
        ] {
            let error = Parts::parse(document.to_string().as_bytes(), declared, "it").expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
