use std::io;

use super::transfer::BoxError;
use crate::config::ConfigError;
use crate::net::NetError;
use crate::oci::{Digest, ImageError};

/// An image cannot be brought in from a registry, or out to one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The network, or a status that says nothing more.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The user's files about registries cannot be used, or forbid it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A document of the image makes no sense, or there is no image for the platform.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The registry wants to know who we are, or does not believe it.
    #[error("{registry} {}", if *known { "does not accept the credentials for it" } else { "wants a login for this" })]
    Unauthorized {
        /// Host and repository.
        registry: String,
        /// Whether it got credentials.
        known: bool,
        /// What it said.
        #[source]
        source: Option<NetError>,
    },
    /// The registry knows who we are, and says no.
    #[error("{registry} does not allow this")]
    Denied {
        /// Host and repository.
        registry: String,
        /// What it said.
        #[source]
        source: NetError,
    },
    /// It is not there.
    #[error("{what} is not in {registry}")]
    NotFound {
        /// What: "tag 1.0", "manifest sha256:…", "blob sha256:…".
        what: String,
        /// Host and repository.
        registry: String,
    },
    /// The registry asks for credentials in a way that makes no sense.
    #[error("{host} asks for credentials in a way that coracle does not know: {reason}")]
    Challenge {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A manifest of docker's first schema.
    #[error("{name} is an image of the old format \"schema 1\", which is not supported")]
    Schema1 {
        /// The image.
        name: String,
    },
    /// Content has another digest than it should.
    #[error("{what} from {registry} has digest {found}, not {expected}")]
    Digest {
        /// What was read.
        what: String,
        /// Host and repository.
        registry: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Content has another length than it should.
    #[error("{what} from {registry} has {found} bytes, not {expected}")]
    Length {
        /// What was read.
        what: String,
        /// Host and repository.
        registry: String,
        /// The length that it should have.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// The registry answers against the specification.
    #[error("{registry}: {reason}")]
    Protocol {
        /// Host and repository.
        registry: String,
        /// What it did.
        reason: String,
    },
    /// What came in cannot be kept.
    #[error("cannot keep what was pulled")]
    Destination(#[source] BoxError),
    /// What is to go out cannot be read.
    #[error("cannot read what is to be pushed")]
    Origin(#[source] io::Error),
    /// There is no place of the image where it could be had from.
    #[error("cannot pull {name}{}", places(tried))]
    Places {
        /// The image.
        name: String,
        /// The places, and what happened at each but the last.
        tried: Vec<String>,
        /// What happened at the last.
        #[source]
        source: Box<RegistryError>,
    },
}

fn places(tried: &[String]) -> String {
    if tried.is_empty() { String::new() } else { format!(" (before: {})", tried.join("; ")) }
}

impl RegistryError {
    /// Returns whether another place (a mirror, the registry behind it) could still have it.
    pub fn is_of_the_place(&self) -> bool {
        match self {
            RegistryError::Net(NetError::Cancelled) => false,
            RegistryError::Net(_)
            | RegistryError::Unauthorized { .. }
            | RegistryError::Denied { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::Challenge { .. }
            | RegistryError::Digest { .. }
            | RegistryError::Length { .. }
            | RegistryError::Places { .. }
            | RegistryError::Protocol { .. } => true,
            RegistryError::Image(error) => !matches!(error, ImageError::Platform { .. }),
            _ => false,
        }
    }

    /// Returns whether there is something else than an image for the platform.
    pub fn is_no_image(&self) -> bool {
        match self {
            RegistryError::Image(_) | RegistryError::Schema1 { .. } => true,
            RegistryError::Places { source, .. } => source.is_no_image(),
            _ => false,
        }
    }

    /// Returns whether the image is simply not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            RegistryError::NotFound { .. } => true,
            RegistryError::Places { source, .. } => source.is_not_found(),
            _ => false,
        }
    }
}
