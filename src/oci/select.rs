use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageManifest};

use super::document::parse_config;
use super::{Digest, Document, ImageConfig, ImageError, Platform, digest_of, media_type, os_platform};

/// How many indexes may lead to an image.
const MAX_DEPTH: usize = 8;

/// Reads what a descriptor leads to, verified against its size and digest; the text names it for errors.
pub type Fetch<'a, E> = &'a mut dyn FnMut(&Descriptor, &str) -> Result<Vec<u8>, E>;

/// The image that a descriptor leads to.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Leads to the manifest.
    pub descriptor: Descriptor,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The manifest as it was read.
    pub manifest_bytes: Vec<u8>,
    /// The configuration. It has as many diff_ids as the manifest has layers.
    pub config: ImageConfig,
    /// The configuration as it was read.
    pub config_bytes: Vec<u8>,
}

/// Returns the image for `platform` that `starts` lead to: one descriptor of a manifest or an index, or several that
/// are alternatives. Indexes are followed; a single manifest is taken whatever its platform.
///
/// # Errors
/// What `fetch` reports, and [`ImageError`] for documents that make no sense and for a missing platform.
pub fn select<E: From<ImageError>>(
    starts: &[Descriptor],
    platform: &Platform,
    what: &str,
    fetch: Fetch<'_, E>,
) -> Result<Selected, E> {
    let mut walk = Walk { platform, fetch, seen: HashSet::new(), found: Vec::new() };
    let selected = match starts {
        [one] => walk.follow(one, true, &mut Vec::new())?,
        several => walk.choose(several, &mut Vec::new())?,
    };
    let found = walk.found;
    selected.ok_or_else(|| ImageError::Platform { what: what.into(), wanted: platform.clone(), found }.into())
}

struct Walk<'a, E> {
    platform: &'a Platform,
    fetch: Fetch<'a, E>,
    /// Documents that were looked at already: none is read twice, whatever leads to it.
    seen: HashSet<Digest>,
    /// Platforms that were met and do not fit.
    found: Vec<Platform>,
}

