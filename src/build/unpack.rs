//! Getting the files of layers onto the disk: a blob → a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coracle_runtime::IdMaps;
use coracle_runtime::container::Control;

use crate::layer::{self, Contents, DiskTree};
use crate::oci::{DiffId, Digest, DigestReader};
use crate::store::{Active, Arrivals, Index, LayerId, Packed, Store, StoreError, View, ViewLayer};
use crate::tree::{Entry, Kind, Meta, Owners, Tree, TreePath};

use super::chain::{Chain, Link};
use super::guard::Guarded;
use super::relocate::relocate;
use super::{BuildError, MAX_LAYERS};

/// How the files of layers lie on disk in this build.
#[derive(Debug, Clone)]
pub(super) struct OnDisk {
    /// The store's name for the id map under which they were made.
    pub realm: String,
    /// Whom they belong to on disk.
    pub owners: Owners,
    /// The full map of ids in which steps run; `None` where there is none.
    pub maps: Option<IdMaps>,
}

/// A layer that is on disk in its folder, but not yet in the store: what it hides is known only with the layers below.
struct Unpacked {
    /// What it was unpacked from.
    blob: Digest,
    active: Active,
    found: layer::Unpacked,
}

/// Returns the view of `links`, with all their files on disk: those that are missing are unpacked from their blobs, several
/// at the same time.
pub(super) fn view(store: &Store, on_disk: &OnDisk, links: &[Link], control: &Control) -> Result<View, BuildError> {
    if links.len() > MAX_LAYERS {
        return Err(BuildError::TooManyLayers { count: links.len() });
    }
    let mut layers: Vec<Option<ViewLayer>> = Vec::with_capacity(links.len());
    for link in links {
        layers.push(store.layer(&on_disk.realm, &link.id)?);
    }
    let missing: Vec<usize> = (0..links.len()).filter(|&at| layers[at].is_none()).collect();
    let unpacked = unpack_all(store, on_disk, links, &missing, control)?;
    for (at, unpacked) in missing.into_iter().zip(unpacked) {
        let below = View::new(layers[..at].iter().flatten().cloned().collect());
        layers[at] = Some(settle(store, on_disk, &links[at], unpacked, &below)?);
    }
    Ok(View::new(layers.into_iter().flatten().collect()))
}

fn unpack_all(
    store: &Store,
    on_disk: &OnDisk,
    links: &[Link],
    missing: &[usize],
    control: &Control,
) -> Result<Vec<Unpacked>, BuildError> {
    if missing.is_empty() {
        // As for nearly every step.
        return Ok(Vec::new());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    let results: Vec<Mutex<Option<Result<Unpacked, BuildError>>>> = missing.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&at) = missing.get(turn) else { break };
                    let result = unpack(store, on_disk, &links[at], control);
                    *results[turn].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    results
        .into_iter()
        .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner).expect("each turn was taken"))
        .collect()
}

fn unpack(store: &Store, on_disk: &OnDisk, link: &Link, control: &Control) -> Result<Unpacked, BuildError> {
    let packed = match &link.origin {
        Some(origin) => origin.clone(),
        None => store.packed_any(&link.id).ok_or_else(|| StoreError::Damaged {
            path: store.snapshot_dir(&on_disk.realm, &link.id),
            reason: "its files are gone, and no blob holds them".into(),
        })?,
    };
    let file = store.open_blob(&packed.digest)?;
    unpack_from(file, store, on_disk, &packed, control)
}

/// Unpacks the blob `packed` from `blob`, and checks its uncompressed bytes.
fn unpack_from(
    blob: impl Read + Send,
    store: &Store,
    on_disk: &OnDisk,
    packed: &Packed,
    control: &Control,
) -> Result<Unpacked, BuildError> {
    let active = store.prepare()?;
    let mut tree = DiskTree::open(&active.upper(), on_disk.owners)?;
    let path = store.blob_path(&packed.digest);
    let input = layer::decompress(Guarded::new(BufReader::with_capacity(256 << 10, blob), control))
        .map_err(|source| BuildError::io("decompress", &path, source))?;
    let mut input = DigestReader::new(input);
    let found = layer::unpack(&mut input, &mut tree, &layer::UnpackOptions::default())?;
    // What follows the end of the archive belongs to the digest too.
    std::io::copy(&mut input, &mut std::io::sink()).map_err(|source| BuildError::io("decompress", &path, source))?;
    let (_, digest, _) = input.finish();
    if DiffId(digest) != packed.diff_id {
        return Err(BuildError::WrongDiffId { blob: packed.digest, expected: packed.diff_id.0, found: digest });
    }
    tree.finish()?;
    Ok(Unpacked { blob: packed.digest, active, found })
}

