//! Images in and out: OCI layouts in folders and archives, docker's archives, and folders of `dir:`.
//!
//! This room unpacks no layer and runs nothing. What comes in is verified, length first and digest
//! second, before it is in the store; what goes out is verified as it is read, and is there in whole or not at all.
//!
//! [`Location`] names such a place; [`content`] takes images and indexes from any place to any other as they are; [`import`] and
//! [`export`] move one image between a place and the store, and [`write_archive`] writes it to any stream.

mod archive;
pub mod attest;
mod bounded;
pub mod bundle;
pub mod cache;
pub mod content;
pub mod difference;
mod dir;
mod docker_archive;
pub mod dress;
mod error;
mod export;
pub mod files;
mod import;
pub mod index;
mod oci_layout;
mod out;
mod place;
pub mod remote;
mod source;
mod tarball;
mod temp;
mod transport;

pub use error::OutputError;
pub use export::{ArchiveFormat, export, in_place, replace_file, write_archive, write_archives};
pub use import::{Imported, import, import_for};
pub use place::{Listed, Place};
pub use transport::{Location, LocationError};

#[cfg(test)]
mod tests;
