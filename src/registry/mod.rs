//! Images in registries (distribution-spec): a [`Client`] finds them where the user's files say that they are, and moves them in
//! and out.
//!
//! All that comes in is verified, length first and digest second, as it arrives; nothing is held in memory but manifests and
//! configurations. What was interrupted goes on where it stopped: downloads by Range, uploads by their session. The user's
//! credentials go to the registry and the token server that it names, and to nobody else.
//!
//! This room does not know the store: a pull writes to a [`Destination`], a push reads from an [`Origin`].

mod challenge;
mod client;
mod download;
mod error;
mod meter;
mod patience;
mod pull;
mod push;
mod reader;
mod referrers;
mod repository;
mod session;
mod tags;
mod transfer;
mod upload;

pub use client::{Client, ClientOptions, TlsCheck};
pub use error::RegistryError;
pub use pull::{Located, Pulled, Remote};
pub use push::{Elsewhere, Manifest, Outgoing, PushOptions, Pushed};
pub use reader::BlobReader;
pub use repository::{Fetched, Repository};
pub use transfer::{BoxError, Destination, Incoming, Origin, Session, Unfinished};
