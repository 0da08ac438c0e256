use crate::oci::{ChainId, DiffId, Digest};
use crate::plan::{CacheKey, KeyBuilder};
use crate::store::{Image, LayerId, Packed, Store};

/// The layers of a stage up to some step, and what they are called in cache keys.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// Says which files the stack of layers has: the same on every machine.
    identity: CacheKey,
    /// Bottom first.
    links: Vec<Link>,
}

/// One layer of a [`Chain`].
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Its name in the store.
    pub id: LayerId,
    /// The blob it came in, for a layer of a base image.
    pub origin: Option<Packed>,
    /// The stack that it is on top of with those below it, for a layer of a base image.
    pub stack: Option<ChainId>,
}

impl Chain {
    /// Returns the chain without layers.
    pub fn scratch() -> Self {
        Chain { identity: KeyBuilder::new("scratch").finish(), links: Vec::new() }
    }

    /// Returns the layers of `image`.
    pub fn of_image(image: &Image, store: &Store) -> Self {
        let diff_ids: &[DiffId] = &image.config.rootfs.diff_ids;
        let chain_ids = ChainId::chain(diff_ids);
        let links = image
            .layers()
            .iter()
            .zip(&chain_ids)
            .map(|(layer, chain)| {
                let origin = Packed {
                    media_type: layer.descriptor.media_type().to_string(),
                    digest: layer.digest,
                    size: layer.size,
                    diff_id: layer.diff_id,
                };
                Link { id: store.layer_of_chain(*chain), origin: Some(origin), stack: Some(*chain) }
            })
            .collect();
        let identity = match chain_ids.last() {
            Some(top) => KeyBuilder::new("image").field("chain", top.0.raw()).finish(),
            None => return Chain::scratch(),
        };
        Chain { identity, links }
    }

    /// Returns this chain with `layer` on top.
    pub fn with(&self, layer: LayerId) -> Self {
        let identity = KeyBuilder::new("layer").field("below", self.identity.0).field("layer", layer.raw()).finish();
        let mut links = self.links.clone();
        links.push(Link { id: layer, origin: None, stack: None });
        Chain { identity, links }
    }

    /// Returns the name of the stack of layers.
    pub fn identity(&self) -> &CacheKey {
        &self.identity
    }

    /// Returns the layers, bottom first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }
}

/// Returns the cache key of a step with the definition `definition` on the layers `below`; `content` are digests of all
/// else that the step reads.
pub(super) fn step_key(below: &Chain, definition: &CacheKey, content: &[(&str, &[u8])]) -> CacheKey {
    let mut key = KeyBuilder::new("step");
    key.field("definition", definition.0).field("parent", below.identity.0);
    for (tag, bytes) in content {
        key.field(tag, bytes);
    }
    key.finish()
}

/// Returns the key under which the time of the making of an image with this `config` is remembered.
pub(super) fn image_key(layers: &Chain, config: &[u8]) -> CacheKey {
    KeyBuilder::new("created").field("layers", layers.identity.0).field("config", Digest::of(config).raw()).finish()
}
