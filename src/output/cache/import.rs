use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, OnceLock, PoisonError};

use oci_spec::image::Descriptor;
use serde::Deserialize;

use super::document::{ARTIFACT, BlobRecord, CONFIG, Document, INDEX, LayerRecord};
use super::inline::cache_in;
use crate::layer::{UnpackOptions, decompress, scan};
use crate::oci::{Digest, DigestReader, Parts, os_platform};
use crate::output::OutputError;
use crate::output::content::{Origin, bring, read_document};
use crate::output::source::Meter;
use crate::progress::{Event, Silent, Sink};
use crate::registry::Repository;
use crate::store::{CachedStep, Image, Index, LayerId, Packed, RemoteSteps, Store, describe};

/// The most bytes that the index of a layer may have.
const LARGEST_INDEX: u64 = 256 << 20;
/// The most manifests that are read of one cache.
const MOST_MANIFESTS: usize = 64;

/// Opens the place of a cache, when it is needed.
pub type OpenOrigin<'a> = Box<dyn Fn() -> Result<Box<dyn Origin + 'a>, OutputError> + Sync + 'a>;

/// A cache that is looked into.
pub struct CacheSource<'a> {
    /// What it is called in warnings.
    pub name: String,
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

/// What the caches know.
#[derive(Default)]
struct Known<'a> {
    steps: HashMap<String, CachedStep>,
    images: HashMap<String, i64>,
    /// For each layer, the caches that have it.
    layers: HashMap<LayerId, Vec<(usize, LayerRecord)>>,
    origins: Vec<(String, Box<dyn Origin + 'a>)>,
}

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
        Some((packed.clone(), self.known.get()?.origins.get(*at)?.1.as_ref()))
    }

    /// Finds the cache in which the blob of a layer can stay.
    fn staying(&self, layer: &LayerId, variant: &str) -> Option<(usize, Packed)> {
        let stays = self.stays.as_ref()?;
        let known = self.known.get()?;
        known.layers.get(layer)?.iter().find_map(|(at, record)| {
            let repository = known.origins[*at].1.repository()?;
            let fits = record.variant == variant && stays(repository);
            // What the cache has lost must be made anew, and now is the time for it.
            let offered = fits && repository.offers_blob(&record.packed.digest).unwrap_or(false);
            offered.then(|| (*at, record.packed.clone()))
        })
    }

    /// Returns how `layer` is packed in a cache that was read, and the blob there.
    pub fn packed(&self, layer: &LayerId) -> Option<(String, Packed)> {
        let (_, record) = self.known.get()?.layers.get(layer)?.first()?;
        Some((record.variant.clone(), record.packed.clone()))
    }

    fn known(&self) -> &Known<'a> {
        self.known.get_or_init(|| {
            let mut known = Known::default();
            for source in &self.sources {
                match self.read(source) {
                    Ok((origin, documents)) => known.add(source.name.clone(), origin, documents),
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
        let mut at = 0;
        // Of an index all images count: each has the cache of its platform.
        while let Some(descriptor) = todo.get(at).cloned().filter(|_| at < MOST_MANIFESTS) {
            at += 1;
            match self.documents(origin.as_ref(), &descriptor, &mut todo)? {
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
    ) -> Result<Result<Option<Document>, String>, String> {
        let read = |descriptor: &Descriptor, what: &str| {
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
    fn bring(&self, layer: &LayerId, bring: impl Fn(&dyn Origin, &LayerRecord) -> Result<(), String>) -> bool {
        if self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(layer) {
            return false;
        }
        let known = self.known();
        for (at, record) in known.layers.get(layer).into_iter().flatten() {
            let (name, origin) = &known.origins[*at];
            match bring(origin.as_ref(), record) {
                Ok(()) => return true,
                Err(reason) => self.warn(format!("a layer cannot be had from the cache {name}: {reason}")),
            }
        }
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(*layer);
        false
    }

    fn index(&self, origin: &dyn Origin, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
        let Some(BlobRecord { digest, size }) = &record.index else { return self.derived(origin, layer, record) };
        let (reader, _) = origin.blob(&describe(INDEX, digest, *size)).map_err(|error| chain(&error))?;
        let mut compressed = Vec::new();
        let read = reader.take(size.saturating_add(1)).read_to_end(&mut compressed);
        read.map_err(|error| error.to_string())?;
        if compressed.len() as u64 != *size || Digest::of(&compressed) != *digest {
            return Err(format!("blob {digest} is not what its digest says"));
        }
        let mut bytes = Vec::new();
        let decoder = zstd::Decoder::new(compressed.as_slice()).map_err(|error| error.to_string())?;
        decoder.take(LARGEST_INDEX).read_to_end(&mut bytes).map_err(|error| format!("blob {digest}: {error}"))?;
        match self.store.put_index(layer, &bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("blob {digest} is not the index of layer {layer}")),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Makes the index of a layer from its files.
    fn derived(&self, origin: &dyn Origin, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
        self.fetch(origin, &record.packed)?;
        let options = UnpackOptions { max_index: LARGEST_INDEX, ..UnpackOptions::default() };
        let mut found = None;
        self.read_files(layer, record, &mut |input| {
            found = Some(scan(input, &options).map_err(|error| chain(&error))?);
            Ok(())
        })?;
        // Of a layer that was built no directory is implied, and none is opaque.
        let entries = found.map(|found| found.entries).unwrap_or_default();
        let index = Index::new(entries.into_iter().filter(|entry| !entry.implied).collect());
        match self.store.put_index(layer, &index.to_bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("blob {} does not hold layer {layer}", record.packed.digest)),
            Err(error) => Err(chain(&error)),
        }
    }

    fn blob(&self, origin: &dyn Origin, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
        if self.store.packed(layer, &record.variant).as_ref() == Some(&record.packed) {
            return Ok(());
        }
        self.fetch(origin, &record.packed)?;
        self.read_files(layer, record, &mut |_| Ok(()))
    }

    /// Sees to it that a blob is in the store.
    fn fetch(&self, origin: &dyn Origin, packed: &Packed) -> Result<(), String> {
        if !self.store.blob_is_sound(&packed.digest, packed.size) {
            let descriptor = describe(&packed.media_type, &packed.digest, packed.size);
            let meter = Meter::new(&Silent, origin.place(), None);
            bring(origin, &descriptor, self.store, &meter).map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Gives the files of a blob in the store to `read`, and remembers that it holds the layer.
    fn read_files(
        &self,
        layer: &LayerId,
        record: &LayerRecord,
        read: &mut dyn FnMut(&mut dyn Read) -> Result<(), String>,
    ) -> Result<(), String> {
        let packed = &record.packed;
        // A configuration that names another digest than that of the tar would be an image that nobody can unpack.
        let file = self.store.open_blob(&packed.digest).map_err(|error| chain(&error))?;
        let input =
            decompress(std::io::BufReader::with_capacity(256 << 10, file)).map_err(|error| error.to_string())?;
        let mut input = DigestReader::new(input);
        read(&mut input)?;
        std::io::copy(&mut input, &mut std::io::sink()).map_err(|error| error.to_string())?;
        let (_, found, _) = input.finish();
        if found != packed.diff_id.0 {
            return Err(format!("blob {} holds {found}, not {}", packed.digest, packed.diff_id.0));
        }
        self.store.remember_packed(layer, &record.variant, packed).map_err(|error| chain(&error))
    }
}

impl<'a> Known<'a> {
    fn add(&mut self, name: String, origin: Box<dyn Origin + 'a>, documents: Vec<Document>) {
        let at = self.origins.len();
        self.origins.push((name, origin));
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
            let keys = step.keys.clone();
            for key in step.keys {
                let keys = keys.clone();
                self.steps.entry(key).or_insert(CachedStep { layer, created: step.created, keys });
            }
        }
    }
}

impl RemoteSteps for CacheSources<'_> {
    fn step(&self, key: &str) -> Option<CachedStep> {
        self.known().steps.get(key).cloned()
    }

    fn made(&self, key: &str) -> Option<i64> {
        // Who had no step from here has none of its images.
        self.known.get()?.images.get(key).copied()
    }

    fn bring_index(&self, layer: &LayerId) -> bool {
        self.bring(layer, |origin, record| self.index(origin, layer, record))
    }

    fn bring_blob(&self, layer: &LayerId) -> bool {
        self.bring(layer, |origin, record| self.blob(origin, layer, record))
    }

    fn promised(&self, layer: &LayerId, variant: &str) -> Option<Packed> {
        let mut known = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.entry((*layer, variant.to_owned())).or_insert_with(|| self.staying(layer, variant));
        found.as_ref().map(|(_, packed)| packed.clone())
    }
}

/// Returns an error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
