//! Caches in other places: where a build looks for results, and where it writes them to.

use std::sync::{Arc, OnceLock};

use super::args::{CacheFailure, CacheTo};
use super::report::Failure;
use super::request::BuildRequest;
use crate::build::Builder;
use crate::layer::Compression;
use crate::output::cache::{CacheSource, CacheSources, CacheStep, gather_cache};
use crate::output::content::{self, Destination, Origin, StoreOrigin};
use crate::output::remote::{self, RemoteOrigin};
use crate::output::{Location, OutputError, Place};
use crate::plan::{FORMAT_VERSION, Plan};
use crate::progress::{Event, Sink};
use crate::registry::{Client, PushOptions, Remote};
use crate::store::Store;

/// The places of caches, opened when they are looked into.
pub(super) struct CachePlaces<'a> {
    places: Vec<(&'a Location, OnceLock<Opened>)>,
}

enum Opened {
    Files(Place),
    Registry(Box<Remote>),
}

impl<'a> CachePlaces<'a> {
    pub(super) fn new(locations: &'a [Location]) -> Self {
        CachePlaces { places: locations.iter().map(|location| (location, OnceLock::new())).collect() }
    }

    /// Returns what a build looks into; `None` where there is nothing. `client` is needed where a place is a registry.
    pub(super) fn sources<'b>(
        &'b self,
        store: &'b Store,
        client: Option<&'b Client>,
        sink: &'b dyn Sink,
    ) -> Option<CacheSources<'b>> {
        let source = |(location, opened): &'b (&'a Location, OnceLock<Opened>)| CacheSource {
            name: location.to_string(),
            open: Box::new(move || open(location, opened, store, client)),
        };
        let sources: Vec<_> = self.places.iter().map(source).collect();
        (!sources.is_empty()).then(|| CacheSources::new(sources, FORMAT_VERSION, store, sink))
    }
}

fn open<'b>(
    location: &Location,
    opened: &'b OnceLock<Opened>,
    store: &Store,
    client: Option<&Client>,
) -> Result<Box<dyn Origin + 'b>, OutputError> {
    let new = match (location, client) {
        (Location::Registry(name), Some(client)) => Opened::Registry(Box::new(client.open(name)?)),
        _ => Opened::Files(Place::open(location, &store.tmp())?),
    };
    match (opened.get_or_init(|| new), location) {
        (Opened::Files(place), _) => place.origin(None),
        (Opened::Registry(remote), Location::Registry(name)) => {
            Ok(Box::new(RemoteOrigin { remote, name: name.clone() }))
        }
        (Opened::Registry(_), _) => unreachable!("only a registry is opened as one"),
    }
}

/// Returns whether a cache of the build lies in a registry.
pub(super) fn needs_client(request: &BuildRequest) -> bool {
    let to = request.cache_to.iter().filter_map(|to| to.location.as_ref());
    request.cache_from.iter().chain(to).any(|location| matches!(location, Location::Registry(_)))
}

/// Writes the results of a build, whether it came to its end or not, to the caches `to`. What cannot be written is a warning, unless the
/// user wants it to be an error. `from` is what the build looked into.
pub(super) fn write(
    to: &[CacheTo],
    builder: &mut Builder<'_>,
    plan: &Plan,
    request: &BuildRequest,
    from: Option<&CacheSources<'_>>,
    client: Option<&Client>,
) -> Result<(), Failure> {
    for to in to {
        // That is part of the image.
        let Some(location) = &to.location else { continue };
        // What is there already need not be here.
        let is_source = request.cache_from.contains(location);
        let from = from.filter(|_| is_source);
        let compression = to.compression.unwrap_or(request.compression());
        match (one((to, location), builder, plan, compression, from, client), to.failure) {
            (Ok(()), _) => {}
            (Err(failure), CacheFailure::Fails) => return Err(failure),
            (Err(failure), CacheFailure::Warns) => {
                let why = failure.message().unwrap_or_default();
                let message = format!("cache {location} is not written: {why}");
                builder.sink.emit(Event::Warning { message, line: None });
            }
        }
    }
    Ok(())
}

fn one(
    (to, location): (&CacheTo, &Location),
    builder: &mut Builder<'_>,
    plan: &Plan,
    compression: Compression,
    from: Option<&CacheSources<'_>>,
    client: Option<&Client>,
) -> Result<(), Failure> {
    let mut steps = Vec::new();
    for made in Arc::clone(&builder.journal).made(plan, to.reach) {
        let layer = made.step.layer;
        let packed = match from.and_then(|from| from.packed(&layer)) {
            Some(there) => Some(there),
            None => builder.packed(&made, compression)?,
        };
        if let Some((variant, packed)) = packed {
            let keys = made.keys.into_iter().collect();
            steps.push(CacheStep { keys, layer, created: made.step.created, packed, variant });
        }
    }
    if steps.is_empty() {
        return Ok(());
    }
    let (store, sink) = (builder.store, builder.sink);
    let content = gather_cache(&steps, builder.journal.images(), FORMAT_VERSION, store)?;
    match (location, client) {
        (Location::Registry(name), Some(client)) => {
            let names = std::slice::from_ref(name);
            remote::push(&content, &StoreOrigin(store), client, names, PushOptions::default(), sink)?;
        }
        (location, _) => {
            let destination = Destination::Place { location, scratch: &store.tmp() };
            content::write(&content, &StoreOrigin(store), destination, &[], sink)?;
        }
    }
    Ok(())
}
