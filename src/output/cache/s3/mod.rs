//! Caches in buckets of Amazon's S3, and of all that speak as it does. docs/cache-export.md says what lies where.
//!
//! Requests are signed with Signature Version 4, in the query: the address is made anew for each, and never shown.

mod client;
mod upload;

pub use client::S3;

use std::fmt;
use std::time::Duration;

use crate::config::Secret;
use crate::net::Url;

/// A bucket, what the objects in it are called, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The URL of the service.
    pub endpoint: Url,
    /// Where the name of the bucket goes.
    pub style: BucketIn,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// What the objects are called.
    pub names: S3Names,
    /// Who we are; `None` where nothing says so.
    pub keys: Option<S3Keys>,
    /// Blobs, or parts of one, at the same time; at least 1.
    pub parallel: usize,
    /// A blob that is there is written anew, in its place, where that was done last this long ago: who removes old objects keeps it then.
    pub refresh: Duration,
}

/// What objects in a bucket are called: `{prefix}{blobs}{digest}` and `{prefix}{manifests}{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Names {
    /// What all names begin with.
    pub prefix: String,
    /// What stands before the digest of a blob.
    pub blobs: String,
    /// What stands before the name of a cache.
    pub manifests: String,
    /// The names of the cache, at least one. It is written under all, and all are read.
    pub caches: Vec<String>,
}

/// Where the name of the bucket is in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketIn {
    /// Before the host.
    Host,
    /// In the path.
    Path,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// The id of the key.
    pub id: String,
    /// The key.
    pub secret: Secret,
    /// What belongs to a key that is for some time only.
    pub token: Option<Secret>,
}

impl fmt::Display for S3Place {
    /// Writes the bucket and the first name of the cache, as `s3://bucket/manifests/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let S3Names { prefix, manifests, caches, .. } = &self.names;
        let name = caches.first().map(String::as_str).unwrap_or_default();
        write!(f, "s3://{}/{prefix}{manifests}{name}", self.bucket)
    }
}
