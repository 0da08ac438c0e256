use std::io;
use std::path::{Path, PathBuf};

use super::cache::DepotError;
use crate::oci::{Digest, ImageError, Platform, ReferenceError};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// An image could not be brought in or out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The store failed, or a layout's index.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document of the image makes no sense, or there is no image for this platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A registry, or the way there.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// A service that keeps a cache, or the way there.
    #[error(transparent)]
    Depot(Box<DepotError>),
    /// A call on a file outside the store failed.
    #[error("cannot {call} {path}", path = path.display())]
    Io {
        /// What was attempted: "open", "read", "write", …
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Content could not be read, or not be decompressed.
    #[error("cannot read {what}")]
    Read {
        /// What was read.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A registry is named where only files are read and written.
    #[error("{place} is in a registry, and only a folder or file can be taken here")]
    NoRegistry {
        /// The image.
        place: String,
    },
    /// Something has no form in the other kind of manifests.
    #[error("{what} has {kind:?}, for which docker's form has no word")]
    NoForm {
        /// The manifest.
        what: String,
        /// The media type.
        kind: String,
    },
    /// An image cannot change, because something refers to it.
    #[error("{referrer} is about the image {image}, and would not be right for the changed one")]
    ReferredTo {
        /// What refers to it: an attestation, a signature.
        referrer: Digest,
        /// The image.
        image: Digest,
    },
    /// An index, or an artifact, where one image is needed.
    #[error("{digest} is not a single image: an archive of docker holds no index")]
    OneImage {
        /// Its digest.
        digest: Digest,
    },
    /// Several images for a place that holds one.
    #[error("{place} holds one image, not several")]
    OneOnly {
        /// The place.
        place: String,
    },
    /// A folder has files, but none of `dir:`.
    #[error("{path} is neither an empty folder nor one that dir: has written", path = path.display())]
    NotADir {
        /// The folder.
        path: PathBuf,
    },
    /// Images for several platforms have files of one name.
    #[error(
        "/{path} is in the images for two platforms, which are to go into one folder: platform-split=true gives each its own"
    )]
    OverEachOther {
        /// The file.
        path: crate::tree::TreePath,
    },
    /// A file would have to take the place of a folder outside the store, with all that is in that.
    #[error("{path} is a folder, and a {what} in the image: remove it first", path = path.display())]
    FolderInTheWay {
        /// The folder.
        path: PathBuf,
        /// What the image has there.
        what: &'static str,
    },
    /// A stream could not be written to: standard output, as files are named.
    #[error("cannot write the archive to standard output")]
    Stream(#[source] io::Error),
    /// A layout or an archive is not what it should be.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive is no bundle.
    #[error("{path} is no bundle: {reason}", path = path.display())]
    NoBundle {
        /// The archive.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A bundle has an image, but not for this platform.
    #[error("{path} has {name} for {has} only, not for {wanted}", path = path.display())]
    NotBundled {
        /// The bundle.
        path: PathBuf,
        /// The image.
        name: String,
        /// For which platforms it has it.
        has: String,
        /// For which it was asked for.
        wanted: Box<Platform>,
    },
    /// A blob that the image needs is not in the layout or archive.
    #[error("{what} is not in {path}", path = path.display())]
    Missing {
        /// The blob or file.
        what: String,
        /// The folder or archive.
        path: PathBuf,
    },
    /// Content has another length than its descriptor says.
    #[error("{what} has {found} bytes, not {expected}")]
    Length {
        /// What was read.
        what: String,
        /// The length it should have.
        expected: u64,
        /// The length it has.
        found: u64,
    },
    /// Content has another digest than its descriptor or its configuration says.
    #[error("{what} has digest {found}, not {expected}")]
    Digest {
        /// What was read.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// A layout or archive has several images and none was named.
    #[error("{path} has several images, name one of: {}", names.join(", "), path = path.display())]
    Several {
        /// The layout or archive.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A layout or archive has no image of that name.
    #[error("{path} has no image {wanted:?}, only: {}", list(names), path = path.display())]
    NoSuchImage {
        /// The layout or archive.
        path: PathBuf,
        /// The name.
        wanted: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// A layout or archive has no image at all.
    #[error("{path} has no image", path = path.display())]
    Empty {
        /// The layout or archive.
        path: PathBuf,
    },
    /// A folder has files, but is not an OCI layout: an image is not written among them.
    #[error("{path} is neither an empty folder nor an OCI layout", path = path.display())]
    NotALayout {
        /// The folder.
        path: PathBuf,
    },
    /// The files of an image could not be written.
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    /// The files of an image could not be read.
    #[error(transparent)]
    Tree(#[from] crate::tree::Error),
    /// A name cannot be in a layout.
    #[error("{name:?} cannot be the name of an image in a layout: it must be of ASCII letters, digits and signs")]
    LayoutName {
        /// The name.
        name: String,
    },
    /// A name under which an image should go out is none.
    #[error("{name:?} cannot be the name of an image in an archive of docker")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
}

impl From<DepotError> for OutputError {
    fn from(error: DepotError) -> Self {
        OutputError::Depot(Box::new(error))
    }
}

impl OutputError {
    pub(super) fn io(call: &'static str, path: &Path, source: io::Error) -> Self {
        OutputError::Io { call, path: path.to_path_buf(), source }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        OutputError::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// Returns the names for an error: escaped, and not without end.
pub(super) fn printable<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    names.into_iter().take(50).map(|name| name.escape_debug().to_string()).collect()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "images without a name".into() } else { names.join(", ") }
}
