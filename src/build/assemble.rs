//! The end of a build: layers and configuration → a manifest in the store.

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};

use crate::oci::{History, ImageConfig, media_type};
use crate::store::{Image, LayerId, Packed, StoreError, describe};

use super::chain::{Link, image_key};
use super::pack::pack;
use super::work::{Progress, Work};
use super::{BuildError, Recorded, Squash, squash};

/// A layer of the image as a blob.
enum Blob {
    /// It was made here, or belongs to a base image.
    Known(Packed),
    /// A cache elsewhere says that it holds the layer: it is good for the images of those who name the cache, and nothing follows from it.
    Claimed(Packed),
}

/// Returns the image of the stage `target` if all its layers are in blobs already; touches no layer.
pub(super) fn from_blobs(work: &Work<'_>, target: usize, progress: &Progress) -> Result<Option<Image>, BuildError> {
    let mut layers = Vec::new();
    let links = progress.chain.links();
    let below = work.options.making.squash.below(&progress.chain);
    for link in &links[..below.unwrap_or(links.len())] {
        match known_blob(work, link)? {
            Some(blob) => layers.push(blob),
            None => return Ok(None),
        }
    }
    if let Some(below) = below {
        match squash::known(work, &progress.chain, below) {
            Some(packed) => layers.push(Blob::Known(packed)),
            None => return Ok(None),
        }
    }
    manifest(work, (target, progress), layers).map(Some)
}

/// Returns the image of the stage `target`; packs the layers that are not in blobs yet.
pub(super) fn image(work: &Work<'_>, target: usize, progress: &Progress) -> Result<Image, BuildError> {
    let mut layers = Vec::new();
    let links = progress.chain.links();
    let below = work.options.making.squash.below(&progress.chain);
    let making = &work.options.making;
    for (at, link) in links[..below.unwrap_or(links.len())].iter().enumerate() {
        if let Some(blob) = known_blob(work, link)? {
            layers.push(blob);
            continue;
        }
        let layer = match work.store.layer(&work.on_disk.realm, &link.id)? {
            Some(layer) => layer,
            None => {
                // All of them, so also those that were to stay elsewhere.
                work.bring_whole(progress);
                work.view(&progress.chain)?.layers()[at].clone()
            }
        };
        layers.push(Blob::Known(pack(work.store, &layer, making.compression, making.times, work.control)?));
    }
    if let Some(below) = below {
        if squash::known(work, &progress.chain, below).is_none() {
            work.bring_whole(progress);
        }
        layers.push(Blob::Known(squash::squashed(work, &progress.chain, below)?));
    }
    manifest(work, (target, progress), layers)
}

/// A layer of a base image stays the blob it is; any other must be packed as this build wants it.
fn known_blob(work: &Work<'_>, link: &Link) -> Result<Option<Blob>, BuildError> {
    if let Some(origin) = &link.origin {
        // An image must not be tagged that cannot be pushed.
        return match work.store.blob_size(&origin.digest) {
            Some(size) if size == origin.size => Ok(Some(Blob::Known(origin.clone()))),
            _ => Err(StoreError::NoBlob(origin.digest).into()),
        };
    }
    let Some(index) = work.store.index(&link.id)? else { return Ok(None) };
    let variant = work.options.making.times.variant(work.options.making.compression, index.entries());
    if let Some(packed) = work.store.packed(&link.id, &variant) {
        return Ok(Some(Blob::Known(packed)));
    }
    let claimed = || work.store.claimed(&link.id, &variant, &work.options.cache.from).map(Blob::Claimed);
    if let Some(blob) = claimed() {
        return Ok(Some(blob));
    }
    if work.store.has_snapshot(&work.on_disk.realm, &link.id) {
        return Ok(None);
    }
    let Some(remote) = work.remote else { return Ok(None) };
    if let Some(promised) = remote.promised(&link.id, &variant) {
        return Ok(Some(Blob::Claimed(promised)));
    }
    Ok(if remote.bring_blob(&link.id) { claimed() } else { None })
}

/// Returns whether the layer `id` is not here and need not be: it is promised to be where the image goes.
pub(super) fn is_promised(work: &Work<'_>, id: &LayerId) -> bool {
    if work.has_files(id) {
        return false;
    }
    let (Some(remote), Ok(Some(index))) = (work.remote, work.store.index(id)) else { return false };
    let making = &work.options.making;
    if making.squash != Squash::No {
        // It becomes a part of a layer that nobody has.
        return false;
    }
    let variant = making.times.variant(making.compression, index.entries());
    remote.promised(id, &variant).is_some()
}

