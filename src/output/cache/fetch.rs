//! Bringing a layer from a cache. What the cache says of it is computed before it counts.

use std::io::{BufReader, Read};

use super::document::{BlobRecord, INDEX, LayerRecord};
use super::import::chain;
use super::known::Cache;
use crate::layer::{UnpackOptions, decompress, scan};
use crate::oci::{Digest, DigestReader};
use crate::output::content::{Origin, bring};
use crate::output::source::Meter;
use crate::progress::Silent;
use crate::store::{Index, LayerId, Packed, Store, describe};
use crate::tree::Kind;

/// The most bytes that the blob with the index of a layer has.
const LARGEST_BLOB: u64 = 64 << 20;
/// The most bytes of memory that an index takes, and that are read of one; `store::vetted` wants less of its bytes.
const LARGEST_INDEX: u64 = 256 << 20;
/// What a file takes in an archive besides its content, at the most: its header, its names and attributes.
const HEADERS: u64 = 128 << 10;

/// Puts the index of a layer into the store.
pub(super) fn index(store: &Store, cache: &Cache<'_>, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
    let origin = cache.origin.as_ref();
    let Some(BlobRecord { digest, size }) = &record.index else {
        fetch(store, origin, &record.packed)?;
        return verify(store, cache, layer, record);
    };
    if *size > LARGEST_BLOB {
        return Err(format!("blob {digest} has {size} bytes, more than {LARGEST_BLOB}"));
    }
    let (reader, _) = origin.blob(&describe(INDEX, digest, *size)).map_err(|error| chain(&error))?;
    let mut compressed = Vec::new();
    let read = reader.take(size.saturating_add(1)).read_to_end(&mut compressed);
    read.map_err(|error| error.to_string())?;
    if compressed.len() as u64 != *size || Digest::of(&compressed) != *digest {
        return Err(format!("blob {digest} is not what its digest says"));
    }
    let mut bytes = Vec::new();
    let decoder = zstd::Decoder::new(compressed.as_slice()).map_err(|error| error.to_string())?;
    let read = decoder.take(LARGEST_INDEX).read_to_end(&mut bytes);
    read.map_err(|error| format!("blob {digest}: {error}"))?;
    drop(compressed);
    match store.put_index(layer, &bytes).map_err(|error| chain(&error))? {
        Ok(()) => Ok(()),
        Err(reason) => Err(format!("blob {digest} is not the index of layer {layer}: {reason}")),
    }
}

/// Puts the blob with the files of a layer into the store.
pub(super) fn blob(store: &Store, cache: &Cache<'_>, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
    let from = std::slice::from_ref(&cache.identity);
    if store.claimed(layer, &record.variant, from).as_ref() == Some(&record.packed) {
        return Ok(());
    }
    fetch(store, cache.origin.as_ref(), &record.packed)?;
    verify(store, cache, layer, record)
}

/// Sees to it that a blob is in the store.
fn fetch(store: &Store, origin: &dyn Origin, packed: &Packed) -> Result<(), String> {
    if !store.blob_is_sound(&packed.digest, packed.size) {
        let descriptor = describe(&packed.media_type, &packed.digest, packed.size);
        let meter = Meter::new(&Silent, origin.place(), None);
        bring(origin, &descriptor, store, &meter).map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// Reads a blob that is in the store: its files must be those of the layer, and its tar the one that goes into the configuration of an
/// image. Then that is written down.
fn verify(store: &Store, cache: &Cache<'_>, layer: &LayerId, record: &LayerRecord) -> Result<(), String> {
    let packed = &record.packed;
    let mut options = UnpackOptions { max_index: LARGEST_INDEX, ..UnpackOptions::default() };
    if let Some(index) = store.index(layer).map_err(|error| chain(&error))? {
        options.max_bytes = options.max_bytes.min(length(&index));
    }
    let file = store.open_blob(&packed.digest).map_err(|error| chain(&error))?;
    let input = decompress(BufReader::with_capacity(256 << 10, file)).map_err(|error| error.to_string())?;
    let mut input = DigestReader::new(input);
    let wrong = |reason: &str| format!("blob {} does not hold layer {layer}{reason}", packed.digest);
    // To the last byte: what follows the end of the archive belongs to the digest, too.
    let found = scan(&mut input, &options).map_err(|error| wrong(&format!(": {}", chain(&error))))?;
    let (_, diff_id, _) = input.finish();
    if diff_id != packed.diff_id.0 {
        return Err(format!("blob {} holds {diff_id}, not {}", packed.digest, packed.diff_id.0));
    }
    // Of a layer that was built no directory is implied, and none is opaque.
    let index = Index::new(found.entries.into_iter().filter(|entry| !entry.implied).collect());
    if !found.opaque.is_empty() || index.layer_id() != *layer {
        return Err(wrong(""));
    }
    if record.index.is_none() {
        store.put_index(layer, &index.to_bytes()).map_err(|error| chain(&error))?.map_err(|reason| wrong(&reason))?;
    }
    let remembered = store.remember_claimed(layer, &record.variant, packed, &cache.identity);
    remembered.map_err(|error| chain(&error))
}

/// The most bytes that an archive with these files has.
fn length(index: &Index) -> u64 {
    let of = |kind: &Kind| match kind {
        Kind::File { size, .. } => *size,
        _ => 0,
    };
    index.entries().iter().fold(1 << 20, |sum: u64, entry| sum.saturating_add(of(&entry.kind)).saturating_add(HEADERS))
}
