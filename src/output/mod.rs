//! Images in and out: OCI layouts in folders and archives, and docker's archives.
//!
//! This room knows no registry, unpacks no layer and runs nothing. What comes in is verified, length first and digest
//! second, before it is in the store; what goes out is verified as it is read, and is there in whole or not at all.
//!
//! [`Location`] names such a place; [`import`] and [`export`] move an image between it and the store, and
//! [`write_archive`] writes it to any stream.

mod archive;
mod docker_archive;
mod error;
mod export;
pub mod files;
mod import;
mod oci_layout;
mod source;
mod tarball;
mod temp;
mod transport;

pub use error::OutputError;
pub use export::{ArchiveFormat, export, write_archive};
pub use import::{Imported, import};
pub use transport::{Location, LocationError};

#[cfg(test)]
mod tests;
