//! Caches in other places: where a build looks for results, and where it writes them to.

use std::sync::{Arc, OnceLock};

use super::args::{CacheFailure, OutputSpec};
use super::registry::{WithCaches, push};
use super::report::Failure;
use super::request::{BuildRequest, CacheTarget};
use super::result::ImageNames;
use crate::build::{Builder, Made};
use crate::layer::Compression;
use crate::net::{Agent, Cancel, Verify};
use crate::output::cache::{
    Actions, CachePlace, CacheSource, CacheSources, CacheStep, Depot, DepotError, DepotOrigin, S3, export_to,
    gather_cache,
};
use crate::output::content::{self, Destination, Origin, StoreOrigin};
use crate::output::remote::RemoteOrigin;
use crate::output::{Location, OutputError, Place};
use crate::plan::{FORMAT_VERSION, Plan};
use crate::progress::{Event, Sink};
use crate::registry::{Client, Remote, Repository, TlsCheck};
use crate::store::{Layout, Packed, RemoteSteps, Store};

/// How services are reached, that are no registries.
pub(super) struct Ways<'a> {
    /// That for registries; `None` where no cache is in one.
    pub client: Option<&'a Client>,
    agent: Agent,
    verify: Verify,
}

impl<'a> Ways<'a> {
    /// Returns those of a request. Nothing is asked yet.
    pub(super) fn new(request: &BuildRequest, client: Option<&'a Client>, cancel: Cancel) -> Self {
        let verify = match request.registry.tls {
            TlsCheck::Never => Verify::Skipped,
            _ => Verify::Required,
        };
        Ways { client, agent: request.registry.network.agent(cancel), verify }
    }

    /// Opens the depot of a place; `None` where it is a place of images.
    fn depot(&self, place: &CachePlace) -> Result<Option<Box<dyn Depot>>, DepotError> {
        Ok(match place {
            CachePlace::Image(_) => None,
            CachePlace::S3(place) => Some(Box::new(S3::open(place, self.agent.clone(), self.verify)?)),
            CachePlace::Actions(place) => Some(Box::new(Actions::open(place, &self.agent, self.verify)?)),
        })
    }
}

/// The places of caches, opened when they are looked into.
pub(super) struct CachePlaces<'a> {
    places: Vec<(&'a CachePlace, OnceLock<Opened>)>,
}

enum Opened {
    Files(Place),
    Registry(Box<Remote>),
    Depot(Box<dyn Depot>),
}

impl<'a> CachePlaces<'a> {
    pub(super) fn new(places: &'a [CachePlace]) -> Self {
        CachePlaces { places: places.iter().map(|place| (place, OnceLock::new())).collect() }
    }

    /// Returns what a build looks into; `None` where there is nothing.
    pub(super) fn sources<'b>(
        &'b self,
        store: &'b Store,
        ways: &'b Ways<'b>,
        sink: &'b dyn Sink,
    ) -> Option<CacheSources<'b>> {
        let source = |(place, opened): &'b (&'a CachePlace, OnceLock<Opened>)| CacheSource {
            name: place.to_string(),
            identity: place.identity(),
            open: Box::new(move || open(place, opened, store, ways)),
        };
        let sources: Vec<_> = self.places.iter().map(source).collect();
        (!sources.is_empty()).then(|| CacheSources::new(sources, FORMAT_VERSION, store, sink))
    }
}

fn open<'b>(
    place: &CachePlace,
    opened: &'b OnceLock<Opened>,
    store: &Store,
    ways: &Ways<'_>,
) -> Result<Box<dyn Origin + 'b>, OutputError> {
    let new = match (place, ways.depot(place)?, ways.client) {
        (CachePlace::Image(Location::Registry(name)), _, Some(client)) => {
            Opened::Registry(Box::new(client.open(name)?))
        }
        (CachePlace::Image(location), ..) => Opened::Files(Place::open(location, &store.tmp())?),
        (_, Some(depot), _) => Opened::Depot(depot),
        (_, None, _) => unreachable!("what is no place of images is a depot"),
    };
    match (opened.get_or_init(|| new), place) {
        (Opened::Files(place), _) => place.origin(None),
        (Opened::Depot(depot), _) => Ok(Box::new(DepotOrigin::new(depot.as_ref()))),
        (Opened::Registry(remote), CachePlace::Image(Location::Registry(name))) => {
            Ok(Box::new(RemoteOrigin { remote, name: name.clone() }))
        }
        (Opened::Registry(_), _) => unreachable!("only a registry is opened as one"),
    }
}

/// Returns `sources` for this build: where the image goes to the registry that has a cache, and to nowhere else, the layers of the image
/// stay there, and are mounted in the end.
pub(super) fn staying<'b>(sources: CacheSources<'b>, request: &BuildRequest, names: &ImageNames) -> CacheSources<'b> {
    // A scanner reads the files.
    let only_images =
        request.attest.sbom.is_none() && request.outputs.iter().all(|output| matches!(output, OutputSpec::Image(_)));
    // What is written to another cache must be here.
    let is_source = |to: &CacheTarget| to.place.as_ref().is_some_and(|to| request.cache_from.contains(to));
    let Some(registry) = names.only_registry().filter(|_| only_images && request.cache_to.iter().all(is_source)) else {
        return sources;
    };
    let host = Client::host_of(registry).to_owned();
    sources.with_staying(Box::new(move |repository| repository.host() == host))
}

