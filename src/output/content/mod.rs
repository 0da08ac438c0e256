//! What images are made of, wherever they lie: an [`Origin`] gives documents and blobs, a [`Content`] says which of them belong to
//! an image or an index, and [`write()`] takes them somewhere else. Nothing is changed on the way, so digests stay.

mod bring;
mod convert;
mod copy;
mod gather;
mod stored;

pub use convert::{Form, convert};
pub use copy::{Destination, copy, write, write_all, write_archive_file};
pub use gather::{Content, Selection};
pub use stored::{InStore, StoreOrigin};

pub(in crate::output) use bring::{bring, bring_as, read_failed};
pub(in crate::output) use copy::{check_names, each, each_of, stream};

use std::io::{self, Read};

use oci_spec::image::Descriptor;

use super::OutputError;
use super::source::check_length;
use crate::oci::{Digest, ImageError, MAX_DOCUMENT, digest_of};
use crate::registry::Repository;

/// What is read of a blob, and its length in bytes as far as the place knows it.
pub type Blob<'a> = (Box<dyn Read + Send + 'a>, u64);

/// What is meant in an [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Leads to a manifest or an index. Several are the same image for several platforms.
    pub starts: Vec<Descriptor>,
    /// The names in full that the place has for it.
    pub names: Vec<String>,
}

/// A place in which one image, or one index of images, is read.
pub trait Origin: Send + Sync {
    /// Returns the place, for people.
    fn place(&self) -> String;

    /// Returns what is meant.
    ///
    /// # Errors
    /// [`OutputError`] where the place has no such image.
    fn top(&self) -> Result<Top, OutputError>;

    /// Returns the manifest, index or configuration that `descriptor` leads to, as it is: at most [`MAX_DOCUMENT`] bytes.
    /// [`read_document`] verifies it. `what` names it in errors.
    ///
    /// # Errors
    /// [`OutputError`] where it is not there.
    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError>;

    /// Opens the blob that `descriptor` leads to. Who reads it verifies it.
    ///
    /// # Errors
    /// [`OutputError`] where it is not there.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError>;

    /// As [`blob`](Origin::blob), from `offset` on: what is before it need not come once more where that can be helped. The length is
    /// that of the whole.
    ///
    /// # Errors
    /// As [`blob`](Origin::blob).
    fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Result<Blob<'_>, OutputError> {
        let (mut reader, length) = self.blob(descriptor)?;
        let skipped = io::copy(&mut reader.by_ref().take(offset), &mut io::sink());
        let digest = digest_of(descriptor)?;
        skipped.map_err(|source| OutputError::Read { what: self.blob_name(&digest), source })?;
        Ok((reader, length))
    }

    /// Returns what the blob `digest` is called in errors.
    fn blob_name(&self, digest: &Digest) -> String {
        format!("blob {digest} in {}", self.place())
    }

    /// Returns the error for a blob that is not what it should be.
    fn wrong(&self, (expected, expected_size): (Digest, u64), (found, found_size): (Digest, u64)) -> OutputError {
        let what = self.blob_name(&expected);
        match check_length(&what, expected_size, found_size) {
            Err(error) => error,
            Ok(()) => OutputError::Digest { what, expected, found },
        }
    }

    /// Returns the repository that this is, where it is one.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// Returns whether blobs come over a network: then each is read once, and several at the same time.
    fn is_remote(&self) -> bool {
        false
    }
}

/// Returns the document that `descriptor` leads to, verified: length first, digest second.
///
/// # Errors
/// [`OutputError`].
pub fn read_document(from: &dyn Origin, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
    let digest = digest_of(descriptor)?;
    if descriptor.size() > MAX_DOCUMENT {
        let (found, limit) = (descriptor.size(), MAX_DOCUMENT);
        return Err(ImageError::TooLarge { what: what.into(), found, unit: "bytes", limit }.into());
    }
    let bytes = from.document(descriptor, what)?;
    check_length(what, descriptor.size(), bytes.len() as u64)?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(OutputError::Digest { what: what.into(), expected: digest, found });
    }
    Ok(bytes)
}
