//! Layers as archives: a tree on disk and its index from a tar stream, and a tar stream from an index.
//!
//! This room computes no digest of a blob, knows no store, and never decides what a layer should hold. It is where
//! the bytes of strangers become files: see [`DiskTree`] for how a file is made, and [`unpack`] for what an entry may
//! not do.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use coracle::layer::{PackOptions, UnpackOptions, pack, scan};
//! use coracle::tree::{Entry, Kind, Meta, TreePath};
//! let meta = Meta { mode: 0o755, ..Meta::default() };
//! let entries = [Entry { path: TreePath::new("etc")?, kind: Kind::Dir, meta, implied: false }];
//! let mut archive = Vec::new();
//! pack(&entries, &mut |_| unreachable!("there is no file"), &mut archive, &PackOptions::default())?;
//! let layer = scan(&mut &archive[..], &UnpackOptions::default())?;
//! assert_eq!(layer.entries[1], entries[0]); // The first one is the root, which no entry named.
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod archive;
mod change;
mod compress;
mod disk;
mod error;
mod in_place;
mod index;
mod pack;
mod record;
pub mod tar;
mod unpack;
mod xattr;

pub use change::{OPAQUE, Ownership, changes};
pub use compress::{Compression, CompressionError, Compressor, UnknownFormat, decompress};
pub use disk::{Contents, DiskTree};
pub use error::LayerError;
pub use in_place::{InPlace, Otherwise, Touched, changes_in_place};
pub use pack::{PackOptions, pack};
pub use record::Record;
pub use unpack::{Names, UnpackOptions, Unpacked, scan, unpack};
