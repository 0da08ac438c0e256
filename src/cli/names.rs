//! Names of images, as the user writes them and as the store has them.

use oci_spec::image::Descriptor;

use crate::oci::{Reference, ReferenceError};
use crate::store::{Image, Store};

use super::classify::NoImage;
use super::report::Failure;

/// Returns the full form of `name`: `docker.io/library/busybox:latest` for `busybox`.
pub(super) fn normalise(name: &str) -> Result<String, ReferenceError> {
    Reference::parse(name).map(|reference| reference.to_string())
}

/// Returns the full forms of `names`, each once.
pub(super) fn normalised(names: &[String]) -> Result<Vec<String>, Failure> {
    let mut full = Vec::new();
    for name in names {
        let name = normalise(name)?;
        if !full.contains(&name) {
            full.push(name);
        }
    }
    Ok(full)
}

/// Returns the image that the user calls `name`: a name, or the beginning of a digest. Of an index, the one for this platform.
pub(super) fn find(store: &Store, name: &str) -> Result<Image, Failure> {
    Ok(store.image(&descriptor(store, name)?)?)
}

/// Returns what leads to the image or the index that the user calls `name`.
pub(super) fn descriptor(store: &Store, name: &str) -> Result<Descriptor, Failure> {
    let by_name = match normalise(name) {
        Ok(full) => store.find(&full)?,
        Err(_) => None,
    };
    let descriptor = match by_name {
        Some(descriptor) => Some(descriptor),
        None => store.find(name)?,
    };
    descriptor.ok_or_else(|| NoImage { name: name.into() }.into())
}
