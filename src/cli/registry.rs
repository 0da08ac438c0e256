//! Images from registries into the store, and out of it.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use oci_spec::image::Descriptor;

use super::args::PullPolicy;
use super::arriving::Arriving;
use super::classify::CredentialsForWhom;
use super::report::Failure;
use super::request::RegistryRequest;
use crate::config::Registries;
use crate::net::Cancel;
use crate::oci::{Digest, Parts, Platform, Reference, ReferenceError, digest_of};
use crate::output::cache::CacheSources;
use crate::output::content::{Blob, Content, InStore, Origin, Selection, StoreOrigin, Top};
use crate::output::remote::{self, UploadsIn};
use crate::output::{Location, OutputError};
use crate::progress::{Event, Sink};
use crate::registry::{Client, ClientOptions, PushOptions, RegistryError, Remote};
use crate::store::{Image, Store, StoreError};

/// The client that was asked for, made when it is needed: a build that finds all in the store reads no file about registries.
pub(super) struct LazyClient<'a> {
    request: &'a RegistryRequest,
    cancel: Cancel,
    /// Images whose registries may be told who we are, though the command line does not name them.
    bases: RefCell<Vec<String>>,
    made: OnceCell<Client>,
}

impl<'a> LazyClient<'a> {
    /// Returns one that gives up soon after `cancel` says so.
    pub fn new(request: &'a RegistryRequest, cancel: Cancel) -> Self {
        LazyClient { request, cancel, bases: RefCell::default(), made: OnceCell::new() }
    }

    /// Decides for whom the credentials of the command line are, where it names no registry that they could be for: for that of
    /// `bases`, the images that a Dockerfile builds on.
    pub fn settle(&self, bases: impl FnOnce() -> Result<Vec<String>, Failure>) -> Result<(), Failure> {
        let RegistryRequest { places, credentials, .. } = self.request;
        if !credentials.as_ref().is_some_and(|given| given.images.is_empty()) || !places.given.mirrors.is_empty() {
            return Ok(());
        }
        let plain = |name: String| name.strip_prefix("docker://").map_or(name.clone(), str::to_owned);
        let bases: Vec<String> =
            bases()?.into_iter().map(plain).filter(|name| !Location::has_transport(name)).collect();
        let registries: Vec<String> = Registries::load(places)?.named(&bases).into_iter().collect();
        if registries.len() != 1 {
            return Err(CredentialsForWhom { registries }.into());
        }
        *self.bases.borrow_mut() = bases;
        Ok(())
    }

    /// Returns the client.
    pub fn get(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let RegistryRequest { places, mut credentials, tls, network } = self.request.clone();
        if let Some(given) = &mut credentials {
            given.images.extend(self.bases.borrow().iter().cloned());
        }
        let agent = network.agent(self.cancel.clone());
        let options = ClientOptions { tls, ..ClientOptions::default() };
        let client = Client::new(agent, places, credentials, options)?;
        Ok(self.made.get_or_init(|| client))
    }
}

/// Brings images into the store, where they are not there yet: their documents at once, their layers when [`Arriving`] is told to.
pub(super) struct Puller<'a> {
    pub arriving: &'a Arriving,
    pub client: &'a LazyClient<'a>,
    pub store: &'a Store,
    pub wants: Wants<'a>,
    pub sink: &'a dyn Sink,
}

/// Which images of an index are brought in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wants<'a> {
    /// Those for each of these platforms, at least one.
    These(&'a [Platform]),
    /// All.
    All,
}

