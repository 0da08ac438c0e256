//! What an image gets besides what its Dockerfile says: another compression of its layers, annotations, docker's form, and what its
//! steps made.

use std::io::{self, BufReader};

use serde_json::{Value, json};

use super::OutputError;
use super::content::{Content, Form, convert};
use crate::layer::{Compression, Compressor, decompress};
use crate::oci::{ChainId, Digest, DigestReader, INLINE_CACHE, media_type};
use crate::store::{Image, Packed, Store, StoreError};

/// How an image is changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dress {
    /// Layers, by their number, the lowest is 0, that are compressed in another way.
    pub recompress: Option<(Compression, Vec<usize>)>,
    /// Annotations of the manifest; of one key the last counts.
    pub annotations: Vec<(String, String)>,
    /// The form of its manifest.
    pub form: Option<Form>,
    /// What its configuration says of its steps ([`inline_cache`](super::cache::inline_cache)).
    pub cache: Option<Value>,
}

/// Returns `image` as `dress` wants it; its documents and layers are in the store. The same image where nothing changes.
///
/// # Errors
/// [`OutputError`] where the form has no word for something, or a layer cannot be read.
pub fn dress(image: &Image, dress: &Dress, store: &Store) -> Result<Image, OutputError> {
    let mut manifest: Value = serde_json::from_slice(&image.manifest_bytes).expect("read and checked before");
    let mut config = image.config_bytes.clone();
    let mut changed = false;
    if let Some((compression, numbers)) = &dress.recompress {
        for &at in numbers {
            let packed = recompressed(image, at, *compression, store)?;
            let layer = &mut manifest["layers"][at];
            layer["mediaType"] = packed.media_type.into();
            layer["digest"] = packed.digest.to_string().into();
            layer["size"] = packed.size.into();
            changed = true;
        }
    }
    if let Some(cache) = &dress.cache {
        let mut new = image.config.clone();
        new.other.insert(INLINE_CACHE.into(), cache.clone());
        config = new.to_json();
        manifest["config"]["digest"] = store.put_blob(&config)?.to_string().into();
        manifest["config"]["size"] = config.len().into();
        changed = true;
    }
    if !dress.annotations.is_empty() {
        let mut all = manifest.get("annotations").and_then(Value::as_object).cloned().unwrap_or_default();
        all.extend(dress.annotations.iter().map(|(key, value)| (key.clone(), json!(value))));
        all.sort_keys();
        manifest["annotations"] = all.into();
        changed = true;
    }
    let bytes = match changed {
        true => serde_json::to_vec(&manifest).expect("JSON values always serialise"),
        false => image.manifest_bytes.clone(),
    };
    let mut new = Image::new(&image.media_type, bytes, config)?;
    if let Some(form) = dress.form {
        new = convert(Content::of_image(&new), form)?.image()?.unwrap_or(new);
    }
    if new.digest != image.digest {
        store.put_blob(&new.manifest_bytes)?;
    }
    Ok(new)
}

/// Returns whether a layer of the media type `kind` is compressed in that way, at whatever level.
pub fn is_compressed_so(kind: &str, compression: Compression) -> bool {
    match compression {
        Compression::None => matches!(kind, media_type::LAYER | media_type::DOCKER_LAYER),
        Compression::Gzip(_) => matches!(kind, media_type::LAYER_GZIP | media_type::DOCKER_LAYER_GZIP),
        Compression::Zstd(_) => matches!(kind, media_type::LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD),
    }
}

/// Returns the layer `at` of the image in another compression: made once, then known.
fn recompressed(image: &Image, at: usize, compression: Compression, store: &Store) -> Result<Packed, OutputError> {
    let layers = image.layers();
    let layer = &layers[at];
    let chain = ChainId::chain(&image.config.rootfs.diff_ids)[at];
    let id = store.layer_of_chain(chain);
    let variant = compression.to_string().replace(':', "-");
    if let Some(known) = store.packed(&id, &variant).filter(|known| known.diff_id == layer.diff_id) {
        return Ok(known);
    }
    let what = || format!("blob {} of the store", layer.digest);
    let lost = |source| OutputError::Read { what: what(), source };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let file = store.open_blob(&layer.digest)?;
    let input = decompress(BufReader::with_capacity(256 << 10, file)).map_err(lost)?;
    let mut input = DigestReader::new(input);
    let mut out = Compressor::new(store.blob_writer()?, compression, threads);
    io::copy(&mut input, &mut out).map_err(lost)?;
    let (_, found, _) = input.finish();
    if found != layer.diff_id.0 {
        return Err(OutputError::Digest { what: what(), expected: layer.diff_id.0, found });
    }
    let blob = out.finish().map_err(|source| StoreError::Io { call: "write", path: store.tmp(), source })?;
    let (digest, size): (Digest, u64) = blob.finish()?;
    let media_type = compression.media_type().into();
    let packed = Packed { media_type, digest, size, diff_id: layer.diff_id };
    store.remember_packed(&id, &variant, &packed)?;
    Ok(packed)
}