/// Unpacks the layers of `chains` that are not on disk, while `fetch` brings their blobs into the store and tells `arrivals` of them:
/// each is read behind the one that writes it, and is in the store only when the digests of blob and archive were found to be right.
/// What does not come to its end here is left to [`view`], which says why.
pub(super) fn while_fetched<R>(
    store: &Store,
    on_disk: &OnDisk,
    chains: &[Chain],
    arrivals: &Arrivals,
    control: &Control,
    fetch: impl FnOnce() -> R,
) -> R {
    let mut seen = BTreeSet::new();
    let links = chains.iter().flat_map(Chain::links);
    let missing: Vec<(LayerId, &Packed)> = links
        .filter(|link| seen.insert(link.id) && !store.has_snapshot(&on_disk.realm, &link.id))
        .filter_map(|link| Some((link.id, link.origin.as_ref()?)))
        .collect();
    let unpacked: Mutex<BTreeMap<LayerId, Unpacked>> = Mutex::default();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((id, packed)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(done) = behind(store, on_disk, packed, arrivals, control) {
                unpacked.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, done);
            }
        }
    };
    let result = std::thread::scope(|scope| {
        // Most of the time each waits for the network.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).max(FOLLOWERS).min(missing.len());
        for _ in 0..threads {
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        let _end = CloseAtEnd(arrivals);
        fetch()
    });
    let mut unpacked = unpacked.into_inner().unwrap_or_else(PoisonError::into_inner);
    for chain in chains {
        let mut layers: Vec<ViewLayer> = Vec::with_capacity(chain.links().len());
        for link in chain.links() {
            let there = match (store.layer(&on_disk.realm, &link.id), unpacked.remove(&link.id)) {
                (Ok(Some(there)), _) => Ok(there),
                (Ok(None), Some(own)) => settle(store, on_disk, link, own, &View::new(layers.clone())),
                _ => break,
            };
            let Ok(there) = there else { break };
            layers.push(there);
        }
    }
    result
}

/// Layers that are unpacked at the same time while they come in: as many as come in.
const FOLLOWERS: usize = 4;

/// Nobody waits for blobs any longer when this is dropped.
struct CloseAtEnd<'a>(&'a Arrivals);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Unpacks a layer behind the one that writes its blob; `None` where that does not come to an end.
fn behind(
    store: &Store,
    on_disk: &OnDisk,
    packed: &Packed,
    arrivals: &Arrivals,
    control: &Control,
) -> Option<Unpacked> {
    loop {
        let mut blob = arrivals.read(&packed.digest);
        match unpack_from(&mut blob, store, on_disk, packed, control) {
            Ok(unpacked) => return Some(unpacked),
            Err(_) if blob.is_outdated() && !control.cancelled() => {}
            Err(_) => return None,
        }
    }
}

/// Finishes a layer with the knowledge of the layers below, and puts it into the store.
fn settle(
    store: &Store,
    on_disk: &OnDisk,
    link: &Link,
    unpacked: Unpacked,
    below: &View,
) -> Result<ViewLayer, BuildError> {
    let mut id = link.id;
    let Unpacked { blob, active, mut found } = unpacked;
    let mut tree = DiskTree::open(&active.upper(), on_disk.owners)?;
    relocate(&mut found, below, &active.upper(), &mut tree)?;
    let mut index = Index::new(found.entries);
    let mut more = Vec::new();
    for dir in &found.opaque {
        hide_below(dir, below, &index, &mut more)?;
    }
    for entry in index.entries().iter().filter(|entry| entry.implied && entry.kind.is_dir()) {
        // The archive does not describe this directory, so it stays as it is below.
        if let Some(old) = below.entry(&entry.path).filter(|old| old.kind.is_dir()) {
            more.push(Entry { meta: old.meta.clone(), ..entry.clone() });
        }
    }
    let parents: BTreeSet<TreePath> = more.iter().filter_map(|entry| entry.path.parent()).collect();
    for entry in &more {
        tree.create(entry, Contents::None)?;
    }
    // A new name in a directory changes its time.
    for parent in parents.iter().filter_map(|path| index.get(path)) {
        if !more.iter().any(|entry| entry.path == parent.path) {
            tree.create(parent, Contents::None)?;
        }
    }
    tree.finish()?;
    if !more.is_empty() {
        let mut entries = index.entries().to_vec();
        entries.extend(more);
        index = Index::new(entries);
    }
    // A layer that was built here is named by its index, in which no directory is implied.
    let named = Index::new(index.entries().iter().filter(|entry| !entry.implied).cloned().collect());
    if named.layer_id() == id {
        index = named;
    } else if link.origin.is_none() {
        // What was built has the name of what is in it. The next build does not believe it again.
        store.forget_packed(&id, &blob);
        let reason = "its blob holds other files than its name says".into();
        return Err(StoreError::Damaged { path: store.snapshot_dir(&on_disk.realm, &id), reason }.into());
    } else if let Some(stack) = link.stack.filter(|stack| LayerId::of_chain(*stack) != id) {
        // Nor is it that layer which was built here.
        store.forget_chain(stack);
        id = LayerId::of_chain(stack);
    }
    Ok(store.commit(active, &on_disk.realm, Some(id), index)?)
}

/// Adds whiteouts for all that `below` has in the opaque directory `dir` and the layer `index` has not.
fn hide_below(dir: &TreePath, below: &View, index: &Index, more: &mut Vec<Entry>) -> Result<(), BuildError> {
    let mut todo = vec![dir.clone()];
    while let Some(dir) = todo.pop() {
        if !below.lookup(&dir)?.is_some_and(|node| node.kind.is_dir()) {
            continue;
        }
        for (name, node) in below.read_dir(&dir)? {
            let path = dir.child(&name);
            match index.get(&path) {
                Some(own) if own.kind.is_dir() && node.kind.is_dir() => todo.push(path),
                Some(_) => {}
                None => more.push(Entry { path, kind: Kind::Whiteout, meta: Meta::default(), implied: false }),
            }
        }
    }
    Ok(())
}