/// Returns whether a cache of the build lies in a registry.
pub(super) fn needs_client(request: &BuildRequest) -> bool {
    let to = request.cache_to.iter().filter_map(|to| to.place.as_ref());
    request.cache_from.iter().chain(to).any(|place| matches!(place, CachePlace::Image(Location::Registry(_))))
}

/// Writes the results of a build, whether it came to its end or not, to the caches `to`. What cannot be written is a warning, unless the
/// user wants it to be an error. `from` is what the build looked into.
pub(super) fn write(
    to: &[CacheTarget],
    builder: &mut Builder<'_>,
    plan: &Plan,
    request: &BuildRequest,
    from: Option<&CacheSources<'_>>,
    ways: &Ways<'_>,
) -> Result<(), Failure> {
    for to in to {
        // That is part of the image.
        let Some(place) = &to.place else { continue };
        let compression = to.compression.unwrap_or(request.compression());
        let from = From { from, places: &request.cache_from, names: &request.cache.from };
        match (one((to, place), builder, plan, compression, from, ways), to.failure) {
            (Ok(()), _) => {}
            (Err(failure), CacheFailure::Fails) => return Err(failure),
            (Err(failure), CacheFailure::Warns) => {
                let why = failure.message().unwrap_or_default();
                let message = format!("cache {place} is not written: {why}");
                builder.sink.emit(Event::Warning { message, line: None });
            }
        }
    }
    Ok(())
}

/// What the build looked into.
#[derive(Clone, Copy)]
struct From<'a, 'b> {
    from: Option<&'a CacheSources<'b>>,
    /// Its places, in order.
    places: &'a [CachePlace],
    /// What they are called in the store.
    names: &'a [String],
}

fn one(
    (to, place): (&CacheTarget, &CachePlace),
    builder: &mut Builder<'_>,
    plan: &Plan,
    compression: Compression,
    From { from, places, names }: From<'_, '_>,
    ways: &Ways<'_>,
) -> Result<(), Failure> {
    let depot = ways.depot(place).map_err(OutputError::from)?;
    let target = Target { place, depot: depot.as_deref(), client: ways.client, repository: OnceLock::new() };
    let mut steps = Vec::new();
    for made in Arc::clone(&builder.journal).made(plan, to.reach) {
        let layer = made.step.layer;
        // What lies where the cache is written to need not be here. It may have been removed there, though another still names it.
        let (store, shares) = (builder.store, |number: usize| places[number].shares_blobs(place));
        let counts = |number: usize, packed: &Packed| {
            shares(number) && (store.blob_size(&packed.digest) == Some(packed.size) || target.has(packed))
        };
        let packed = match from.and_then(|from| from.packed(&layer, &counts)) {
            Some(there) => Some(there),
            None => match builder.packed(&made, compression, names)? {
                // Nobody needed it here. It comes from where its step was found; where that has lost it, the step is left out, and
                // done again by the next who wants it.
                None if from.is_some_and(|from| from.bring_blob(&layer)) => {
                    builder.packed(&made, compression, names)?
                }
                packed => packed,
            },
        };
        steps.extend(packed.map(|packed| step(made, packed)));
    }
    if steps.is_empty() {
        return Ok(());
    }
    let (store, sink) = (builder.store, builder.sink);
    let content = gather_cache(&steps, builder.journal.images(), FORMAT_VERSION, store)?;
    match (place, depot, ways.client) {
        (_, Some(depot), _) => export_to(&content, store, depot.as_ref(), sink)?,
        (CachePlace::Image(Location::Registry(name)), _, Some(client)) => {
            // As a push: layers are mounted where the registry has them, and an upload that was killed goes on.
            push(&content, &WithCaches { store, caches: None }, client, std::slice::from_ref(name), sink)?;
        }
        (CachePlace::Image(location), ..) => {
            let destination = Destination::Place { location, scratch: &store.tmp() };
            content::write(&content, &StoreOrigin(store), destination, &[], sink)?;
        }
        (_, None, _) => unreachable!("what is no place of images is a depot"),
    }
    Ok(())
}

fn step(made: Made, (variant, packed): (String, Packed)) -> CacheStep {
    let keys = made.keys.into_iter().collect();
    CacheStep { keys, layer: made.step.layer, created: made.step.created, packed, variant }
}

/// Where a cache is written to.
struct Target<'a> {
    place: &'a CachePlace,
    depot: Option<&'a dyn Depot>,
    client: Option<&'a Client>,
    /// The repository, where it is one and can be opened.
    repository: OnceLock<Option<Repository>>,
}

impl Target<'_> {
    /// Returns whether a blob is there; what cannot be found out is not.
    fn has(&self, Packed { digest, size, .. }: &Packed) -> bool {
        match (self.place, self.depot, self.client) {
            (_, Some(depot), _) => depot.has((digest, *size)).unwrap_or_default(),
            (CachePlace::Image(Location::Registry(name)), _, Some(client)) => {
                let open = || client.target(name).ok().map(|(repository, _)| repository);
                let repository = self.repository.get_or_init(open).as_ref();
                repository.is_some_and(|repository| repository.has_blob(digest).unwrap_or_default())
            }
            (CachePlace::Image(Location::OciDir { path, .. }), ..) => Layout::at(path).blob_is_sound(digest, *size),
            _ => false,
        }
    }
}
