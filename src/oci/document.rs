use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::parts::MAX_ENTRIES;
use super::{ConfigError, Digest, DigestError, ImageConfig, Platform, media_type};

/// The largest manifest, index or configuration that is read, in bytes.
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// The most layers that an image may have.
pub const MAX_LAYERS: usize = 1000;

/// What a descriptor of an image leads to.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image.
    Manifest(Box<ImageManifest>),
    /// Images for several platforms.
    Index(Box<ImageIndex>),
}

/// A document of an image (manifest, index, configuration) makes no sense, or there is no image for this platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Not the JSON of such a document.
    #[error("{what} is not valid: {reason}")]
    Json {
        /// Which document.
        what: String,
        /// What the JSON parser says.
        reason: String,
    },
    /// It has both layers and manifests: two programs could see two different images in it.
    #[error("{what} has both layers and manifests, which is refused as ambiguous")]
    Ambiguous {
        /// Which document.
        what: String,
    },
    /// It says another media type than its descriptor, or the other kind of document.
    #[error("{what} is of media type {found:?}, but {expected:?} was expected")]
    MediaType {
        /// Which document or layer.
        what: String,
        /// What the descriptor says, or what can be read.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A schema that is not read: Docker's schema 1.
    #[error("{what} has schema version {version}, only 2 is supported")]
    Schema {
        /// Which document.
        what: String,
        /// The version in it.
        version: u64,
    },
    /// A digest in it is not a SHA-256.
    #[error("{what} has a bad digest")]
    Digest {
        /// Which descriptor.
        what: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// A count or size in it is larger than anything sensible.
    #[error("{what} has {found} {unit}, more than {limit}")]
    TooLarge {
        /// Which document.
        what: String,
        /// How many.
        found: u64,
        /// Of what: "bytes", "layers".
        unit: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// The configuration is not valid, or does not belong to the manifest.
    #[error("configuration {digest} cannot be used")]
    Config {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ConfigError,
    },
    /// An index has no image for this platform.
    #[error("{what} has no image for {wanted}, only for: {}", list(found))]
    Platform {
        /// Which index.
        what: String,
        /// The platform.
        wanted: Platform,
        /// Those that it has.
        found: Vec<Platform>,
    },
    /// Indexes lead to indexes, too many of them or in a circle.
    #[error("{what} is reached through a circle of indexes, or more than {limit} of them")]
    Nesting {
        /// Which index.
        what: String,
        /// How many may lead to an image.
        limit: usize,
    },
}

impl Document {
    /// Returns the manifest or index in `bytes`, and its media type. `declared` is the media type of the descriptor
    /// that led to it; without one the document itself says what it is. `what` names it in errors.
    ///
    /// Counts, sizes and media types are checked, digests are only such that a descriptor can hold: [`digest_of`].
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(bytes: &[u8], declared: Option<&str>, what: &str) -> Result<(Self, String), ImageError> {
        let json = |error: serde_json::Error| ImageError::Json { what: what.into(), reason: printable(&error) };
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        if (shape.layers.is_some() || shape.config.is_some()) && shape.manifests.is_some() {
            return Err(ImageError::Ambiguous { what: what.into() });
        }
        match shape.schema_version {
            Some(2) => {}
            version => return Err(ImageError::Schema { what: what.into(), version: version.unwrap_or(0) }),
        }
        let plain = if shape.manifests.is_some() { media_type::INDEX } else { media_type::MANIFEST };
        let own = shape.media_type.as_deref().or(declared).unwrap_or(plain);
        let expected = declared.unwrap_or(own);
        let fits = match own {
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => shape.manifests.is_none(),
            media_type::INDEX | media_type::DOCKER_INDEX => shape.manifests.is_some(),
            _ => {
                let expected = format!("{} or {}", media_type::MANIFEST, media_type::INDEX);
                return Err(ImageError::MediaType { what: what.into(), expected, found: own.into() });
            }
        };
        if expected != own || !fits {
            let found = if fits { own } else { plain };
            return Err(ImageError::MediaType { what: what.into(), expected: expected.into(), found: found.into() });
        }
        let own = own.to_owned();
        if shape.manifests.is_some() {
            let index: ImageIndex = serde_json::from_slice(bytes).map_err(json)?;
            limit(what, "entries", index.manifests().len(), MAX_ENTRIES)?;
            return Ok((Document::Index(Box::new(index)), own));
        }
        let manifest: ImageManifest = match shape.layers {
            Some(_) => serde_json::from_slice(bytes),
            None => without_layers(bytes),
        }
        .map_err(json)?;
        check_manifest(&manifest, what)?;
        Ok((Document::Manifest(Box::new(manifest)), own))
    }
}

/// Returns the manifest in `bytes`, which lists no layers: Go programs write `null` for an empty list.
fn without_layers(bytes: &[u8]) -> Result<ImageManifest, serde_json::Error> {
    let mut document: Value = serde_json::from_slice(bytes)?;
    if let Some(members) = document.as_object_mut() {
        members.insert("layers".into(), Value::Array(Vec::new()));
    }
    serde_json::from_value(document)
}

/// Checks media types, digests, sizes and the count of layers in `manifest`, which `what` names in errors.
///
/// # Errors
/// [`ImageError`].
pub fn check_manifest(manifest: &ImageManifest, what: &str) -> Result<(), ImageError> {
    limit(what, "layers", manifest.layers().len(), MAX_LAYERS)?;
    let kind = manifest.config().media_type().as_ref();
    if !matches!(kind, media_type::CONFIG | media_type::DOCKER_CONFIG) {
        let what = format!("configuration in {what}");
        return Err(ImageError::MediaType { what, expected: media_type::CONFIG.into(), found: kind.into() });
    }
    check_descriptor(manifest.config(), &format!("configuration in {what}"))?;
    for (at, layer) in manifest.layers().iter().enumerate() {
        let what = || format!("layer {at} in {what}");
        let kind = layer.media_type().as_ref();
        if !media_type::is_layer(kind) {
            return Err(ImageError::MediaType { what: what(), expected: media_type::LAYER.into(), found: kind.into() });
        }
        check_descriptor(layer, &what())?;
    }
    Ok(())
}

/// Returns the configuration in `bytes`, which must fit to `manifest`.
///
/// # Errors
/// [`ImageError::Config`].
pub fn parse_config(bytes: &[u8], manifest: &ImageManifest) -> Result<ImageConfig, ImageError> {
    let digest = digest_of(manifest.config())?;
    let config = ImageConfig::from_json(bytes).and_then(|config| {
        config.check_layers(manifest.layers().len())?;
        Ok(config)
    });
    config.map_err(|source| match source {
        ConfigError::Json { reason } => {
            ImageError::Config { digest, source: ConfigError::Json { reason: escape(&reason) } }
        }
        source => ImageError::Config { digest, source },
    })
}

/// Returns the digest in `descriptor`.
///
/// # Errors
/// [`ImageError::Digest`] where it is not a SHA-256.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, ImageError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|source| ImageError::Digest {
        what: format!("descriptor of type {:?}", descriptor.media_type().as_ref()),
        source,
    })
}

