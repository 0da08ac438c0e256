use std::collections::{BTreeMap, HashSet};

use oci_spec::image::Descriptor;

use super::{Origin, Top, read_document};
use crate::oci::{Digest, Document, ImageError, Parts, Platform, digest_of, media_type, parse_config, select};
use crate::output::{OutputError, index};
use crate::store::{Image, describe};

/// How many indexes may lead to an image.
const MAX_DEPTH: usize = 8;
/// The most bytes of manifests, indexes and configurations of one index.
const MAX_DOCUMENTS: usize = 48 << 20;

/// Which images of an index are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The one for this platform. A single image is taken whatever its platform.
    Platform(Platform),
    /// All, with the index itself.
    All,
}

/// All that an image, or an index of images, is made of.
#[derive(Debug, Clone)]
pub struct Content {
    /// Leads to the manifest or index.
    pub top: Descriptor,
    /// The manifests and indexes, each behind those that it refers to; the last is that of `top`.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// The configurations of images, by digest: they are read already.
    pub configs: BTreeMap<Digest, Vec<u8>>,
    /// Configurations and layers, each once.
    pub blobs: BTreeMap<Digest, Descriptor>,
}

impl Content {
    /// Returns the content of an image that was read.
    pub fn of_image(image: &Image) -> Self {
        let (config, layers) = (image.manifest.config(), image.layers());
        let mut blobs: BTreeMap<Digest, Descriptor> =
            layers.iter().map(|layer| (layer.digest, layer.descriptor.clone())).collect();
        blobs.insert(image.config_digest(), config.clone());
        Content {
            top: image.descriptor(),
            documents: vec![(image.descriptor(), image.manifest_bytes.clone())],
            configs: BTreeMap::from([(image.config_digest(), image.config_bytes.clone())]),
            blobs,
        }
    }

    /// Returns the content of an index of images that were read: `top` leads to its `bytes`.
    pub fn of_index(images: &[&Image], top: Descriptor, bytes: Vec<u8>) -> Self {
        let mut content = Content::empty(&top);
        for image in images.iter().map(|image| Content::of_image(image)) {
            content.documents.extend(image.documents);
            content.configs.extend(image.configs);
            content.blobs.extend(image.blobs);
        }
        content.documents.push((top, bytes));
        content
    }

    /// Reads what is meant in `from`: its manifests, indexes and configurations, each verified and checked.
    ///
    /// # Errors
    /// [`OutputError`] where one of them is not there, or makes no sense, or there is no image for the platform.
    pub fn gather(from: &dyn Origin, top: &Top, selection: &Selection) -> Result<Self, OutputError> {
        match selection {
            Selection::Platform(platform) => {
                let mut fetch = |descriptor: &Descriptor, what: &str| read_document(from, descriptor, what);
                let image: Image = select(&top.starts, platform, &from.place(), &mut fetch)?.into();
                Ok(Content::of_image(&image))
            }
            Selection::All => Content::all(from, &top.starts),
        }
    }

