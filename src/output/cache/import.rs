use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use oci_spec::image::Descriptor;
use serde::Deserialize;

use super::document::{ARTIFACT, CONFIG, Document, LayerRecord};
use super::fetch;
use super::inline::cache_in;
use super::known::{Cache, Known};
use crate::oci::{Digest, Parts, os_platform};
use crate::output::OutputError;
use crate::output::content::{Origin, bring, read_document};
use crate::output::source::Meter;
use crate::progress::{Event, Silent, Sink};
use crate::registry::Repository;
use crate::store::{CachedStep, Image, LayerId, Packed, RemoteSteps, Store, describe};

/// The most manifests that are read of one cache.
const MOST_MANIFESTS: usize = 64;
/// The most bytes that they have, with the lists of steps.
const MOST_BYTES: u64 = 48 << 20;

/// Opens the place of a cache, when it is needed.
pub type OpenOrigin<'a> = Box<dyn Fn() -> Result<Box<dyn Origin + 'a>, OutputError> + Sync + 'a>;

/// A cache that is looked into.
pub struct CacheSource<'a> {
    /// What it is called in warnings.
    pub name: String,
    /// What it is called in the store ([`CachePlace::identity`](super::CachePlace::identity)).
    pub identity: String,
    /// Opens it.
    pub open: OpenOrigin<'a>,
}

/// The caches that a build looks into, in order. They are read when the first step is not in the store, and what is wrong with one
/// is a warning.
pub struct CacheSources<'a> {
    store: &'a Store,
    sink: &'a dyn Sink,
    key_format: u32,
    sources: Vec<CacheSource<'a>>,
    known: OnceLock<Known<'a>>,
    /// Layers that could not be had: they are not asked for again.
    lost: Mutex<Vec<LayerId>>,
    /// Says from which repositories a blob need not be brought, because it can be mounted where the image goes.
    stays: Option<Stays<'a>>,
    promised: Promised,
}

/// Returns whether blobs of a repository may stay there.
pub type Stays<'a> = Box<dyn Fn(&Repository) -> bool + Sync + 'a>;

/// What was asked for, and which of the caches has it.
type Promised = Mutex<HashMap<(LayerId, String), Option<(usize, Packed)>>>;

/// The manifest of a cache, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    artifact_type: Option<String>,
}

impl std::fmt::Debug for CacheSources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|source| &source.name)).finish()
    }
}

impl std::fmt::Debug for CacheSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl<'a> CacheSources<'a> {
    /// Returns these caches; nothing is read yet. `key_format` is the version of cache keys.
    pub fn new(sources: Vec<CacheSource<'a>>, key_format: u32, store: &'a Store, sink: &'a dyn Sink) -> Self {
        let (known, lost, promised) = (OnceLock::new(), Mutex::default(), Mutex::default());
        CacheSources { store, sink, key_format, sources, known, lost, stays: None, promised }
    }

    /// Returns these caches for a build whose image goes to where blobs can be mounted from the repositories of which `stays` says so:
    /// such a layer is not brought, if the image alone needs it. What the cache says of its content is believed; who pulls the image
    /// verifies it.
    #[must_use]
    pub fn with_staying(self, stays: Stays<'a>) -> Self {
        CacheSources { stays: Some(stays), ..self }
    }

    /// Returns whether a blob stayed where it was.
    pub fn has_stayed(&self) -> bool {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        promised.values().flatten().any(|(_, packed)| !self.store.has_blob(&packed.digest))
    }

    /// Returns the repository in which the blob `digest` stayed.
    pub fn stayed(&self, digest: &Digest) -> Option<&Repository> {
        self.stayed_at(digest)?.1.repository()
    }

    /// Brings a blob that stayed where it was, after all.
    ///
    /// # Errors
    /// [`OutputError`] where it cannot be had.
    pub fn bring_stayed(&self, digest: &Digest) -> Result<(), OutputError> {
        let Some((packed, origin)) = self.stayed_at(digest) else { return Ok(()) };
        let descriptor = describe(&packed.media_type, &packed.digest, packed.size);
        bring(origin, &descriptor, self.store, &Meter::new(&Silent, origin.place(), None))
    }

