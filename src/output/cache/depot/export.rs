use std::sync::Mutex;

use super::{Depot, DepotError, PART, Piece};
use crate::oci::{Digest, digest_of};
use crate::output::OutputError;
use crate::output::content::{Content, each_of};
use crate::output::source::Meter;
use crate::progress::{Event, Sink};
use crate::store::Store;

/// Writes a cache: the blobs that are not there yet, and then the manifest that leads to them.
///
/// # Errors
/// [`OutputError`]. Blobs that were complete by then stay there, and are not sent again next time.
pub fn export(content: &Content, store: &Store, depot: &dyn Depot, sink: &dyn Sink) -> Result<(), OutputError> {
    let mut blobs: Vec<(Digest, u64)> = Vec::with_capacity(content.blobs.len());
    for descriptor in content.blobs.values() {
        blobs.push((digest_of(descriptor)?, descriptor.size()));
    }
    let missing = Mutex::new(Vec::new());
    let look = |(digest, size): &(Digest, u64)| {
        if !depot.has((digest, *size))? {
            missing.lock().expect("nobody panics with it").push((*digest, *size));
        }
        Ok::<_, DepotError>(())
    };
    each_of(&blobs, depot.width(), &look)?;
    let missing = missing.into_inner().expect("nobody panics with it");
    let total = missing.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
    let meter = Meter::new(sink, format!("cache {}", depot.place()), Some(total));
    // Of the large ones the parts go at the same time.
    let (large, small): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(_, size)| *size > PART);
    for (blobs, width) in [(small, depot.width()), (large, 1)] {
        each_of(&blobs, width, &|(digest, size)| {
            depot.put(&Piece::sound(*digest, *size, store)?)?;
            meter.advance(*size);
            Ok::<_, DepotError>(())
        })?;
    }
    let (_, manifest) = content.documents.last().expect("a cache has a manifest");
    depot.put_manifest(manifest)?;
    sink.emit(Event::Exported { what: depot.place(), digest: Some(content.digest().to_string()) });
    Ok(())
}
