use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;

use super::document::{ARTIFACT, BlobRecord, CONFIG, Document, INDEX, LayerRecord};
use crate::layer::decompress;
use crate::oci::{Digest, DigestReader};
use crate::output::OutputError;
use crate::output::content::{Origin, read_document};
use crate::progress::{Event, Sink};
use crate::store::{CachedStep, LayerId, Packed, RemoteSteps, Store, describe};

/// The most bytes that the index of a layer may have.
const LARGEST_INDEX: u64 = 256 << 20;

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
}

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
    config: oci_spec::image::Descriptor,
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
        CacheSources { store, sink, key_format, sources, known: OnceLock::new(), lost: Mutex::default() }
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
                    Ok((origin, document)) => known.add(source.name.clone(), origin, document),
                    Err(reason) => self.warn(format!("cache {} is not used: {reason}", source.name)),
                }
            }
            known
        })
    }

    fn read(&self, source: &CacheSource<'a>) -> Result<(Box<dyn Origin + 'a>, Document), String> {
        let origin = (source.open)().map_err(|error| chain(&error))?;
        let config = || -> Result<Result<Vec<u8>, String>, OutputError> {
            let top = origin.top()?;
            let [start] = &top.starts[..] else { return Ok(Err("it is not one manifest".into())) };
            let manifest = read_document(origin.as_ref(), start, "manifest of the cache")?;
            Ok(match serde_json::from_slice::<Manifest>(&manifest) {
                Ok(Manifest { artifact_type, config })
                    if artifact_type.as_deref() == Some(ARTIFACT) || config.media_type().as_ref() == CONFIG =>
                {
                    Ok(read_document(origin.as_ref(), &config, "list of steps")?)
                }
                _ => Err("what is there is no cache of coracle".into()),
            })
        };
        let config = config().map_err(|error| chain(&error))??;
        let document = Document::parse(&config, self.key_format)?;
        Ok((origin, document))
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
        let BlobRecord { digest, size } = &record.index;
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

    fn blob(&self, origin: &dyn Origin, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
        let packed = &record.packed;
        if !self.store.blob_is_sound(&packed.digest, packed.size) {
            let descriptor = describe(&packed.media_type, &packed.digest, packed.size);
            let (reader, _) = origin.blob(&descriptor).map_err(|error| chain(&error))?;
            let mut writer = self.store.blob_writer().map_err(|error| chain(&error))?;
            let mut reader = reader.take(packed.size.saturating_add(1));
            std::io::copy(&mut reader, &mut writer).map_err(|error| error.to_string())?;
            writer.flush().map_err(|error| error.to_string())?;
            writer.finish_as(&packed.digest, packed.size).map_err(|error| chain(&error))?;
        }
        // A configuration that names another digest than that of the tar would be an image that nobody can unpack.
        let file = self.store.open_blob(&packed.digest).map_err(|error| chain(&error))?;
        let input =
            decompress(std::io::BufReader::with_capacity(256 << 10, file)).map_err(|error| error.to_string())?;
        let mut input = DigestReader::new(input);
        std::io::copy(&mut input, &mut std::io::sink()).map_err(|error| error.to_string())?;
        let (_, found, _) = input.finish();
        if found != packed.diff_id.0 {
            return Err(format!("blob {} holds {found}, not {}", packed.digest, packed.diff_id.0));
        }
        self.store.remember_packed(layer, &record.variant, packed).map_err(|error| chain(&error))
    }
}

impl<'a> Known<'a> {
    fn add(&mut self, name: String, origin: Box<dyn Origin + 'a>, document: Document) {
        let at = self.origins.len();
        self.origins.push((name, origin));
        let ids = document.layers.into_iter().filter_map(|(id, record)| Some((LayerId::from_hex(&id)?, record)));
        for (id, record) in ids {
            self.layers.entry(id).or_default().push((at, record));
        }
        for (key, made) in document.images {
            self.images.entry(key).or_insert(made);
        }
        for step in document.steps {
            let Some(layer) = LayerId::from_hex(&step.layer) else { continue };
            for key in step.keys {
                self.steps.entry(key).or_insert(CachedStep { layer, created: step.created });
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
