use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use oci_spec::image::{Descriptor, DescriptorBuilder, ImageManifest, MediaType, Sha256Digest};

use super::{Store, StoreError};
use crate::oci::{
    DiffId, Digest, Document, ImageConfig, ImageError, MAX_DOCUMENT, Parts, Platform, Reference, Selected, digest_of,
    select,
};

/// The fewest digits of a digest by which an image is found.
const MIN_ID: usize = 12;

/// An image: its manifest and configuration, read, verified and checked. Its layers may or may not be in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Media type of the manifest.
    pub media_type: String,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The manifest as it is stored.
    pub manifest_bytes: Vec<u8>,
    /// The configuration as it is stored.
    pub config_bytes: Vec<u8>,
    /// The configuration. It has as many diff_ids as the manifest has layers.
    pub config: ImageConfig,
}

/// A layer of an [`Image`].
#[derive(Debug, Clone, Copy)]
pub struct ImageLayer<'a> {
    /// Its descriptor in the manifest.
    pub descriptor: &'a Descriptor,
    /// Digest of the layer as it is stored.
    pub digest: Digest,
    /// Length in bytes of the layer as it is stored.
    pub size: u64,
    /// Digest of its tar.
    pub diff_id: DiffId,
}

impl Image {
    /// Returns the image of a manifest of type `media_type` and its configuration, checked, but stored nowhere.
    ///
    /// # Errors
    /// [`ImageError`] where they make no sense or do not belong to each other.
    pub fn new(media_type: &str, manifest_bytes: Vec<u8>, config_bytes: Vec<u8>) -> Result<Self, ImageError> {
        let digest = Digest::of(&manifest_bytes);
        let descriptor = describe(media_type, &digest, manifest_bytes.len() as u64);
        // A manifest first, then its configuration: in that order they are asked for.
        let mut documents = [manifest_bytes, config_bytes].into_iter();
        let selected = select(&[descriptor], &Platform::host(), "image", &mut |_, what| {
            documents.next().ok_or_else(|| ImageError::MediaType {
                what: what.into(),
                expected: media_type.into(),
                found: crate::oci::media_type::INDEX.into(),
            })
        })?;
        let expected = digest_of(selected.manifest.config())?;
        if Digest::of(&selected.config_bytes) != expected {
            let found = Digest::of(&selected.config_bytes).to_string();
            let what = format!("configuration in manifest {digest}");
            return Err(ImageError::Json { what, reason: format!("it should have digest {expected}, not {found}") });
        }
        Ok(selected.into())
    }

    /// Returns the descriptor that leads to the image, with its platform.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = describe(&self.media_type, &self.digest, self.manifest_bytes.len() as u64);
        let mut platform = oci_spec::image::Platform::default();
        platform.set_architecture(self.config.platform.architecture.as_str().into());
        platform.set_os(self.config.platform.os.as_str().into());
        platform.set_variant(self.config.platform.variant.clone());
        descriptor.set_platform(Some(platform));
        descriptor
    }

    /// Returns the digest of the configuration, which docker calls the image id.
    pub fn config_digest(&self) -> Digest {
        digest_of(self.manifest.config()).expect("checked when the image was read")
    }

    /// Returns the layers, bottom first.
    pub fn layers(&self) -> Vec<ImageLayer<'_>> {
        let diff_ids = self.config.rootfs.diff_ids.iter();
        let layer = |(descriptor, diff_id): (_, &DiffId)| ImageLayer {
            descriptor,
            digest: digest_of(descriptor).expect("checked when the image was read"),
            size: descriptor.size(),
            diff_id: *diff_id,
        };
        self.manifest.layers().iter().zip(diff_ids).map(layer).collect()
    }
}

impl From<Selected> for Image {
    fn from(selected: Selected) -> Self {
        Image {
            digest: selected.digest,
            media_type: selected.descriptor.media_type().to_string(),
            manifest: selected.manifest,
            manifest_bytes: selected.manifest_bytes,
            config_bytes: selected.config_bytes,
            config: selected.config,
        }
    }
}