/// An image that is in the store, or arriving.
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
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(missing.map_or_else(
            || Failure::from(super::classify::NoImage { name: written.into() }),
            |error| remote_error(*error),
        ))
    }

    /// Returns the images under all tags of the repository that `written` means. What is something else than an image for the platforms
    /// is a warning.
    pub fn find_tags(&self, written: &str, policy: PullPolicy) -> Result<Vec<Found>, Failure> {
        let reference = Reference::parse(written)?;
        let client = self.client.get()?;
        let mut missing = None;
        for repository in client.candidates(written, &reference)? {
            match client.tags(&repository) {
                Ok(names) => return self.find_each(client, names, policy),
                Err(error) if error.is_not_found() => missing = missing.or(Some(error)),
                Err(error) => return Err(remote_error(error)),
            }
        }
        Err(missing.map_or_else(|| super::classify::NoImage { name: written.into() }.into(), remote_error))
    }

    fn find_each(&self, client: &Client, names: Vec<Reference>, policy: PullPolicy) -> Result<Vec<Found>, Failure> {
        let mut all = Vec::new();
        for name in names {
            if policy == PullPolicy::Missing
                && let Some(found) = self.in_store(&name)?
            {
                all.push(found);
                continue;
            }
            match self.fetch(client, &name, policy) {
                Ok(descriptor) => all.push(Found { name, descriptor }),
                // A signature, an image for other machines, or gone since it was listed.
                Err(Problem::Registry(error)) if error.is_no_image() || error.is_not_found() => {
                    let message = format!("{name} is left out: {}", super::report::chain(error.as_ref()));
                    self.sink.emit(Event::Warning { message, line: None });
                }
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(all)
    }

    /// Returns what the store has under a name, if the images for all platforms are part of that.
    fn in_store(&self, name: &Reference) -> Result<Option<Found>, Failure> {
        let descriptor = self.store.find(&name.to_string())?.filter(|descriptor| !self.lacks(descriptor));
        Ok(descriptor.map(|descriptor| Found { name: name.clone(), descriptor }))
    }

    /// Whether an image for one of the platforms was left out when `descriptor` was pulled, or has not come yet. That an index has none
    /// is no gap.
    fn lacks(&self, descriptor: &Descriptor) -> bool {
        match self.wants {
            Wants::These(platforms) => {
                let mut images = platforms.iter().map(|platform| self.store.image_for(descriptor, platform));
                images.any(|image| match image {
                    // A name leads to an index as soon as one of its images is there.
                    Ok(image) if image.digest.to_string() != descriptor.digest().to_string() => {
                        image.layers().iter().any(|layer| !self.store.has_blob(&layer.digest))
                    }
                    // Its layers stayed in a registry.
                    Ok(image) if !self.store.origins(&image.digest).is_empty() => {
                        image.layers().iter().any(|layer| !self.store.has_blob(&layer.digest))
                    }
                    Ok(_) => false,
                    Err(error) => matches!(error, StoreError::NoBlob(_)),
                })
            }
            Wants::All => match self.all(descriptor) {
                Ok(all) => all.blobs.keys().any(|digest| !self.store.has_blob(digest)),
                Err(error) => matches!(error, OutputError::Store(StoreError::NoBlob(_))),
            },
        }
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
        // What is missing belongs to what the store has, as long as the registry has that.
        if policy == PullPolicy::Missing
            && let Some(known) = self.store.find(&name.to_string())?
            && let Ok(known) = digest_of(&known)
        {
            match self.pull(client, &by_digest(name, &known)?, name) {
                Ok(descriptor) => return Ok(descriptor),
                Err(Problem::Registry(error)) if error.is_of_the_place() => {}
                Err(error) => return Err(error),
            }
        }
        self.pull(client, name, name)
    }

    /// Reads all that a descriptor leads to in the store.
    fn all(&self, descriptor: &Descriptor) -> Result<Content, OutputError> {
        let stored = InStore { store: self.store, top: descriptor.clone(), name: None };
        Content::gather(&stored, &stored.top()?, &Selection::All)
    }

    /// Brings the documents of the images that are wanted in, and returns what leads to them; their layers are to come, and then
    /// `known` leads there. They are of one index: it is asked for by its name once.
    fn pull(&self, client: &Client, name: &Reference, known: &Reference) -> Result<Descriptor, Problem> {
        let Wants::These(platforms) = self.wants else {
            let descriptor = remote::pull_all(client, name, self.store, self.sink)?;
            self.store.tag(&[known.to_string()], &descriptor)?;
            return Ok(descriptor);
        };
        let (mut name, mut waiting) = (name.clone(), Vec::new());
        for platform in platforms {
            let found = client.locate(&name, platform)?;
            let image = Image::from(found.image.clone());
            self.store.put_blob(&image.config_bytes)?;
            self.store.put_blob(&image.manifest_bytes)?;
            self.store.put_blob(&found.remote.root.bytes)?;
            let root = &found.remote.descriptor;
            name = by_digest(&name, &found.remote.root.digest)?;
            let is_index = root.digest().to_string() != image.digest.to_string();
            // The index stays what the name leads to: it is what a digest in a Dockerfile names.
            let descriptor = if is_index { root.clone() } else { image.descriptor() };
            waiting.push((found, image, descriptor));
            if !is_index {
                break;
            }
        }
        let (_, _, descriptor) = waiting.last().expect("there is a platform");
        let descriptor = descriptor.clone();
        waiting.into_iter().for_each(|(found, image, descriptor)| self.arriving.add(found, image, descriptor, known));
        Ok(descriptor)
    }

    /// Whether all of the images is in the store.
    fn is_whole(&self, descriptor: &Descriptor) -> bool {
        let is_there = |digest: &Digest, size| self.store.blob_size(digest) == Some(size);
        match self.wants {
            Wants::These(platforms) => platforms.iter().all(|platform| {
                let image = self.store.image_for(descriptor, platform);
                image.is_ok_and(|image| image.layers().iter().all(|layer| is_there(&layer.digest, layer.size)))
            }),
            Wants::All => {
                let all = self.all(descriptor);
                all.is_ok_and(|all| all.blobs.iter().all(|(digest, blob)| is_there(digest, blob.size())))
            }
        }
    }
}

/// Returns the name of what has this digest.
fn by_digest(name: &Reference, digest: &Digest) -> Result<Reference, Problem> {
    Reference::parse(&format!("{}@{digest}", name.name())).map_err(Problem::Reference)
}

enum Problem {
    Registry(Box<RegistryError>),
    Store(StoreError),
    Output(Box<OutputError>),
    Reference(ReferenceError),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Registry(error) => remote_error(*error),
            Problem::Store(error) => error.into(),
            Problem::Output(error) => (*error).into(),
            Problem::Reference(error) => error.into(),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        Problem::Registry(Box::new(error))
    }
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Registry(error) => Problem::Registry(error),
            error => Problem::Output(Box::new(error)),
        }
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

