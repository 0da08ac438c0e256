//! Bundles: all that a Dockerfile names elsewhere, in one archive.
//!
//! A bundle is an OCI archive. Its images are under their names, as in any other; beside them is an artifact whose layers are files
//! from URLs and packs of Git commits. What is in it is named by annotations: [`FileRow`], [`GitRow`] and [`ImageRow`] are these,
//! read and checked. `docs/bundle.md` is the format.

mod read;
mod row;
mod write;

pub use read::Bundle;
pub use row::{FileRow, GitRow, ImageRow};
pub use write::{BundledFile, BundledImage, write};

/// What the artifact of a bundle is.
const ARTIFACT: &str = "application/vnd.coracle.bundle.v1";

/// How that begins in any version.
const ARTIFACT_OF_ANY_VERSION: &str = "application/vnd.coracle.bundle.";

/// A file that is behind a URL.
const FILE: &str = "application/vnd.coracle.bundle.file.v1";

/// The objects of a commit, as git packs them.
const PACK: &str = "application/vnd.coracle.bundle.git-pack.v1";

/// A configuration that says nothing, and its content.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// The names of annotations.
mod key {
    pub const URL: &str = "vnd.coracle.bundle.url";
    pub const MODIFIED: &str = "vnd.coracle.bundle.modified";
    pub const REPOSITORY: &str = "vnd.coracle.bundle.git.repository";
    pub const COMMIT: &str = "vnd.coracle.bundle.git.commit";
    pub const ADDRESS: &str = "vnd.coracle.bundle.git.address";
    pub const REFERENCE: &str = "vnd.coracle.bundle.git.reference";
    pub const TAG: &str = "vnd.coracle.bundle.git.tag";
    pub const PLATFORMS: &str = "vnd.coracle.bundle.platforms";
}