/// Returns the platform that `descriptor` says.
pub fn os_platform(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    Some(Platform {
        architecture: platform.architecture().to_string(),
        os: platform.os().to_string(),
        variant: platform.variant().clone().filter(|variant| !variant.is_empty()),
    })
}

/// The members by which kinds of documents differ.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

pub(super) fn check_descriptor(descriptor: &Descriptor, what: &str) -> Result<(), ImageError> {
    digest_of(descriptor).map_err(|error| match error {
        ImageError::Digest { source, .. } => ImageError::Digest { what: what.into(), source },
        other => other,
    })?;
    // Lengths of files are signed in the kernel.
    match i64::try_from(descriptor.size()) {
        Ok(_) => Ok(()),
        Err(_) => Err(ImageError::TooLarge {
            what: what.into(),
            found: descriptor.size(),
            unit: "bytes",
            limit: i64::MAX as u64,
        }),
    }
}

pub(super) fn limit(what: &str, unit: &'static str, found: usize, limit: usize) -> Result<(), ImageError> {
    if found <= limit {
        return Ok(());
    }
    Err(ImageError::TooLarge { what: what.into(), found: found as u64, unit, limit: limit as u64 })
}

pub(super) fn printable(error: &serde_json::Error) -> String {
    escape(&error.to_string())
}