impl Store {
    /// Returns the image that `descriptor` leads to, verified and checked; of an index, the one for this platform.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`], [`StoreError::Mismatch`] and [`StoreError::Image`] with what is wrong with its documents.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image, StoreError> {
        self.image_for(descriptor, &Platform::host())
    }

    /// As [`Store::image`], for another platform.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn image_for(&self, descriptor: &Descriptor, platform: &Platform) -> Result<Image, StoreError> {
        let what = match digest_of(descriptor) {
            Ok(digest) => format!("index {digest}"),
            Err(error) => return Err(error.into()),
        };
        let mut fetch = |descriptor: &Descriptor, what: &str| self.read_document(descriptor, what);
        Ok(select(std::slice::from_ref(descriptor), platform, &what, &mut fetch)?.into())
    }

    /// As [`Store::image`], by the digest of a manifest or an index.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn image_of(&self, digest: &Digest) -> Result<Image, StoreError> {
        self.image(&self.describe(digest)?)
    }

    /// Returns where the name `name` leads: a name in full or short, a name with a digest, or an image id: the
    /// digest of a manifest or a configuration, with or without `sha256:`, at least 12 digits of it. Names go before ids.
    ///
    /// An id finds images without a name as well.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where index.json is not the JSON of an index.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>, StoreError> {
        let images = self.images()?;
        let reference = Reference::parse(name).ok();
        let full = reference.as_ref().map(Reference::to_string);
        for wanted in full.iter().map(String::as_str).chain([name]) {
            if let Some(image) = images.iter().find(|image| image.name == wanted) {
                return Ok(Some(image.descriptor.clone()));
            }
        }
        if let Some(reference) = &reference
            && let Some(digest) = reference.digest()
        {
            let same = |name: &str| Reference::parse(name).is_ok_and(|other| other.name() == reference.name());
            let image = images
                .iter()
                .find(|image| image.descriptor.digest().to_string() == digest.to_string() && same(&image.name));
            return Ok(image.map(|image| image.descriptor.clone()));
        }
        match id(name) {
            Some(id) => self.find_id(id),
            None => Ok(None),
        }
    }

    /// Returns the image whose manifest, or else configuration, has a digest that begins with the digits `id`.
    fn find_id(&self, id: &str) -> Result<Option<Descriptor>, StoreError> {
        if let Ok(digest) = format!("sha256:{id}").parse::<Digest>()
            && let Ok(descriptor) = self.describe(&digest)
        {
            return Ok(Some(descriptor));
        }
        // Images with a name come first: of several manifests with one configuration, that is the one meant.
        let mut candidates: Vec<Digest> =
            self.images()?.iter().filter_map(|image| digest_of(&image.descriptor).ok()).collect();
        candidates.extend(self.blobs_that_may_be_documents()?);
        let mut by_config = None;
        for digest in candidates {
            let named = digest.hex().starts_with(id);
            let Ok(bytes) = self.read_blob(&digest, MAX_DOCUMENT) else { continue };
            let Ok((document, media_type)) = Document::parse(&bytes, None, "blob") else { continue };
            let found = || describe(&media_type, &digest, bytes.len() as u64);
            if named {
                return Ok(Some(found()));
            }
            if let Document::Manifest(manifest) = document
                && by_config.is_none()
                && digest_of(manifest.config()).is_ok_and(|config| config.hex().starts_with(id))
            {
                by_config = Some(found());
            }
        }
        Ok(by_config)
    }

    /// Returns the manifests and indexes that no name leads to, sorted by digest: of those that belong to an index, only the index.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn unnamed(&self) -> Result<Vec<Descriptor>, StoreError> {
        let mut reached: BTreeSet<Digest> = BTreeSet::new();
        let mut found: Vec<(Descriptor, Vec<Digest>)> = Vec::new();
        for digest in self.blobs_that_may_be_documents()? {
            let Ok(bytes) = self.read_blob(&digest, MAX_DOCUMENT) else { continue };
            let Ok(parts) = Parts::parse(&bytes, None, "blob") else { continue };
            // A configuration has neither.
            if parts.children.is_none() && parts.config.is_none() {
                continue;
            }
            let children = parts.children.iter().flatten().filter_map(|child| digest_of(child).ok()).collect();
            found.push((describe(&parts.media_type, &digest, bytes.len() as u64), children));
        }
        reached.extend(found.iter().flat_map(|(_, children)| children));
        for image in self.images()? {
            reached.extend(digest_of(&image.descriptor).ok());
        }
        let named = |descriptor: &Descriptor| digest_of(descriptor).is_ok_and(|digest| reached.contains(&digest));
        Ok(found.into_iter().map(|(descriptor, _)| descriptor).filter(|descriptor| !named(descriptor)).collect())
    }

    /// Returns the blobs that are small and begin as a JSON object does, sorted.
    fn blobs_that_may_be_documents(&self) -> Result<Vec<Digest>, StoreError> {
        let dir = self.layout().join("blobs/sha256");
        let failed = |source| StoreError::io("read", &dir, source);
        let mut found = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // A store that was opened to read need not exist.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let Some(digest) = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) else {
                continue;
            };
            if self.blob_size(&digest).is_none_or(|size| size > MAX_DOCUMENT) {
                continue;
            }
            let mut first = [0];
            if self.open_blob(&digest).is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first == *b"{" {
                found.push(digest);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns a descriptor of the manifest or index `digest` in the store.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`], and [`StoreError::Image`] where it is no manifest.
    pub fn describe(&self, digest: &Digest) -> Result<Descriptor, StoreError> {
        let bytes = self.read_blob(digest, MAX_DOCUMENT)?;
        let parts = Parts::parse(&bytes, None, &format!("blob {digest}"))?;
        Ok(describe(&parts.media_type, digest, bytes.len() as u64))
    }

    fn read_document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, StoreError> {
        let (digest, expected_size) = (digest_of(descriptor)?, descriptor.size());
        let bytes = self.read_blob(&digest, MAX_DOCUMENT)?;
        let found_size = bytes.len() as u64;
        if found_size != expected_size {
            let what = what.into();
            return Err(StoreError::Mismatch { what, expected: digest, expected_size, found: digest, found_size });
        }
        Ok(bytes)
    }
}

/// Returns a descriptor with these members and no others.
pub fn describe(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    let digest: Sha256Digest = digest.hex().parse().expect("64 hexadecimal digits");
    DescriptorBuilder::default()
        .media_type(MediaType::from(media_type))
        .digest(digest)
        .size(size)
        .build()
        .expect("media type, digest and size are all that a descriptor needs")
}

/// Returns the digits of an image id.
fn id(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex && (MIN_ID..=64).contains(&digits.len())).then_some(digits)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
