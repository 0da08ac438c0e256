//! What an image gets besides what its Dockerfile says: another compression of its layers, annotations, docker's form, and what its
//! steps made.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader};

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::OutputError;
use super::bounded::Bounded;
use super::content::{Content, Form, convert};
use crate::layer::{Compression, Compressor, decompress};
use crate::oci::{ChainId, Digest, DigestReader, INLINE_CACHE, Parts, digest_of, media_type};
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

/// The annotation with which BuildKit says in an index which image an attestation is about.
const REFERS_TO: &str = "vnd.docker.reference.digest";

/// Returns `content` with each of its images as `change` makes it, and indexes that lead to them. The layers of the new images are in
/// the store; that of the indexes need not be.
///
/// # Errors
/// What `change` says; [`OutputError::ReferredTo`] where something in the content is about an image that changes: it speaks of digests.
pub fn dress_each(
    content: Content,
    change: &mut dyn FnMut(&Image) -> Result<Image, OutputError>,
) -> Result<Content, OutputError> {
    let Content { top, documents, configs, .. } = content;
    let mut new = Content { top: top.clone(), documents: Vec::new(), configs: BTreeMap::new(), blobs: BTreeMap::new() };
    let mut changed: HashMap<Digest, Descriptor> = HashMap::new();
    for (descriptor, bytes) in documents {
        let (digest, kind) = (digest_of(&descriptor)?, descriptor.media_type().to_string());
        let parts = Parts::parse(&bytes, Some(&kind), &format!("manifest {digest}"))?;
        let config = parts.config.as_ref().filter(|_| parts.is_image()).map(digest_of).transpose()?;
        if let Some(config) = config.and_then(|config| configs.get(&config)) {
            let image = change(&Image::new(&kind, bytes, config.clone())?)?;
            let mut own = image.descriptor();
            own.set_platform(descriptor.platform().clone()).set_annotations(descriptor.annotations().clone());
            if image.digest != digest {
                changed.insert(digest, own.clone());
            }
            let of_image = Content::of_image(&image);
            new.blobs.extend(of_image.blobs);
            new.configs.extend(of_image.configs);
            new.documents.push((own, image.manifest_bytes));
            continue;
        }
        // An artifact, or an index.
        let mut document: Value = serde_json::from_slice(&bytes).expect("parsed just now");
        let about =
            |digest: &Value| digest.as_str()?.parse::<Digest>().ok().filter(|digest| changed.contains_key(digest));
        if let Some(image) = about(&document["subject"]["digest"]) {
            return Err(OutputError::ReferredTo { referrer: digest, image });
        }
        for blob in parts.blobs.iter().chain(&parts.config) {
            let digest = digest_of(blob)?;
            new.blobs.insert(digest, blob.clone());
            new.configs.extend(configs.get(&digest).map(|bytes| (digest, bytes.clone())));
        }
        let mut is_other = false;
        for entry in document.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(image) = about(&entry["annotations"][REFERS_TO]) {
                let referrer = entry["digest"].as_str().and_then(|digest| digest.parse().ok()).unwrap_or(digest);
                return Err(OutputError::ReferredTo { referrer, image });
            }
            if let Some(own) = about(&entry["digest"]).and_then(|digest| changed.get(&digest)) {
                entry["digest"] = own.digest().to_string().into();
                entry["size"] = own.size().into();
                entry["mediaType"] = own.media_type().to_string().into();
                is_other = true;
            }
        }
        if !is_other {
            new.documents.push((descriptor, bytes));
            continue;
        }
        let bytes = serde_json::to_vec(&document).expect("JSON values always serialise");
        let mut own = crate::store::describe(&kind, &Digest::of(&bytes), bytes.len() as u64);
        own.set_platform(descriptor.platform().clone()).set_annotations(descriptor.annotations().clone());
        changed.insert(digest, own.clone());
        new.documents.push((own, bytes));
    }
    if let Some((last, _)) = new.documents.last() {
        new.top = last.clone();
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
    let mut input = DigestReader::new(Bounded::new(input));
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
