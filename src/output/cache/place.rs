use std::fmt;

use super::{ActionsPlace, S3Place};
use crate::output::Location;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// Where images are: a registry or a folder.
    Image(Location),
    /// A bucket.
    S3(S3Place),
    /// The cache of GitHub's Actions.
    Actions(ActionsPlace),
}

impl CachePlace {
    /// Returns what it is called in the store: no other place has this name.
    pub fn identity(&self) -> String {
        match self {
            CachePlace::Image(location) => location.to_string(),
            CachePlace::S3(place) => format!("{place} at {}", place.endpoint),
            CachePlace::Actions(place) => match &place.url {
                Some(url) => format!("{place} at {url}"),
                None => place.to_string(),
            },
        }
    }

    /// Returns whether the blobs of both places lie together: what one has, the other has.
    pub fn shares_blobs(&self, other: &CachePlace) -> bool {
        match (self, other) {
            (CachePlace::S3(one), CachePlace::S3(other)) => {
                let blobs = |place: &S3Place| {
                    let names = &place.names;
                    (place.endpoint.clone(), place.bucket.clone(), names.prefix.clone(), names.blobs.clone())
                };
                blobs(one) == blobs(other)
            }
            (CachePlace::Actions(one), CachePlace::Actions(other)) => {
                (&one.url, &one.token) == (&other.url, &other.token)
            }
            (CachePlace::Image(Location::Registry(one)), CachePlace::Image(Location::Registry(other))) => {
                (one.registry(), one.repository()) == (other.registry(), other.repository())
            }
            (
                CachePlace::Image(Location::OciDir { path: one, .. }),
                CachePlace::Image(Location::OciDir { path: other, .. }),
            ) => one == other,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CachePlace::Image(location) => write!(f, "{location}"),
            CachePlace::S3(place) => write!(f, "{place}"),
            CachePlace::Actions(place) => write!(f, "{place}"),
        }
    }
}
