use std::collections::HashMap;

use super::document::{Document, LayerRecord};
use crate::output::content::Origin;
use crate::store::{CachedStep, LayerId};

/// What the caches know: what they say, as they say it.
#[derive(Default)]
pub(super) struct Known<'a> {
    /// The caches that could be read.
    caches: Vec<Cache<'a>>,
    /// For each key, what the first cache says that knows it.
    steps: HashMap<String, Said>,
    images: HashMap<String, i64>,
    /// For each layer, the caches that have it.
    layers: HashMap<LayerId, Vec<(usize, LayerRecord)>>,
}

/// A cache that was read.
pub(super) struct Cache<'a> {
    /// Its number among those that a build looks into.
    pub number: usize,
    /// What it is called in warnings.
    pub name: String,
    /// What it is called in the store.
    pub identity: String,
    /// Where its blobs are.
    pub origin: Box<dyn Origin + 'a>,
}

/// What a step made, as a cache says.
#[derive(Clone, Copy)]
struct Said {
    layer: LayerId,
    created: i64,
    cache: usize,
}

impl<'a> Known<'a> {
    pub(super) fn add(&mut self, cache: Cache<'a>, documents: Vec<Document>) {
        let at = self.caches.len();
        self.caches.push(cache);
        documents.into_iter().for_each(|document| self.add_document(at, document));
    }

    fn add_document(&mut self, at: usize, document: Document) {
        let ids = document.layers.into_iter().filter_map(|(id, record)| Some((LayerId::from_hex(&id)?, record)));
        for (id, record) in ids {
            self.layers.entry(id).or_default().push((at, record));
        }
        for (key, made) in document.images {
            self.images.entry(key).or_insert(made);
        }
        for step in document.steps {
            let Some(layer) = LayerId::from_hex(&step.layer) else { continue };
            let said = Said { layer, created: step.created, cache: at };
            for key in step.keys {
                self.steps.entry(key).or_insert(said);
            }
        }
    }

    /// Returns what the step with this key made. Under which other keys a cache has it is nobody's business: only who computes a key
    /// knows that it is that of the step.
    pub(super) fn step(&self, key: &str) -> Option<CachedStep> {
        let Said { layer, created, cache } = *self.steps.get(key)?;
        Some(CachedStep { layer, created, keys: Vec::new(), from: Some(self.caches[cache].identity.clone()) })
    }

    /// Returns when the image with this key was made first.
    pub(super) fn made(&self, key: &str) -> Option<i64> {
        self.images.get(key).copied()
    }

    /// Returns what the caches say of a layer, and the numbers by which [`cache`](Self::cache) knows them.
    pub(super) fn layer(&self, layer: &LayerId) -> &[(usize, LayerRecord)] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn cache(&self, at: usize) -> &Cache<'a> {
        &self.caches[at]
    }
}
