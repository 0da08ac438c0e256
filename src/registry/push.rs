use std::sync::atomic::{AtomicU64, Ordering};

use super::meter::Meter;
use super::pull::in_parallel;
use super::repository::Repository;
use super::upload::{Sent, Way};
use super::{Origin, RegistryError, Unfinished};
use crate::oci::Digest;
use crate::progress::Sink;

/// A manifest or an index, byte by byte.
#[derive(Debug, Clone, Copy)]
pub struct Manifest<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// An image, or an index of images, to push.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its manifests and indexes, each after those that it names: the last one is what a tag leads to.
    pub manifests: &'a [Manifest<'a>],
    /// The blobs that they name: digests and lengths.
    pub blobs: &'a [(Digest, u64)],
}

/// Where else in the registry a blob may be.
pub type Elsewhere<'a> = &'a (dyn Fn(&Digest) -> Vec<String> + Sync);

/// How a push is done.
#[derive(Clone, Copy)]
pub struct PushOptions<'a> {
    /// Returns the repositories of the same registry that may have a blob: it is mounted from there.
    pub elsewhere: Elsewhere<'a>,
    /// Uploads that earlier processes have begun: those of large blobs are gone on with.
    pub unfinished: Option<&'a dyn Unfinished>,
    /// Blobs at the same time; 0 for the usual number.
    pub parallel: usize,
}

impl Default for PushOptions<'_> {
    fn default() -> Self {
        PushOptions { elsewhere: &|_| Vec::new(), unfinished: None, parallel: 0 }
    }
}

impl std::fmt::Debug for PushOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushOptions({})", self.parallel)
    }
}

/// What a push has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Blobs that were sent.
    pub uploaded: u64,
    /// Blobs that were mounted from another repository.
    pub mounted: u64,
    /// Blobs that were there.
    pub there: u64,
}

impl Repository {
    /// Pushes an image under each of these tags; without any, by its digest alone. Blobs come first, in parallel; the manifest
    /// last, so that nobody sees half an image. Where the registry has the manifest already, only the tags are set.
    ///
    /// # Errors
    /// The first that happens. Blobs that were complete by then stay in the registry, and are not sent again next time.
    pub fn push(
        &self,
        image: Outgoing<'_>,
        tags: &[&str],
        origin: &dyn Origin,
        options: PushOptions<'_>,
        sink: &dyn Sink,
    ) -> Result<Pushed, RegistryError> {
        let Some((top, below)) = image.manifests.split_last() else { return Ok(Pushed::default()) };
        let digest = Digest::of(top.bytes);
        if self.is_there(&digest)? {
            match self.name_it(top, &digest, tags) {
                // It has the manifest, but perhaps not all that this names.
                Err(RegistryError::Net(error)) if error.status().is_some_and(|status| status < 500) => {}
                other => return other.map(|()| Pushed { there: image.blobs.len() as u64, ..Pushed::default() }),
            }
        }
        let pushed = self.push_blobs(image.blobs, origin, options, sink)?;
        for manifest in below {
            self.put_manifest(&Digest::of(manifest.bytes).to_string(), manifest.media_type, manifest.bytes)?;
        }
        self.name_it(top, &digest, tags)?;
        Ok(pushed)
    }

    /// Pushes blobs, in parallel.
    ///
    /// # Errors
    /// As [`Repository::push`].
    pub fn push_blobs(
        &self,
        blobs: &[(Digest, u64)],
        origin: &dyn Origin,
        options: PushOptions<'_>,
        sink: &dyn Sink,
    ) -> Result<Pushed, RegistryError> {
        let mut wanted: Vec<(Digest, u64)> = Vec::with_capacity(blobs.len());
        for blob in blobs {
            if !wanted.contains(blob) {
                wanted.push(*blob);
            }
        }
        let total = wanted.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
        let meter = Meter::new(sink, format!("push {}", self.name()), total);
        let counts: [AtomicU64; 3] = Default::default();
        in_parallel(&wanted, options.parallel, &|(digest, size), stop| {
            let elsewhere = || (options.elsewhere)(digest);
            let way = Way { origin, meter: &meter, stop, unfinished: options.unfinished };
            let sent = self.upload((digest, *size), &elsewhere, &way)?;
            let at = match sent {
                Sent::Uploaded => 0,
                Sent::Mounted => 1,
                Sent::There => 2,
            };
            counts[at].fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        let [uploaded, mounted, there] = counts.map(AtomicU64::into_inner);
        Ok(Pushed { uploaded, mounted, there })
    }

    /// Whether the manifest is there already. Who may write may read; a registry that does not say tells us nothing.
    fn is_there(&self, digest: &Digest) -> Result<bool, RegistryError> {
        match self.exists(&digest.to_string()) {
            Err(RegistryError::Net(error)) if error.status().is_some() => Ok(false),
            other => other,
        }
    }

    fn name_it(&self, manifest: &Manifest<'_>, digest: &Digest, tags: &[&str]) -> Result<(), RegistryError> {
        if tags.is_empty() {
            return self.put_manifest(&digest.to_string(), manifest.media_type, manifest.bytes).map(drop);
        }
        tags.iter().try_for_each(|tag| self.put_manifest(tag, manifest.media_type, manifest.bytes).map(drop))
    }
}
