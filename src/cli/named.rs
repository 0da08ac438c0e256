//! Images that a verb is given: in the store, or at a place.

use std::path::Path;

use oci_spec::image::Descriptor;

use super::args::Named;
use super::classify::ImageProblem;
use super::names;
use super::registry::LazyClient;
use super::report::Failure;
use crate::oci::{Parts, Reference, digest_of, media_type, os_platform};
use crate::output::content::{Content, Destination, InStore, Origin, read_document, write};
use crate::output::remote::RemoteOrigin;
use crate::output::{Location, OutputError, Place};
use crate::progress::Sink;
use crate::registry::Remote;
use crate::store::Store;

/// A named image, found or opened.
#[derive(Debug)]
pub(super) enum Opened<'a> {
    /// In the store.
    Store(Box<InStore<'a>>),
    /// In a folder or a file.
    Place(Place),
    /// In a registry, with the name by which it was asked for.
    Remote(Box<Remote>, Reference),
}

impl<'a> Opened<'a> {
    /// Finds or opens the image. `scratch` is a folder for what a compressed archive is unpacked to.
    pub(super) fn new(
        named: &Named,
        store: &'a Store,
        scratch: &Path,
        client: &LazyClient<'_>,
    ) -> Result<Self, Failure> {
        match named {
            Named::Store(name) => Ok(Opened::Store(Box::new(in_store(store, name)?))),
            Named::Place(Location::Registry(name)) => {
                let remote = client.get()?.open(name).map_err(OutputError::from)?;
                Ok(Opened::Remote(Box::new(remote), name.clone()))
            }
            Named::Place(location) => Ok(Opened::Place(Place::open(location, scratch)?)),
        }
    }

    /// Keeps in the store what of `content` a list needs.
    pub(super) fn keep(
        &self,
        content: &Content,
        origin: &dyn Origin,
        store: &Store,
        sink: &dyn Sink,
    ) -> Result<(), Failure> {
        match self {
            Opened::Store(_) => Ok(()),
            Opened::Place(_) => Ok(write(content, origin, Destination::Store(store), &[], sink)?),
            // Its layers stay where they are until somebody needs them.
            Opened::Remote(remote, _) => {
                for bytes in content.configs.values().chain(content.documents.iter().map(|(_, bytes)| bytes)) {
                    store.put_blob(bytes)?;
                }
                for (descriptor, _) in &content.documents {
                    let digest = digest_of(descriptor).map_err(OutputError::from)?;
                    store.remember_origin(&digest, &remote.repository.name())?;
                }
                Ok(())
            }
        }
    }

    /// Returns where it is read.
    pub(super) fn origin(&self) -> Result<Box<dyn Origin + '_>, OutputError> {
        match self {
            Opened::Store(image) => Ok(Box::new(InStore::clone(image))),
            Opened::Place(place) => place.origin(None),
            Opened::Remote(remote, name) => Ok(Box::new(RemoteOrigin { remote, name: name.clone() })),
        }
    }
}

/// How many indexes may lead to an image.
const MAX_DEPTH: usize = 8;

/// Refuses an index of the store of which images were left out when it came in.
pub(super) fn check_whole(image: &InStore<'_>) -> Result<(), Failure> {
    let mut missing = Vec::new();
    left_out(image, &image.top, 0, &mut missing)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(ImageProblem::NotWhole { image: image.place(), missing }.into())
}

/// Adds what an index names, and the store does not have.
fn left_out(image: &InStore<'_>, top: &Descriptor, depth: usize, missing: &mut Vec<String>) -> Result<(), Failure> {
    let is_index = media_type::is_index(top.media_type().as_ref());
    if !is_index || depth > MAX_DEPTH {
        return Ok(());
    }
    let what = format!("index {}", top.digest());
    let bytes = read_document(image, top, &what)?;
    let parts = Parts::parse(&bytes, Some(top.media_type().as_ref()), &what).map_err(OutputError::from)?;
    for child in parts.children.iter().flatten() {
        if image.store.has_blob(&digest_of(child).map_err(OutputError::from)?) {
            left_out(image, child, depth + 1, missing)?;
        } else {
            let platform = os_platform(child).filter(|platform| platform.os != "unknown");
            missing.push(platform.map_or_else(|| child.digest().to_string(), |platform| platform.to_string()));
        }
    }
    Ok(())
}

/// Returns the image that the store has under `name`, with its full name where it was found by one.
pub(super) fn in_store<'a>(store: &'a Store, name: &str) -> Result<InStore<'a>, Failure> {
    let top = names::descriptor(store, name)?;
    // An image that was found by its digest has no name to go by.
    let name = match names::normalise(name) {
        Ok(full) if store.find(&full)?.is_some() => Some(full),
        _ => None,
    };
    Ok(InStore { store, top, name })
}
