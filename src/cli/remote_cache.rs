//! Caches in other places: where a build looks for results, and where it writes them to.

use std::sync::{Arc, OnceLock};

use super::args::{CacheFailure, CacheTo};
use super::report::Failure;
use super::request::BuildRequest;
use crate::build::Builder;
use crate::layer::Compression;
use crate::output::cache::{CacheSource, CacheSources, CacheStep, export_cache};
use crate::output::{Location, Place};
use crate::plan::{FORMAT_VERSION, Plan};
use crate::progress::{Event, Sink};
use crate::store::Store;

/// The places of caches, opened when they are looked into.
pub(super) struct CachePlaces<'a> {
    places: Vec<(&'a Location, OnceLock<Place>)>,
}

impl<'a> CachePlaces<'a> {
    pub(super) fn new(locations: &'a [Location]) -> Self {
        CachePlaces { places: locations.iter().map(|location| (location, OnceLock::new())).collect() }
    }

    /// Returns what a build looks into; `None` where there is nothing.
    pub(super) fn sources<'b>(&'b self, store: &'b Store, sink: &'b dyn Sink) -> Option<CacheSources<'b>> {
        let source = |(location, place): &'b (&'a Location, OnceLock<Place>)| CacheSource {
            name: location.to_string(),
            open: Box::new(move || {
                let opened = Place::open(location, &store.tmp())?;
                place.get_or_init(|| opened).origin(None)
            }),
        };
        let sources: Vec<_> = self.places.iter().map(source).collect();
        (!sources.is_empty()).then(|| CacheSources::new(sources, FORMAT_VERSION, store, sink))
    }
}

/// Writes the results of a build, whether it came to its end or not, to the caches `to`. What cannot be written is a warning, unless the
/// user wants it to be an error. `from` is what the build looked into.
pub(super) fn write(
    to: &[CacheTo],
    builder: &mut Builder<'_>,
    plan: &Plan,
    request: &BuildRequest,
    from: Option<&CacheSources<'_>>,
) -> Result<(), Failure> {
    for to in to {
        // What is there already need not be here.
        let is_source = request.cache_from.contains(&to.location);
        let from = from.filter(|_| is_source);
        let compression = to.compression.unwrap_or(request.compression);
        match (one(to, builder, plan, compression, from), to.failure) {
            (Ok(()), _) => {}
            (Err(failure), CacheFailure::Fails) => return Err(failure),
            (Err(failure), CacheFailure::Warns) => {
                let why = failure.message().unwrap_or_default();
                let message = format!("cache {} is not written: {why}", to.location);
                builder.sink.emit(Event::Warning { message, line: None });
            }
        }
    }
    Ok(())
}

fn one(
    to: &CacheTo,
    builder: &mut Builder<'_>,
    plan: &Plan,
    compression: Compression,
    from: Option<&CacheSources<'_>>,
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
    if !steps.is_empty() {
        export_cache(&steps, builder.journal.image(), FORMAT_VERSION, builder.store, &to.location, builder.sink)?;
    }
    Ok(())
}
