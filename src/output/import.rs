use oci_spec::image::Descriptor;

use super::content::{Destination, Selection, copy};
use super::{Location, OutputError, Place};
use crate::oci::Platform;
use crate::progress::Sink;
use crate::store::Store;

/// An image that was brought into the store. It has no name there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The full name under which the location knows it: registry, repository and tag. `None` where it has none there, or
    /// only a tag; then the caller must have one.
    pub name: Option<String>,
    /// Leads to its manifest in the store.
    pub descriptor: Descriptor,
}

/// Brings the image of `location` for this platform into the store: manifest, configuration and layers, each verified.
/// Blobs that are in the store already and sound are not copied again; damaged ones are replaced.
///
/// It is the caller's to tag it. The diff_ids of compressed layers are verified when they are unpacked.
///
/// # Errors
/// [`OutputError`] names the file, digest or name that is wrong. Blobs that were complete by then stay in the store.
pub fn import(location: &Location, store: &Store, sink: &dyn Sink) -> Result<Imported, OutputError> {
    import_for(location, &Selection::Platform(Platform::host()), store, sink)
}

/// As [`import`], for another platform, or all of an index.
///
/// # Errors
/// As [`import`].
pub fn import_for(
    location: &Location,
    selection: &Selection,
    store: &Store,
    sink: &dyn Sink,
) -> Result<Imported, OutputError> {
    let place = Place::open(location, &store.tmp())?;
    let origin = place.origin(None)?;
    let (content, top) = copy(origin.as_ref(), selection, None, Destination::Store(store), &[], sink)?;
    Ok(Imported { name: top.names.into_iter().next(), descriptor: content.top })
}
