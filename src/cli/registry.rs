//! Images from registries into the store, and out of it.

use std::cell::OnceCell;
use std::collections::HashMap;

use oci_spec::image::Descriptor;

use super::args::PullPolicy;
use super::report::Failure;
use super::request::RegistryRequest;
use crate::net::Cancel;
use crate::oci::{Digest, Platform, Reference};
use crate::output::content::{Content, StoreOrigin};
use crate::output::remote::{self, IntoStore};
use crate::progress::{Event, Sink};
use crate::registry::{Client, ClientOptions, PushOptions, RegistryError};
use crate::store::{Image, Store, StoreError};

/// The client that was asked for, made when it is needed: a build that finds all in the store reads no file about registries.
pub(super) struct LazyClient<'a> {
    request: &'a RegistryRequest,
    cancel: Cancel,
    made: OnceCell<Client>,
}

impl<'a> LazyClient<'a> {
    /// Returns one that gives up soon after `cancel` says so.
    pub fn new(request: &'a RegistryRequest, cancel: Cancel) -> Self {
        LazyClient { request, cancel, made: OnceCell::new() }
    }

    /// Returns the client.
    pub fn get(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let RegistryRequest { places, credentials, tls, network } = self.request.clone();
        let agent = network.agent(self.cancel.clone());
        let options = ClientOptions { tls, ..ClientOptions::default() };
        let client = Client::new(agent, places, credentials, options)?;
        Ok(self.made.get_or_init(|| client))
    }
}

/// Brings images into the store, where they are not there yet.
pub(super) struct Puller<'a> {
    pub client: &'a LazyClient<'a>,
    pub store: &'a Store,
    pub platform: &'a Platform,
    pub sink: &'a dyn Sink,
}

/// An image that is in the store now.
pub(super) struct Found {
    /// The name that it has there.
    pub name: Reference,
    /// Leads to its manifest, or an index in which that is.
    pub descriptor: Descriptor,
}

impl Puller<'_> {
    /// Returns the image that `written` means; pulled, if the policy says so. `None` where it is not in the store and must not
    /// be asked for.
    pub fn find(&self, written: &str, policy: PullPolicy) -> Result<Option<Found>, Failure> {
        let reference = Reference::parse(written)?;
        // What was built here has such a name, whatever the files say about short ones.
        let own =
            matches!(policy, PullPolicy::Missing | PullPolicy::Never).then(|| self.in_store(&reference)).transpose()?;
        if let Some(found) = own.flatten() {
            return Ok(Some(found));
        }
        let client = self.client.get()?;
        let candidates = client.candidates(written, &reference)?;
        if matches!(policy, PullPolicy::Missing | PullPolicy::Never) {
            for candidate in &candidates {
                if let Some(found) = self.in_store(candidate)? {
                    return Ok(Some(found));
                }
            }
        }
        if policy == PullPolicy::Never {
            return Ok(None);
        }
        let mut missing = None;
        for name in candidates {
            match self.fetch(client, &name, policy) {
                Ok(descriptor) => return Ok(Some(Found { name, descriptor })),
                // Another registry of the search list may have it.
                Err(Problem::Registry(error)) if error.is_not_found() => missing = missing.or(Some(error)),
                Err(Problem::Registry(error)) => return Err(remote_error(error)),
                Err(Problem::Store(error)) => return Err(error.into()),
            }
        }
        Err(missing.map_or_else(|| Failure::from(super::classify::NoImage { name: written.into() }), remote_error))
    }

    fn in_store(&self, name: &Reference) -> Result<Option<Found>, Failure> {
        let descriptor = self.store.find(&name.to_string())?;
        Ok(descriptor.map(|descriptor| Found { name: name.clone(), descriptor }))
    }

    fn fetch(&self, client: &Client, name: &Reference, policy: PullPolicy) -> Result<Descriptor, Problem> {
        let known = self.store.find(&name.to_string())?.filter(|descriptor| self.is_whole(descriptor));
        if let Some(known) = known {
            match client.digest(name) {
                Ok(digest) if digest.to_string() == known.digest().to_string() => return Ok(known),
                Ok(_) => {}
                Err(error) if policy == PullPolicy::Newer && error.is_of_the_place() => {
                    let message = format!("cannot ask for a newer {name}, so that of the store is taken: {error}");
                    self.sink.emit(Event::Warning { message, line: None });
                    return Ok(known);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let pulled = client.pull(name, self.platform, &IntoStore(self.store), self.sink)?;
        let image = Image::from(pulled.image);
        self.store.put_blob(&image.config_bytes)?;
        self.store.put_blob(&image.manifest_bytes)?;
        let is_index = pulled.root.digest().to_string() != image.digest.to_string();
        // The index stays what the name leads to: it is what a digest in a Dockerfile names.
        let descriptor = if is_index { pulled.root } else { image.descriptor() };
        self.store.put_blob(&pulled.root_bytes)?;
        self.store.tag(&[name.to_string()], &descriptor)?;
        Ok(descriptor)
    }

    /// Whether all of the image is in the store.
    fn is_whole(&self, descriptor: &Descriptor) -> bool {
        let image = self.store.image(descriptor);
        image.is_ok_and(|image| {
            image.config.platform.architecture == self.platform.architecture
                && image.layers().iter().all(|layer| self.store.blob_size(&layer.digest) == Some(layer.size))
        })
    }
}

enum Problem {
    Registry(RegistryError),
    Store(StoreError),
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        Problem::Registry(error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::Store(error)
    }
}

/// Returns the failure that an error of a registry is.
pub(super) fn remote_error(error: RegistryError) -> Failure {
    crate::output::OutputError::from(error).into()
}

/// Pushes an image of the store to each of these names.
pub(super) fn push(
    image: &Image,
    store: &Store,
    client: &Client,
    names: &[Reference],
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let mut targets: Vec<(String, Vec<Reference>)> = Vec::new();
    for name in names {
        match targets.iter_mut().find(|(known, _)| *known == name.name()) {
            Some((_, names)) => names.push(name.clone()),
            None => targets.push((name.name(), vec![name.clone()])),
        }
    }
    let content = Content::of_image(image);
    for (_, names) in &targets {
        let known = std::sync::OnceLock::new();
        let elsewhere = |digest: &Digest| {
            let known = known.get_or_init(|| repositories(store, &names[0]));
            known.get(digest).cloned().unwrap_or_default()
        };
        let options = PushOptions { elsewhere: &elsewhere, ..PushOptions::default() };
        remote::push(&content, &StoreOrigin(store), client, names, options, sink)?;
    }
    Ok(())
}

/// Returns in which other repositories of the registry of `target` blobs are: those of images that came from there, or went there.
fn repositories(store: &Store, target: &Reference) -> HashMap<Digest, Vec<String>> {
    let mut found: HashMap<Digest, Vec<String>> = HashMap::new();
    for tagged in store.images().unwrap_or_default() {
        let Ok(name) = Reference::parse(&tagged.name) else { continue };
        if name.registry() != target.registry() || name.repository() == target.repository() {
            continue;
        }
        let Ok(image) = store.image(&tagged.descriptor) else { continue };
        for layer in image.layers() {
            let repositories = found.entry(layer.digest).or_default();
            if !repositories.iter().any(|known| known == name.repository()) {
                repositories.push(name.repository().to_owned());
            }
        }
    }
    found
}