/// The blobs of the store, and those that stayed in caches: these are brought when they are needed.
pub(super) struct WithCaches<'a, 'b> {
    pub store: &'a Store,
    pub caches: Option<&'a CacheSources<'b>>,
}

impl WithCaches<'_, '_> {
    /// Returns the repository of the registry of `target` in which a blob stayed.
    fn stayed(&self, digest: &Digest, target: &Reference) -> Option<String> {
        let repository = self.caches?.stayed(digest)?;
        (repository.host() == Client::host_of(target.registry())).then(|| repository.repository().to_owned())
    }
}

impl Origin for WithCaches<'_, '_> {
    fn place(&self) -> String {
        StoreOrigin(self.store).place()
    }

    fn top(&self) -> Result<Top, OutputError> {
        StoreOrigin(self.store).top()
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        StoreOrigin(self.store).document(descriptor, what)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        if let Some(caches) = self.caches.filter(|_| !self.store.has_blob(&digest)) {
            // It could not be mounted.
            caches.bring_stayed(&digest)?;
        }
        let file = self.store.open_blob(&digest)?;
        let length = file.metadata().map(|metadata| metadata.len());
        let length =
            length.map_err(|source| StoreError::Io { call: "read", path: self.store.blob_path(&digest), source })?;
        Ok((Box::new(file), length))
    }

    fn blob_name(&self, digest: &Digest) -> String {
        StoreOrigin(self.store).blob_name(digest)
    }

    fn wrong(&self, expected: (Digest, u64), found: (Digest, u64)) -> OutputError {
        StoreOrigin(self.store).wrong(expected, found)
    }
}

/// Pushes an image or an index of the store to each of these names.
pub(super) fn push(
    content: &Content,
    from: &WithCaches<'_, '_>,
    client: &Client,
    names: &[Reference],
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let store = from.store;
    let mut targets: Vec<(String, Vec<Reference>)> = Vec::new();
    for name in names {
        match targets.iter_mut().find(|(known, _)| *known == name.name()) {
            Some((_, names)) => names.push(name.clone()),
            None => targets.push((name.name(), vec![name.clone()])),
        }
    }
    for (_, names) in &targets {
        let known = std::sync::OnceLock::new();
        let elsewhere = |digest: &Digest| {
            let known = known.get_or_init(|| repositories(store, &names[0]));
            let mut found: Vec<String> = from.stayed(digest, &names[0]).into_iter().collect();
            found.extend(known.get(digest).into_iter().flatten().cloned());
            found
        };
        let unfinished = UploadsIn(store);
        let options = PushOptions { elsewhere: &elsewhere, unfinished: Some(&unfinished), ..PushOptions::default() };
        remote::push(content, from, client, names, options, sink)?;
    }
    Ok(())
}

