use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType, Sha256Digest};

use super::download::Wanted;
use super::meter::Meter;
use super::repository::{Fetched, MANIFESTS, Repository};
use super::{Client, Destination, RegistryError};
use crate::net::NetError;
use crate::oci::{Digest, Parts, Platform, Reference, Selected, digest_of, select};
use crate::progress::Sink;

/// Transfers at the same time, where nothing else is said.
pub(super) const PARALLEL: usize = 4;

/// An image in a registry: the place where it was found, and what its name leads to there.
#[derive(Debug)]
pub struct Remote {
    /// The place.
    pub repository: Repository,
    /// The manifest or index.
    pub root: Fetched,
    /// Leads to it.
    pub descriptor: Descriptor,
}

/// An image that was pulled. Its layers are at the destination; its documents are for the caller to keep.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// What the name leads to: the manifest, or an index in which it is.
    pub root: Descriptor,
    /// The bytes of that.
    pub root_bytes: Vec<u8>,
    /// The image for the platform.
    pub image: Selected,
    /// The name that the image has at the place that it came from.
    pub place: String,
}

/// An image in a registry whose documents are here: its layers can be brought in.
#[derive(Debug)]
pub struct Located {
    /// The place, and what the name leads to there.
    pub remote: Remote,
    /// The image for the platform.
    pub image: Selected,
    /// The name by which it was asked for.
    pub reference: Reference,
    /// Which of the places of the image it is.
    at: usize,
}

impl Client {
    /// Returns the image `reference` at the first of its places that has it.
    ///
    /// # Errors
    /// [`RegistryError`] of the last place, with what happened at those before.
    pub fn open(&self, reference: &Reference) -> Result<Remote, RegistryError> {
        self.each_place(reference, None, &|_, repository, wanted| repository.open(wanted))
    }