fn manifest(work: &Work<'_>, (target, progress): (usize, &Progress), blobs: Vec<Blob>) -> Result<Image, BuildError> {
    let is_known: Vec<bool> = blobs.iter().map(|blob| matches!(blob, Blob::Known(_))).collect();
    let layers: Vec<Packed> = blobs.into_iter().map(|(Blob::Known(packed) | Blob::Claimed(packed))| packed).collect();
    let (config, first) = config(work, (target, progress), &layers);
    let config = config.to_json();
    let config_digest = work.store.put_blob_later(&config)?;
    if let Some((key, made)) = first {
        work.store.remember_made(&key, made, &config_digest)?;
    }
    let descriptors = layers.iter().map(|layer| describe(&layer.media_type, &layer.digest, layer.size)).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(describe(media_type::CONFIG, &config_digest, config.len() as u64))
        .layers::<Vec<Descriptor>>(descriptors)
        .build()
        .expect("all that a manifest needs is set");
    let manifest = serde_json::to_vec(&manifest).expect("a manifest always serialises");
    let digest = work.store.put_blob_later(&manifest)?;
    if work.options.making.times.keep_files() {
        remember_chains(work, progress, &layers, &is_known)?;
    }
    Ok(work.store.image_of(&digest)?)
}

/// So that a build upon this image uses the layers as they are on disk. Which layer an archive holds is known of those that were made here:
/// what a cache says of others would become the files of any image that has one with this digest.
fn remember_chains(
    work: &Work<'_>,
    progress: &Progress,
    layers: &[Packed],
    is_known: &[bool],
) -> Result<(), StoreError> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    if let Some(below) = work.options.making.squash.below(&progress.chain) {
        // Unpacked when it is built upon; but how it was made is known as long as there is the image.
        let (chain, id) = (crate::oci::ChainId::chain(&diff_ids)[below], squash::name(&progress.chain, below));
        return match work.store.layer_of_chain(chain) == id {
            true => Ok(()),
            false => work.store.remember_chain(chain, &id),
        };
    }
    let chains = crate::oci::ChainId::chain(&diff_ids).into_iter().zip(is_known);
    for ((chain, is_known), link) in chains.zip(progress.chain.links()) {
        if *is_known && link.origin.is_none() && work.store.layer_of_chain(chain) != link.id {
            work.store.remember_chain(chain, &link.id)?;
        }
    }
    Ok(())
}

/// Returns the configuration of the image; and its key and when it was made first, unless its time is given.
fn config(
    work: &Work<'_>,
    (target, progress): (usize, &Progress),
    layers: &[Packed],
) -> (ImageConfig, Option<(String, i64)>) {
    let times = work.options.making.times;
    let mut config = work.plan.config(target).clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    config.created = None;
    // What a base image says of the steps that made it.
    config.other.remove(crate::oci::INLINE_CACHE);
    // A build of which every step is in the cache makes the very same image again.
    let first = times.fixed().is_none().then(|| {
        let key = image_key(&progress.chain, &config.to_json()).to_string();
        let known = work.store.made(&key).or_else(|| work.remote.and_then(|remote| remote.made(&key)));
        let made = known.unwrap_or_else(super::now);
        work.journal.note_image(&key, made);
        (key, made)
    });
    let made = times.fixed().or(first.as_ref().map(|(_, made)| *made)).unwrap_or_else(super::now);
    let own = config.history.len().saturating_sub(progress.created.len());
    let made = progress.created.iter().flatten().copied().fold(made, i64::max);
    let mut last = None;
    for (history, created) in config.history[own..].iter_mut().zip(&progress.created) {
        last = created.or(last);
        let shown = times.fixed().or(last).unwrap_or(made);
        history.created = Some(rfc3339(shown));
    }
    config.created = Some(rfc3339(times.fixed().unwrap_or(made)));
    if work.options.making.squash.below(&progress.chain).is_some() {
        squash::tell(&mut config.history, own, work.options.making.squash);
    }
    complete(&mut config.history, own, layers.len());
    if work.options.making.recorded == Recorded::No {
        config.history.clear();
    }
    (config, first)
}

/// Makes the history say of each layer where it came from, as readers count on: a base image may have come without one, or with
/// one that does not fit. `own` is where the entries of this build begin.
fn complete(history: &mut Vec<History>, own: usize, layers: usize) {
    let counts = |history: &[History]| history.iter().filter(|step| !step.empty_layer).count();
    let below = layers.saturating_sub(counts(&history[own..]));
    let mut surplus = counts(&history[..own]).saturating_sub(below);
    for step in history[..own].iter_mut().rev().filter(|step| !step.empty_layer) {
        if surplus > 0 {
            step.empty_layer = true;
            surplus -= 1;
        }
    }
    let missing = below.saturating_sub(counts(&history[..own]));
    let unknown = History { comment: Some("a layer of the base image".into()), ..History::default() };
    history.splice(own..own, std::iter::repeat_n(unknown, missing));
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "1970-01-01T00:00:00Z".into(), |time| time.to_string())
}