    fn stayed_at(&self, digest: &Digest) -> Option<(Packed, &dyn Origin)> {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, packed) = promised.values().flatten().find(|(_, packed)| packed.digest == *digest)?;
        Some((packed.clone(), self.known.get()?.cache(*at).origin.as_ref()))
    }

    /// Finds the cache in which the blob of a layer can stay.
    fn staying(&self, layer: &LayerId, variant: &str) -> Option<(usize, Packed)> {
        let stays = self.stays.as_ref()?;
        let known = self.known.get()?;
        known.layer(layer).iter().find_map(|(at, record)| {
            let repository = known.cache(*at).origin.repository()?;
            let fits = record.variant == variant && stays(repository);
            // What the cache has lost must be made anew, and now is the time for it.
            let offered = fits && repository.offers_blob(&record.packed.digest).unwrap_or(false);
            offered.then(|| (*at, record.packed.clone()))
        })
    }

    /// Returns how `layer` is packed in a cache that was read, and the blob there: in the first of those of which `counts`, which is told
    /// their numbers and the blob, says so.
    pub fn packed(&self, layer: &LayerId, counts: &dyn Fn(usize, &Packed) -> bool) -> Option<(String, Packed)> {
        let known = self.known.get()?;
        let found = known.layer(layer).iter().find(|(at, record)| counts(known.cache(*at).number, &record.packed));
        found.map(|(_, record)| (record.variant.clone(), record.packed.clone()))
    }

    fn known(&self) -> &Known<'a> {
        self.known.get_or_init(|| {
            let mut known = Known::default();
            for (number, source) in self.sources.iter().enumerate() {
                match self.read(source) {
                    Ok((origin, documents)) => {
                        let (name, identity) = (source.name.clone(), source.identity.clone());
                        known.add(Cache { number, name, identity, origin }, documents);
                    }
                    Err(reason) => self.warn(format!("cache {} is not used: {reason}", source.name)),
                }
            }
            known
        })
    }

    fn read(&self, source: &CacheSource<'a>) -> Result<(Box<dyn Origin + 'a>, Vec<Document>), String> {
        let origin = (source.open)().map_err(|error| chain(&error))?;
        let mut todo = origin.top().map_err(|error| chain(&error))?.starts;
        let (mut found, mut odd) = (Vec::new(), None);
        let (mut at, mut left) = (0, MOST_BYTES);
        // Of an index all images count: each has the cache of its platform.
        while let Some(descriptor) = todo.get(at).cloned().filter(|_| at < MOST_MANIFESTS) {
            at += 1;
            match self.documents(origin.as_ref(), &descriptor, &mut todo, &mut left)? {
                Ok(document) => found.extend(document),
                Err(reason) => odd = Some(reason),
            }
        }
        match odd {
            _ if !found.is_empty() => Ok((origin, found)),
            Some(reason) => Err(reason),
            None => Err("what is there is no cache of coracle, and no image with one in it".into()),
        }
    }

    /// Returns the cache that `descriptor` leads to, if there is one. What an index names is added to `todo`.
    fn documents(
        &self,
        origin: &dyn Origin,
        descriptor: &Descriptor,
        todo: &mut Vec<Descriptor>,
        left: &mut u64,
    ) -> Result<Result<Option<Document>, String>, String> {
        let mut read = |descriptor: &Descriptor, what: &str| {
            let rest = left.checked_sub(descriptor.size());
            *left = rest.ok_or_else(|| format!("its manifests and lists have more than {MOST_BYTES} bytes"))?;
            read_document(origin, descriptor, what).map_err(|error: OutputError| chain(&error))
        };
        let bytes = read(descriptor, "manifest of the cache")?;
        let kind = descriptor.media_type().as_ref();
        let parts = Parts::parse(&bytes, Some(kind), "manifest of the cache").map_err(|error| chain(&error))?;
        let is_image = |child: &&Descriptor| os_platform(child).is_none_or(|platform| platform.os != "unknown");
        todo.extend(parts.children.iter().flatten().filter(is_image).cloned());
        let Some(config) = &parts.config else { return Ok(Ok(None)) };
        let said: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        let is_cache = said.and_then(|manifest| manifest.artifact_type).as_deref() == Some(ARTIFACT);
        if is_cache || config.media_type().as_ref() == CONFIG {
            return Ok(Document::parse(&read(config, "list of steps")?, self.key_format).map(Some));
        }
        if !parts.is_image() {
            return Ok(Ok(None));
        }
        let config = read(config, "configuration of the image")?;
        let image = Image::new(&parts.media_type, bytes, config).map_err(|error| chain(&error))?;
        Ok(cache_in(&image, self.key_format))
    }

    fn warn(&self, message: String) {
        self.sink.emit(Event::Warning { message, line: None });
    }

    /// Tries `bring` with each cache that has `layer`.
    fn bring(&self, layer: &LayerId, bring: impl Fn(&Cache<'_>, &LayerRecord) -> Result<(), String>) -> bool {
        if self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(layer) {
            return false;
        }
        let known = self.known();
        for (at, record) in known.layer(layer) {
            let cache = known.cache(*at);
            match bring(cache, record) {
                Ok(()) => return true,
                Err(reason) => self.warn(format!("a layer cannot be had from the cache {}: {reason}", cache.name)),
            }
        }
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(*layer);
        false
    }
}

impl RemoteSteps for CacheSources<'_> {
    fn step(&self, key: &str) -> Option<CachedStep> {
        self.known().step(key)
    }

    fn made(&self, key: &str) -> Option<i64> {
        // Who had no step from here has none of its images.
        self.known.get()?.made(key)
    }

    fn bring_index(&self, layer: &LayerId) -> bool {
        self.bring(layer, |cache, record| fetch::index(self.store, cache, layer, record))
    }

    fn bring_blob(&self, layer: &LayerId) -> bool {
        self.bring(layer, |cache, record| fetch::blob(self.store, cache, layer, record))
    }

    fn promised(&self, layer: &LayerId, variant: &str) -> Option<Packed> {
        let mut known = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.entry((*layer, variant.to_owned())).or_insert_with(|| self.staying(layer, variant));
        found.as_ref().map(|(_, packed)| packed.clone())
    }
}

/// Returns an error and its sources in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