impl<E: From<ImageError>> Walk<'_, E> {
    /// Returns the image that `descriptor` leads to. `decided`: its platform was chosen already, or there is no choice.
    fn follow(
        &mut self,
        descriptor: &Descriptor,
        decided: bool,
        path: &mut Vec<Digest>,
    ) -> Result<Option<Selected>, E> {
        let digest = digest_of(descriptor)?;
        let is_index = media_type::is_index(descriptor.media_type().as_ref());
        let what = format!("{} {digest}", if is_index { "index" } else { "manifest" });
        if path.contains(&digest) || path.len() > MAX_DEPTH {
            return Err(ImageError::Nesting { what, limit: MAX_DEPTH }.into());
        }
        if !self.seen.insert(digest) {
            return Ok(None);
        }
        let bytes = (self.fetch)(descriptor, &what)?;
        let (document, _) = Document::parse(&bytes, Some(descriptor.media_type().as_ref()), &what)?;
        let manifest = match document {
            Document::Manifest(manifest) => *manifest,
            Document::Index(index) => {
                path.push(digest);
                let selected = self.choose(index.manifests(), path)?;
                path.pop();
                return Ok(selected);
            }
        };
        let config_what = format!("configuration {}", digest_of(manifest.config())?);
        let config_bytes = (self.fetch)(manifest.config(), &config_what)?;
        let config = parse_config(&config_bytes, &manifest)?;
        if !decided && self.platform.rank(&config.platform).is_none() {
            self.met(config.platform);
            return Ok(None);
        }
        let descriptor = descriptor.clone();
        Ok(Some(Selected { descriptor, digest, manifest, manifest_bytes: bytes, config, config_bytes }))
    }

    /// Returns the best of `entries`: those of the platform first, then those that do not say theirs.
    fn choose(&mut self, entries: &[Descriptor], path: &mut Vec<Digest>) -> Result<Option<Selected>, E> {
        let mut ranked: Vec<(u8, &Descriptor)> = Vec::new();
        let mut silent: Vec<&Descriptor> = Vec::new();
        for entry in entries {
            match os_platform(entry) {
                None => silent.push(entry),
                // Attestations say unknown/unknown.
                Some(platform) if platform.os == "unknown" => {}
                Some(platform) => match self.platform.rank(&platform) {
                    Some(rank) => ranked.push((rank, entry)),
                    None => self.met(platform),
                },
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, entry) in ranked {
            if let Some(selected) = self.follow(entry, true, path)? {
                return Ok(Some(selected));
            }
        }
        for entry in silent {
            if let Some(selected) = self.follow(entry, false, path)? {
                return Ok(Some(selected));
            }
        }
        Ok(None)
    }

    fn met(&mut self, platform: Platform) {
        if self.found.len() < 100 && !self.found.contains(&platform) {
            self.found.push(platform);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::{Value, json};

    use super::*;

    /// Blobs by digest, as a registry or a layout has them.
    #[derive(Default)]
    struct Blobs(HashMap<Digest, Vec<u8>>);

    impl Blobs {
        fn put(&mut self, kind: &str, document: &Value) -> Value {
            let bytes = serde_json::to_vec(document).unwrap();
            let digest = Digest::of(&bytes);
            let size = bytes.len();
            self.0.insert(digest, bytes);
            json!({"mediaType": kind, "digest": digest, "size": size})
        }

        fn image(&mut self, architecture: &str, variant: Option<&str>) -> Value {
            let mut config =
                json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
            variant.into_iter().for_each(|variant| config["variant"] = variant.into());
            let config = self.put(media_type::CONFIG, &config);
            self.put(media_type::MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}))
        }

        fn index(&mut self, entries: &[&Value]) -> Value {
            self.put(media_type::INDEX, &json!({"schemaVersion": 2, "manifests": entries}))
        }

        fn select(&self, start: &Value, platform: &str) -> Result<Selected, ImageError> {
            let start: Descriptor = serde_json::from_value(start.clone()).unwrap();
            select(&[start], &platform.parse().unwrap(), "the layout", &mut |descriptor, _| {
                Ok::<_, ImageError>(self.0[&digest_of(descriptor).unwrap()].clone())
            })
        }
    }

    fn says(descriptor: &Value, architecture: &str, os: &str) -> Value {
        let mut descriptor = descriptor.clone();
        descriptor["platform"] = json!({"architecture": architecture, "os": os});
        descriptor
    }

    #[test]
    fn an_index_gives_the_image_of_the_platform_and_nested_ones_are_followed() {
        let mut blobs = Blobs::default();
        let (amd, arm) = (blobs.image("amd64", None), blobs.image("arm64", Some("v8")));
        let inner = blobs.index(&[&says(&arm, "arm64", "linux"), &says(&amd, "amd64", "linux")]);
        let outer = blobs.index(&[&says(&amd, "unknown", "unknown"), &inner]);
        for start in [&inner, &outer] {
            assert_eq!(blobs.select(start, "linux/arm64").unwrap().config.platform.architecture, "arm64");
            assert_eq!(blobs.select(start, "linux/amd64").unwrap().config.platform.architecture, "amd64");
        }
    }

    #[test]
    fn an_entry_without_a_platform_is_judged_by_its_configuration() {
        let mut blobs = Blobs::default();
        let (amd, arm) = (blobs.image("amd64", None), blobs.image("arm64", None));
        let index = blobs.index(&[&arm, &amd]);
        assert_eq!(blobs.select(&index, "linux/amd64").unwrap().config.platform.architecture, "amd64");
    }

    #[test]
    fn a_single_manifest_is_taken_whatever_its_platform() {
        let mut blobs = Blobs::default();
        let arm = blobs.image("arm64", None);
        assert_eq!(blobs.select(&arm, "linux/amd64").unwrap().config.platform.architecture, "arm64");
    }

    #[test]
    fn a_missing_platform_lists_those_that_exist() {
        let mut blobs = Blobs::default();
        let (s390, arm) = (blobs.image("s390x", None), blobs.image("arm64", None));
        let index = blobs.index(&[&says(&s390, "s390x", "linux"), &arm]);
        let error = blobs.select(&index, "linux/amd64").unwrap_err().to_string();
        assert_eq!(error, "the layout has no image for linux/amd64, only for: linux/s390x, linux/arm64");
    }

    #[test]
    fn a_tower_of_indexes_is_refused_and_a_wide_one_is_read_once() {
        let mut blobs = Blobs::default();
        let mut tower = blobs.image("amd64", None);
        for _ in 0..MAX_DEPTH {
            tower = blobs.index(&[&tower]);
        }
        assert!(blobs.select(&tower, "linux/amd64").is_ok());
        for _ in 0..2 {
            tower = blobs.index(&[&tower]);
        }
        assert!(matches!(blobs.select(&tower, "linux/amd64"), Err(ImageError::Nesting { .. })));
        let mut wide = blobs.image("arm64", None);
        for _ in 0..MAX_DEPTH {
            wide = blobs.index(&vec![&wide; 50]);
        }
        assert!(matches!(blobs.select(&wide, "linux/amd64"), Err(ImageError::Platform { .. })));
    }

    #[test]
    fn a_circle_is_refused() {
        // SHA-256 allows no real circle; a fetch that does not verify shows that the walk ends all the same.
        let digest = Digest::of(b"circle");
        let entry = json!({"mediaType": media_type::INDEX, "digest": digest, "size": 1});
        let mut blobs = Blobs::default();
        blobs.0.insert(digest, serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap());
        assert!(matches!(blobs.select(&entry, "linux/amd64"), Err(ImageError::Nesting { .. })));
    }

    #[test]
    fn diff_ids_and_layers_must_be_as_many() {
        let mut blobs = Blobs::default();
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
            "diff_ids": [Digest::of(b"a")]}});
        let config = blobs.put(media_type::CONFIG, &config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
        let manifest = blobs.put(media_type::MANIFEST, &manifest);
        let Err(ImageError::Config { source, .. }) = blobs.select(&manifest, "linux/amd64") else { panic!("accepted") };
        assert_eq!(source.to_string(), "0 layers in the manifest, but 1 diff_ids in the configuration");
    }
}
