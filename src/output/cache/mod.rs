//! Results of build steps in other places: an OCI manifest whose configuration says which cache key leads to which layer. docs/cache-export.md is
//! the norm.
//!
//! An image may have such a cache in its own configuration: then its layers are those of the image. In a [`Depot`], a bucket say, lie
//! the manifest and the blobs without any more around them.
//!
//! What is brought is computed before it counts: each document and blob by its digest, the index of a layer by the layer's id, which is
//! its digest, and the blob with the files by the index and by the digest of the tar in it.

mod depot;
mod document;
mod export;
mod fetch;
mod gha;
mod import;
mod inline;
mod known;
mod place;
mod s3;

pub use depot::{Depot, DepotError, DepotOrigin, Piece, export as export_to};
pub use export::{CacheStep, gather_cache};
pub use gha::{Actions, ActionsPlace};
pub use import::{CacheSource, CacheSources, Stays};
pub use inline::{InlineStep, inline_cache};
pub use place::CachePlace;
pub use s3::{BucketIn, S3, S3Keys, S3Names, S3Place};