    /// Reads the images for these platforms that are meant in `from`, as [`gather`](Self::gather) reads one, and keeps all that led to
    /// them: of an index its digest stays, though not all is there that it lists.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    ///
    /// # Panics
    /// Where there is no platform.
    pub fn gather_some(from: &dyn Origin, top: &Top, platforms: &[Platform]) -> Result<Self, OutputError> {
        let mut read: Vec<(Descriptor, Vec<u8>)> = Vec::new();
        let mut content: Option<Content> = None;
        for platform in platforms {
            let mut fetch = |descriptor: &Descriptor, what: &str| {
                if let Some((_, bytes)) = read.iter().find(|(known, _)| known.digest() == descriptor.digest()) {
                    return Ok(bytes.clone());
                }
                let bytes = read_document(from, descriptor, what)?;
                read.push((descriptor.clone(), bytes.clone()));
                Ok::<_, OutputError>(bytes)
            };
            let image: Image = select(&top.starts, platform, &from.place(), &mut fetch)?.into();
            let more = Content::of_image(&image);
            match &mut content {
                Some(content) => content.blobs.extend(more.blobs),
                None => content = Some(more),
            }
        }
        let mut content = content.expect("the caller names a platform");
        content.documents.clear();
        // The last was reached through those before it.
        for (descriptor, bytes) in read.into_iter().rev() {
            let digest = digest_of(&descriptor)?;
            let plain = describe(descriptor.media_type().as_ref(), &digest, descriptor.size());
            match descriptor.media_type().as_ref() {
                media_type::INDEX | media_type::DOCKER_INDEX | media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                    content.documents.push((plain, bytes))
                }
                _ => {
                    // It may have been read to learn a platform, and belong to an image that nobody wants.
                    content.blobs.insert(digest, plain);
                    content.configs.insert(digest, bytes);
                }
            }
        }
        if top.starts.len() > 1 {
            content.documents.push(index::assemble(media_type::INDEX, &top.starts));
        }
        content.top = content.documents.last().expect("an image has a manifest").0.clone();
        Ok(content)
    }

    /// Reads all that `starts` lead to. Several are joined by an index that is made here: they had none.
    fn all(from: &dyn Origin, starts: &[Descriptor]) -> Result<Self, OutputError> {
        let mut walk = Walk { from, seen: HashSet::new(), bytes: 0, content: Content::empty(&starts[0]) };
        for start in starts {
            let top = walk.follow(start, 0)?;
            if let [_] = starts {
                walk.content.top = top;
            }
        }
        if starts.len() > 1 {
            let (top, bytes) = index::assemble(media_type::INDEX, starts);
            walk.content.top = top.clone();
            walk.content.documents.push((top, bytes));
        }
        Ok(walk.content)
    }

    fn empty(top: &Descriptor) -> Self {
        Content { top: top.clone(), documents: Vec::new(), configs: BTreeMap::new(), blobs: BTreeMap::new() }
    }

    /// Returns the digest of the manifest or index.
    pub fn digest(&self) -> Digest {
        digest_of(&self.top).expect("checked when it was read")
    }

    /// Returns whether this is an index of images.
    pub fn is_index(&self) -> bool {
        matches!(self.top.media_type().as_ref(), media_type::INDEX | media_type::DOCKER_INDEX)
    }

    /// Returns the only image; `None` for an index.
    ///
    /// # Errors
    /// [`ImageError`] where its documents do not belong to each other.
    pub fn image(&self) -> Result<Option<Image>, ImageError> {
        let (descriptor, manifest) = self.documents.last().expect("there is always one");
        let parts = Parts::parse(manifest, Some(descriptor.media_type().as_ref()), "manifest")?;
        let Some(config) = parts.config.as_ref().filter(|_| parts.is_image()) else { return Ok(None) };
        match self.configs.get(&digest_of(config)?) {
            Some(config) => Image::new(descriptor.media_type().as_ref(), manifest.clone(), config.clone()).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the digests of the manifests, those of attestations among them, in their order.
    pub fn images(&self) -> Vec<Digest> {
        let manifests =
            self.documents.iter().filter(|(descriptor, _)| !media_type::is_index(descriptor.media_type().as_ref()));
        manifests.map(|(_, bytes)| Digest::of(bytes)).collect()
    }

    /// Returns how many bytes the blobs have together.
    pub fn size(&self) -> u64 {
        self.blobs.values().fold(0, |sum, blob| sum.saturating_add(blob.size()))
    }
}

struct Walk<'a> {
    from: &'a dyn Origin,
    seen: HashSet<Digest>,
    bytes: usize,
    content: Content,
}

impl Walk<'_> {
    /// Reads the manifest or index and all below it. Returns the descriptor as it is written elsewhere: for a manifest with the
    /// platform of its image.
    fn follow(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Descriptor, OutputError> {
        let digest = digest_of(descriptor)?;
        let kind = descriptor.media_type().as_ref();
        let is_index = media_type::is_index(kind);
        let what = format!("{} {digest}", if is_index { "index" } else { "manifest" });
        if depth > MAX_DEPTH {
            return Err(ImageError::Nesting { what, limit: MAX_DEPTH }.into());
        }
        if !self.seen.insert(digest) {
            return Ok(descriptor.clone());
        }
        let bytes = read_document(self.from, descriptor, &what)?;
        self.count(&what, bytes.len())?;
        let parts = Parts::parse(&bytes, Some(kind), &what)?;
        let mut own = descriptor.clone();
        for child in parts.children.iter().flatten() {
            self.follow(child, depth + 1)?;
        }
        if parts.is_image() {
            let (Document::Manifest(manifest), _) = Document::parse(&bytes, Some(kind), &what)? else {
                unreachable!("a document with a configuration is no index")
            };
            let config_digest = digest_of(manifest.config())?;
            let config = read_document(self.from, manifest.config(), &format!("configuration {config_digest}"))?;
            self.count(&what, config.len())?;
            let parsed = parse_config(&config, &manifest)?;
            own.set_platform(Some(index::platform_of(&parsed)));
            self.content.configs.insert(config_digest, config);
        }
        for blob in &parts.blobs {
            self.content.blobs.insert(digest_of(blob)?, blob.clone());
        }
        // An entry of an index may say a platform and annotations: they are part of the index, and stay in it.
        self.content.documents.push((descriptor.clone(), bytes));
        Ok(own)
    }

    fn count(&mut self, what: &str, bytes: usize) -> Result<(), OutputError> {
        self.bytes += bytes;
        if self.bytes <= MAX_DOCUMENTS {
            return Ok(());
        }
        let what = format!("all that leads to {what}");
        Err(ImageError::TooLarge { what, found: self.bytes as u64, unit: "bytes", limit: MAX_DOCUMENTS as u64 }.into())
    }
}
