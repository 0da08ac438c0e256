use std::io::Read;
use std::sync::OnceLock;

use oci_spec::image::Descriptor;
use serde_json::Value;

use super::{Depot, DepotError};
use crate::oci::{Digest, MAX_DOCUMENT, digest_of, media_type};
use crate::output::OutputError;
use crate::output::content::{Blob, Origin, Top};
use crate::store::describe;

/// The caches of a depot, to be read.
pub struct DepotOrigin<'a> {
    depot: &'a dyn Depot,
    manifests: OnceLock<Vec<(Descriptor, Vec<u8>)>>,
}

impl<'a> DepotOrigin<'a> {
    /// Returns those of `depot`; nothing is read yet.
    pub fn new(depot: &'a dyn Depot) -> Self {
        DepotOrigin { depot, manifests: OnceLock::new() }
    }

    fn manifests(&self) -> Result<&[(Descriptor, Vec<u8>)], OutputError> {
        if self.manifests.get().is_none() {
            let found = self.depot.manifests()?;
            // Others may use the same names, for caches of another form.
            let is_ours = |bytes: &Vec<u8>| {
                serde_json::from_slice::<Value>(bytes)
                    .is_ok_and(|json| json.get("config").is_some_and(Value::is_object))
            };
            let ours: Vec<_> = found.into_iter().filter(is_ours).map(|bytes| (descriptor(&bytes), bytes)).collect();
            if ours.is_empty() {
                return Err(DepotError::NotACache { place: self.depot.place() }.into());
            }
            return Ok(self.manifests.get_or_init(|| ours));
        }
        Ok(self.manifests.get().expect("it was looked at just now"))
    }
}

/// Returns what leads to a manifest.
fn descriptor(bytes: &[u8]) -> Descriptor {
    describe(media_type::MANIFEST, &Digest::of(bytes), bytes.len() as u64)
}

impl Origin for DepotOrigin<'_> {
    fn place(&self) -> String {
        self.depot.place()
    }

    fn top(&self) -> Result<Top, OutputError> {
        let starts = self.manifests()?.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        Ok(Top { starts, names: Vec::new() })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        let manifests = self.manifests.get().into_iter().flatten();
        if let Some((_, bytes)) = manifests.into_iter().find(|(known, _)| known.digest() == descriptor.digest()) {
            return Ok(bytes.clone());
        }
        let (reader, _) = self.blob(descriptor)?;
        let mut bytes = Vec::new();
        let read = reader.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(|source| OutputError::Read { what: format!("{what} in {}", self.place()), source })?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let size = descriptor.size();
        Ok((self.depot.open((&digest_of(descriptor)?, size))?, size))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for DepotOrigin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DepotOrigin({})", self.depot.place())
    }
}