    /// Returns the digest of what a name leads to, without fetching it.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn digest(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        self.each_place(reference, None, &|_, repository, wanted| {
            let what = || format!("{reference}");
            repository
                .digest(wanted)?
                .ok_or_else(|| RegistryError::NotFound { what: what(), registry: repository.name() })
        })
    }

    /// Pulls the image `reference` for a platform: layers in parallel, each verified as it arrives. Those that the destination
    /// has are not fetched.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        destination: &dyn Destination,
        sink: &dyn Sink,
    ) -> Result<Pulled, RegistryError> {
        let found = self.locate(reference, platform)?;
        self.fetch(&found, destination, sink)?;
        let Located { remote, image, .. } = found;
        let place = remote.repository.name();
        Ok(Pulled { root: remote.descriptor, root_bytes: remote.root.bytes, image, place })
    }

    /// Returns the image `reference` for a platform, with its documents, and fetches no layer.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn locate(&self, reference: &Reference, platform: &Platform) -> Result<Located, RegistryError> {
        self.each_place(reference, None, &|at, repository, wanted| {
            let remote = repository.open(wanted)?;
            let image = remote.select(platform)?;
            Ok(Located { remote, image, reference: reference.clone(), at })
        })
    }

    /// Brings the layers of an image to their destination: in parallel, each verified as it arrives. Those that the destination has are
    /// not fetched. Where its place fails, the next one of the image is asked for what is missing.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn fetch(&self, found: &Located, destination: &dyn Destination, sink: &dyn Sink) -> Result<(), RegistryError> {
        let fetch = |repository: &Repository| {
            repository.fetch_blobs(found.image.manifest.layers(), destination, sink, self.options.parallel)
        };
        match fetch(&found.remote.repository) {
            Err(error) => {
                self.each_place(&found.reference, Some((found.at, error)), &|_, repository, _| fetch(&repository))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Does something with the image `reference`, at the first of its places where that can be done.
    ///
    /// # Errors
    /// As [`Client::open`], and what `act` says.
    pub fn first_place<T>(
        &self,
        reference: &Reference,
        act: &dyn Fn(Remote) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.each_place(reference, None, &|_, repository, wanted| act(repository.open(wanted)?))
    }

    /// Tries the places of an image, one after the other: all, or those behind the one where an error has happened already.
    pub(super) fn each_place<T>(
        &self,
        reference: &Reference,
        failed: Option<(usize, RegistryError)>,
        act: &dyn Fn(usize, Repository, &str) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let places = self.sources(reference)?;
        let (first, mut failed) = failed.map_or((0, None), |(at, error)| (at, Some(error)));
        let mut tried = Vec::new();
        let count = places.len();
        for (at, place) in places.into_iter().enumerate().skip(first) {
            let name = &place.reference;
            let wanted = match (name.digest(), name.tag()) {
                (Some(digest), _) => digest.to_string(),
                (None, tag) => tag.unwrap_or("latest").to_owned(),
            };
            let host = name.registry().to_owned();
            let result = match failed.take() {
                Some(error) => Err(error),
                None => self.repository(&place).and_then(|repository| act(at, repository, &wanted)),
            };
            match result {
                Ok(done) => return Ok(done),
                Err(error) if error.is_of_the_place() && at + 1 < count => {
                    tried.push(format!("{host}: {}", brief(&error)))
                }
                Err(error) if error.is_of_the_place() => {
                    let (name, source) = (reference.to_string(), Box::new(error));
                    return Err(RegistryError::Places { name, tried, source });
                }
                Err(error) => return Err(error),
            }
        }
        let what = reference.to_string();
        Err(RegistryError::NotFound { what, registry: reference.registry().to_owned() })
    }
}

impl Repository {
    /// Returns what a tag or a digest leads to.
    ///
    /// # Errors
    /// As [`Repository::manifest`]; [`RegistryError::Image`] where it is no manifest.
    pub fn open(self, wanted: &str) -> Result<Remote, RegistryError> {
        let root = self.manifest(wanted)?;
        let declared = MANIFESTS.contains(&root.media_type.as_str()).then_some(root.media_type.as_str());
        // Whether it is an image shows when one is looked for in it: it may be an artifact, too.
        let kind = Parts::parse(&root.bytes, declared, &format!("{} in {}", root.digest, self.name()))?.media_type;
        let digest: Sha256Digest = root.digest.hex().parse().expect("64 hexadecimal digits");
        let descriptor = DescriptorBuilder::default()
            .media_type(MediaType::from(kind.as_str()))
            .digest(digest)
            .size(root.bytes.len() as u64)
            .build()
            .expect("media type, digest and size are all that a descriptor needs");
        Ok(Remote { repository: self, root, descriptor })
    }
}

impl Remote {
    /// Returns the image for a platform.
    ///
    /// # Errors
    /// [`RegistryError::Image`] where there is none, with those that there are; others of reading documents.
    pub fn select(&self, platform: &Platform) -> Result<Selected, RegistryError> {
        let what = format!("{} in {}", self.root.digest, self.repository.name());
        let mut fetch = |descriptor: &Descriptor, what: &str| self.document(descriptor, what);
        select(std::slice::from_ref(&self.descriptor), platform, &what, &mut fetch)
    }

    /// Returns the bytes of a document of the image.
    ///
    /// # Errors
    /// As [`Repository::document`].
    pub fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, RegistryError> {
        if digest_of(descriptor)? == self.root.digest {
            return Ok(self.root.bytes.clone());
        }
        self.repository.document(descriptor, what)
    }
}

impl Repository {
    /// Brings blobs to their destination, in parallel, `parallel` at the same time (0: the usual number).
    ///
    /// # Errors
    /// The first that happens. Blobs that were complete by then are at the destination.
    pub fn fetch_blobs(
        &self,
        blobs: &[Descriptor],
        destination: &dyn Destination,
        sink: &dyn Sink,
        parallel: usize,
    ) -> Result<(), RegistryError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for blob in blobs {
            let (digest, size) = (digest_of(blob)?, blob.size());
            if wanted.iter().all(|known| known.digest != digest) && !destination.has(&digest, size) {
                wanted.push(Wanted { digest, size, urls: blob.urls().clone().unwrap_or_default() });
            }
        }
        let total = wanted.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        let meter = Meter::new(sink, format!("pull {}", self.name()), total);
        in_parallel(&wanted, parallel, &|blob, stop| self.download(blob, destination, &meter, stop))
    }
}

/// Does something with each item, several at the same time; after the first failure the others are stopped.
pub(super) fn in_parallel<T: Sync>(
    items: &[T],
    parallel: usize,
    act: &(dyn Fn(&T, &AtomicBool) -> Result<(), RegistryError> + Sync),
) -> Result<(), RegistryError> {
    let parallel = if parallel == 0 { PARALLEL } else { parallel }.min(items.len());
    let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = act(item, &stop) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                // Those that were stopped say that they were.
                let stopped = matches!(error, RegistryError::Net(NetError::Cancelled));
                if failure.is_none() && !(stopped && stop.load(Ordering::Relaxed)) {
                    *failure = Some(error);
                }
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    match parallel {
        0 => {}
        1 => work(),
        _ => std::thread::scope(|scope| (0..parallel).for_each(|_| drop(scope.spawn(work)))),
    }
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// An error and its causes in one line.
fn brief(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
