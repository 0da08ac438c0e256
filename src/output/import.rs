use oci_spec::image::Descriptor;

use super::archive::Archive;
use super::source::Dir;
use super::{Location, OutputError, docker_archive, oci_layout};
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
    let (path, reference) = (location.path(), location.reference());
    match location {
        Location::OciDir { .. } => oci_layout::import(&Dir::open(path)?, reference, store, sink),
        Location::OciArchive { .. } => oci_layout::import(&Archive::open(path, &store.tmp())?, reference, store, sink),
        Location::DockerArchive { .. } => {
            docker_archive::import(&Archive::open(path, &store.tmp())?, reference, store, sink)
        }
    }
}
