use oci_spec::image::Descriptor;

use super::{Blob, Origin, Top};
use crate::oci::{Digest, MAX_DOCUMENT, digest_of};
use crate::output::OutputError;
use crate::store::{Store, StoreError};

/// The blobs of the store, without a particular image.
#[derive(Debug, Clone, Copy)]
pub struct StoreOrigin<'a>(pub &'a Store);

/// An image in the store.
#[derive(Debug, Clone)]
pub struct InStore<'a> {
    /// The store.
    pub store: &'a Store,
    /// Leads to the manifest or index.
    pub top: Descriptor,
    /// Its name in full, where it was found by one.
    pub name: Option<String>,
}

impl Origin for StoreOrigin<'_> {
    fn place(&self) -> String {
        "the store".into()
    }

    fn top(&self) -> Result<Top, OutputError> {
        Ok(Top { starts: Vec::new(), names: Vec::new() })
    }

    fn document(&self, descriptor: &Descriptor, _what: &str) -> Result<Vec<u8>, OutputError> {
        let digest = digest_of(descriptor)?;
        let bytes = self.0.read_blob(&digest, MAX_DOCUMENT)?;
        let (expected_size, found_size) = (descriptor.size(), bytes.len() as u64);
        if expected_size != found_size {
            return Err(self.wrong((digest, expected_size), (digest, found_size)));
        }
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        let file = self.0.open_blob(&digest)?;
        let length = file.metadata().map(|metadata| metadata.len());
        let length = length.map_err(|source| StoreError::io("read", &self.0.blob_path(&digest), source))?;
        Ok((Box::new(file), length))
    }

    fn blob_name(&self, digest: &Digest) -> String {
        format!("blob {digest} of the store")
    }

    fn wrong(&self, (expected, expected_size): (Digest, u64), (found, found_size): (Digest, u64)) -> OutputError {
        let what = self.blob_name(&expected);
        StoreError::Mismatch { what, expected, expected_size, found, found_size }.into()
    }
}

impl Origin for InStore<'_> {
    fn place(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("image {}", self.top.digest()))
    }

    fn top(&self) -> Result<Top, OutputError> {
        Ok(Top { starts: vec![self.top.clone()], names: self.name.iter().cloned().collect() })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        StoreOrigin(self.store).document(descriptor, what)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        let file = self.store.open_blob(&digest)?;
        let length = file.metadata().map(|metadata| metadata.len());
        let length = length.map_err(|source| StoreError::io("read", &self.store.blob_path(&digest), source))?;
        Ok((Box::new(file), length))
    }

    fn blob_name(&self, digest: &Digest) -> String {
        StoreOrigin(self.store).blob_name(digest)
    }

    fn wrong(&self, expected: (Digest, u64), found: (Digest, u64)) -> OutputError {
        StoreOrigin(self.store).wrong(expected, found)
    }
}