/// Texts from documents may hold control characters.
fn escape(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars().take(300) {
        if c.is_control() { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    clean
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().take(50).map(|platform| escape(&platform.to_string())).collect();
    if names.is_empty() { "unknown ones".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(kind: &str, size: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{HEX}","size":{size}}}"#)
    }

    #[test]
    fn a_manifest_and_an_index_are_told_apart() {
        let config = descriptor(media_type::CONFIG, "2");
        let layer = descriptor(media_type::LAYER_GZIP, "5");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let (document, kind) = Document::parse(manifest.as_bytes(), None, "it").unwrap();
        assert!(matches!(document, Document::Manifest(_)));
        assert_eq!(kind, media_type::MANIFEST);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{layer}]}}"#);
        let (document, kind) = Document::parse(index.as_bytes(), Some(media_type::DOCKER_INDEX), "it").unwrap();
        assert!(matches!(document, Document::Index(_)));
        assert_eq!(kind, media_type::DOCKER_INDEX);
    }

    #[test]
    fn a_manifest_may_say_null_for_no_layers_as_go_programs_do() {
        let config = descriptor(media_type::CONFIG, "2");
        for layers in ["", r#","layers":null"#, r#","layers":[]"#] {
            let manifest = format!(r#"{{"schemaVersion":2,"config":{config}{layers}}}"#);
            let (document, _) = Document::parse(manifest.as_bytes(), Some(media_type::MANIFEST), "it").unwrap();
            let Document::Manifest(manifest) = document else { panic!("an index: {layers}") };
            assert!(manifest.layers().is_empty());
        }
        assert!(Document::parse(b"[2,null,null,null,null]", None, "it").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = descriptor(media_type::CONFIG, "2");
        let with = |members: &str| format!(r#"{{"schemaVersion":2,{members}}}"#);
        let many = vec![descriptor(media_type::LAYER, "1"); MAX_LAYERS + 1].join(",");
        let bad_digest = config.replace(HEX, "../../../etc/passwd");
        let sha512 = config.replace(&format!("sha256:{HEX}"), &format!("sha512:{HEX}{HEX}"));
        let layer =
            |kind: &str, size: &str| with(&format!(r#""config":{config},"layers":[{}]"#, descriptor(kind, size)));
        for (bytes, declared, says) in [
            (with(&format!(r#""config":{config},"layers":[],"manifests":[]"#)), None, "both layers and manifests"),
            (with(r#""layers":[],"manifests":[]"#), None, "both layers and manifests"),
            (with(r#""manifests":[]"#), Some(media_type::MANIFEST), "was expected"),
            (with(&format!(r#""config":{config},"layers":[]"#)), Some(media_type::INDEX), "was expected"),
            (
                with(&format!(r#""mediaType":"{}","config":{config},"layers":[]"#, media_type::DOCKER_MANIFEST)),
                Some(media_type::MANIFEST),
                "was expected",
            ),
            (with(r#""manifests":[]"#), Some("text/html"), "\"text/html\""),
            (layer(media_type::LAYER, "-1"), None, "invalid value: integer `-1`"),
            (layer(media_type::LAYER, "18446744073709551615"), None, "more than 9223372036854775807"),
            (layer("application/x-evil", "1"), None, "layer 0 in it is of media type \"application/x-evil\""),
            (layer("application/vnd.oci.image.layer.v1.tar+encrypted", "1"), None, "layer 0 in it"),
            (with(&format!(r#""config":{config},"layers":[{many}]"#)), None, "1001 layers, more than 1000"),
            (with(&format!(r#""config":{bad_digest},"layers":[]"#)), None, "is not valid"),
            (with(&format!(r#""config":{sha512},"layers":[]"#)), None, "configuration in it has a bad digest"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None, "schema version 1"),
            ("{}".into(), None, "schema version 0"),
            ("[]".into(), None, "is not valid"),
            ("{\"\u{1b}[31m\":".into(), None, "is not valid"),
            ("".into(), None, "is not valid"),
            ("[".repeat(100_000), None, "is not valid"),
        ] {
            let error = Document::parse(bytes.as_bytes(), declared, "it").expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }
}
