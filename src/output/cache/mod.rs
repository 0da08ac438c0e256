//! Results of build steps in other places: an OCI manifest whose configuration says which cache key leads to which layer. docs/cache-export.md is
//! the norm.
//!
//! An image may have such a cache in its own configuration: then its layers are those of the image.
//!
//! What is brought is verified: each document and blob by its digest, the index of a layer by the layer's id, which is its digest, and
//! the blob with the files by the digest of the tar in it.

mod document;
mod export;
mod import;
mod inline;

pub use export::{CacheStep, gather_cache};
pub use import::{CacheSource, CacheSources};
pub use inline::{InlineStep, inline_cache};
