//! Packing: the files of a layer → a blob. It goes on beside the next steps.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use coracle_runtime::container::Control;

use crate::layer::{self, Compression, Compressor, PackOptions};
use crate::oci::{DiffId, DigestWriter};
use crate::store::{Packed, Store, ViewLayer, open_in};
use crate::tree::{Entry, Kind, Mtime};

use super::BuildError;
use super::guard::Guarded;

/// What becomes of the times of modification in the layers that a build makes, and in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// They stay.
    Keep,
    /// None is later than this (SOURCE_DATE_EPOCH): seconds since 1970.
    Clamp(i64),
    /// All are this: seconds since 1970.
    Set(i64),
    /// Those of files stay, those of the image and its history are this: seconds since 1970.
    Image(i64),
}

impl Times {
    /// Returns the one time that the image shows as that of its making, where it is given.
    pub fn fixed(self) -> Option<i64> {
        match self {
            Times::Keep => None,
            Times::Clamp(time) | Times::Set(time) | Times::Image(time) => Some(time),
        }
    }

    /// Returns whether files keep their times.
    pub(super) fn keep_files(self) -> bool {
        matches!(self, Times::Keep | Times::Image(_))
    }

    /// Returns the name of the way in which the layer `entries` is packed: equal names mean equal bytes.
    pub(super) fn variant(self, compression: Compression, entries: &[Entry]) -> String {
        let latest = entries.iter().filter(|e| e.kind != Kind::Whiteout && !e.implied).map(|e| e.meta.mtime.secs).max();
        match self {
            Times::Clamp(time) if latest.is_some_and(|latest| latest > time) => format!("{compression}@max{time}"),
            Times::Set(time) if latest.is_some() => format!("{compression}@{time}"),
            _ => compression.to_string(),
        }
        .replace(':', "-")
    }
}

/// Takes layers and packs them, one after the other, each on all cores.
pub(super) struct Packer<'a> {
    store: &'a Store,
    compression: Compression,
    times: Times,
    /// The caches elsewhere whose blobs are as good.
    from: &'a [String],
    control: &'a Control,
    failed: Mutex<Option<BuildError>>,
}

/// Returns the number of processors; it takes a dozen system calls to find out.
fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The end at which layers are handed in.
pub(super) type PackQueue = Sender<ViewLayer>;

impl<'a> Packer<'a> {
    pub fn new(
        store: &'a Store,
        (compression, times): (Compression, Times),
        from: &'a [String],
        control: &'a Control,
    ) -> (Self, PackQueue, Receiver<ViewLayer>) {
        let (sender, receiver) = channel();
        (Packer { store, compression, times, from, control, failed: Mutex::new(None) }, sender, receiver)
    }

    /// Packs what comes until the last sender is gone, and tells `done` of each blob. After a failure it only drains the queue.
    pub fn work(&self, queue: Receiver<ViewLayer>, done: &dyn Fn(Packed)) {
        for layer in queue {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.is_none() && !self.control.cancelled() {
                let known = || {
                    let variant = self.times.variant(self.compression, layer.index.entries());
                    self.store
                        .packed(&layer.id, &variant)
                        .or_else(|| self.store.claimed(&layer.id, &variant, self.from))
                };
                let brought = if self.from.is_empty() { None } else { known() };
                let pack = || pack(self.store, &layer, self.compression, self.times, self.control);
                match brought.map_or_else(pack, Ok) {
                    Ok(packed) => done(packed),
                    Err(error) => *failed = Some(error),
                }
            }
        }
    }

    /// Returns the first failure.
    pub fn result(self) -> Result<(), BuildError> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Returns the blob that holds `layer`, and makes it where it is missing. It has its name after the next [`Store::sync`].
pub(super) fn pack(
    store: &Store,
    layer: &ViewLayer,
    compression: Compression,
    times: Times,
    control: &Control,
) -> Result<Packed, BuildError> {
    let entries = layer.index.entries();
    let variant = times.variant(compression, entries);
    if let Some(packed) = store.packed(&layer.id, &variant) {
        return Ok(packed);
    }
    let mut open = |entry: &Entry| -> io::Result<std::fs::File> { open_in(&layer.dir, &entry.path) };
    let packed = pack_entries(store, entries, &mut open, (compression, times), control)?;
    store.remember_packed(&layer.id, &variant, &packed)?;
    Ok(packed)
}

/// Makes a blob of a layer with these entries; `open` gives the contents of a file.
pub(super) fn pack_entries(
    store: &Store,
    entries: &[Entry],
    open: &mut dyn FnMut(&Entry) -> io::Result<std::fs::File>,
    (compression, times): (Compression, Times),
    control: &Control,
) -> Result<Packed, BuildError> {
    let changed: Vec<Entry>;
    let (entries, clamp) = match times {
        Times::Keep | Times::Image(_) => (entries, None),
        Times::Clamp(time) => (entries, Some(time)),
        Times::Set(time) => {
            changed = entries
                .iter()
                .map(|entry| {
                    let mut entry = entry.clone();
                    entry.meta.mtime = Mtime::from_secs(time);
                    entry
                })
                .collect();
            (changed.as_slice(), None)
        }
    };
    let threads = processors();
    let blob = store.blob_writer()?;
    let mut tar = Guarded::new(DigestWriter::new(Compressor::new(blob, compression, threads)), control);
    let options = PackOptions { clamp };
    layer::pack(entries, open, &mut tar, &options)?;
    let (compressor, diff_id, _) = tar.into_inner().finish();
    let blob = compressor.finish().map_err(|source| BuildError::io("write", &store.tmp(), source))?;
    let (digest, size) = blob.finish_later()?;
    Ok(Packed { media_type: compression.media_type().into(), digest, size, diff_id: DiffId(diff_id) })
}