/// Pushes an image or an index from anywhere to one name.
pub(super) fn push_content(
    content: &Content,
    from: &dyn Origin,
    store: &Store,
    client: &Client,
    name: &Reference,
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let known = std::sync::OnceLock::new();
    let elsewhere = |digest: &Digest| {
        let known = known.get_or_init(|| {
            let mut found = repositories(store, name);
            // What a list took from the same registry is there, and need not move.
            for (descriptor, bytes) in &content.documents {
                let Some(manifest) = digest_of(descriptor).ok() else { continue };
                let own = |known: &String| known.strip_prefix(name.registry())?.strip_prefix('/').map(str::to_owned);
                let there: Vec<String> = store.origins(&manifest).iter().filter_map(own).collect();
                let Ok(parts) = Parts::parse(bytes, None, "manifest") else { continue };
                for blob in parts.blobs.iter().filter_map(|blob| digest_of(blob).ok()) {
                    found.entry(blob).or_default().extend(there.iter().cloned());
                }
            }
            found
        });
        known.get(digest).cloned().unwrap_or_default()
    };
    let unfinished = UploadsIn(store);
    let options = PushOptions { elsewhere: &elsewhere, unfinished: Some(&unfinished), ..PushOptions::default() };
    remote::push(content, from, client, std::slice::from_ref(name), options, sink)?;
    Ok(())
}

/// Returns in which other repositories of the registry of `target` blobs are: those of images that came from there, or went there.
pub(super) fn repositories(store: &Store, target: &Reference) -> HashMap<Digest, Vec<String>> {
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

/// A list in the store, some of whose layers are still in registries: from there they are read when they are needed.
pub(super) struct Joined<'a> {
    stored: InStore<'a>,
    /// Where blobs are that the store does not have.
    elsewhere: HashMap<Digest, Remote>,
    /// To which of them a blob belongs.
    owners: HashMap<Digest, Digest>,
}

impl<'a> Joined<'a> {
    pub fn new(stored: InStore<'a>, client: &LazyClient<'_>) -> Result<Self, Failure> {
        let content = Content::gather(&stored, &stored.top()?, &Selection::All)?;
        let (mut elsewhere, mut owners) = (HashMap::new(), HashMap::new());
        for (descriptor, bytes) in &content.documents {
            let manifest = digest_of(descriptor).map_err(OutputError::from)?;
            let parts = Parts::parse(bytes, None, "manifest").map_err(OutputError::from)?;
            let missing = |blob: &Digest| !stored.store.has_blob(blob);
            let missing: Vec<Digest> = parts.blobs.iter().filter_map(|b| digest_of(b).ok()).filter(missing).collect();
            let Some(place) = stored.store.origins(&manifest).into_iter().next().filter(|_| !missing.is_empty()) else {
                continue;
            };
            let remote = client.get()?.open(&Reference::parse(&format!("{place}@{manifest}"))?);
            elsewhere.insert(manifest, remote.map_err(OutputError::from)?);
            owners.extend(missing.into_iter().map(|blob| (blob, manifest)));
        }
        Ok(Joined { stored, elsewhere, owners })
    }
}

impl Origin for Joined<'_> {
    fn place(&self) -> String {
        self.stored.place()
    }

    fn top(&self) -> Result<Top, OutputError> {
        self.stored.top()
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        self.stored.document(descriptor, what)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        self.blob_from(descriptor, 0)
    }

    fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Result<Blob<'_>, OutputError> {
        match self.owners.get(&digest_of(descriptor)?).and_then(|owner| self.elsewhere.get(owner)) {
            Some(remote) => Ok((Box::new(remote.repository.blob(descriptor, offset)?), descriptor.size())),
            None => self.stored.blob_from(descriptor, offset),
        }
    }

    fn wrong(&self, expected: (Digest, u64), found: (Digest, u64)) -> OutputError {
        self.stored.wrong(expected, found)
    }

    fn is_remote(&self) -> bool {
        !self.elsewhere.is_empty()
    }
}
