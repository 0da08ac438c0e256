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
