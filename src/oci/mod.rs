//! The nouns of the OCI specifications, as types that are hard to mix up.
//!
//! This room does no input or output. Descriptors, manifests and indexes are those of the `oci-spec` crate; the
//! image configuration is our own, because that of the crate drops what it does not know (Healthcheck, OnBuild,
//! Shell), and a base image must keep all of it.

mod config;
mod digest;
mod document;
mod parts;
mod platform;
mod reference;
mod select;

pub use config::{ConfigError, ExecConfig, History, ImageConfig, RootFs};
pub use digest::{ChainId, DiffId, Digest, DigestError, DigestReader, DigestWriter};
pub use document::{
    Document, ImageError, MAX_DOCUMENT, MAX_LAYERS, check_manifest, digest_of, os_platform, parse_config,
};
pub use parts::Parts;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use select::{Fetch, Selected, select};

/// The member of an image configuration that says which steps made the layers of the image (docs/cache-export.md).
pub const INLINE_CACHE: &str = "coracle.cache.v1";

/// Media types that coracle reads or writes.
pub mod media_type {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A statement of in-toto: a layer of an attestation.
    pub const IN_TOTO: &str = "application/vnd.in-toto+json";
    /// An OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer: tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer: tar and gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer: tar and zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A layer that its owner does not want redistributed: tar. The compressed ones have a suffix as above.
    pub const LAYER_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer: tar and gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer: tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's layer: tar and zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker's layer that its owner does not want redistributed: tar and gzip.
    pub const DOCKER_LAYER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// Returns whether a layer may have the media type `text`.
    pub fn is_layer(text: &str) -> bool {
        match text.strip_prefix(LAYER).or_else(|| text.strip_prefix(LAYER_FOREIGN)) {
            Some(suffix) => matches!(suffix, "" | "+gzip" | "+zstd"),
            None => matches!(text, DOCKER_LAYER | DOCKER_LAYER_GZIP | DOCKER_LAYER_ZSTD | DOCKER_LAYER_FOREIGN),
        }
    }

    /// Returns whether the owner of a layer with the media type `text` does not want it redistributed.
    pub fn is_foreign(text: &str) -> bool {
        text.contains("nondistributable") || text.contains("foreign")
    }

    /// Returns whether `text` is the media type of an index, or of docker's list.
    pub fn is_index(text: &str) -> bool {
        matches!(text, INDEX | DOCKER_INDEX)
    }
}
