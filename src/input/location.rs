use std::path::PathBuf;
use std::str::FromStr;

use crate::address::{self, AddressError, GitAddress, Remote, Written};

/// Where a context is, as one text names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextLocation {
    /// A folder, or an archive in a file; as written.
    Path(PathBuf),
    /// On standard input: an archive, or a Dockerfile.
    Stdin,
    /// Behind a URL: an archive, or a Dockerfile.
    Url(String),
    /// In a Git repository.
    Git(GitAddress),
}

/// What `--build-context NAME=LOCATION` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The name, as COPY --from and FROM have it.
    pub name: String,
    /// Where it is.
    pub location: NamedLocation,
}

/// Where a context with a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedLocation {
    /// Files.
    Files(ContextLocation),
    /// An image, as FROM names it.
    Image(String),
    /// An image in an OCI layout.
    Layout {
        /// The folder of the layout, as written.
        path: PathBuf,
        /// The name of the image in it, where one is written.
        tag: Option<String>,
        /// Its digest, where one is written.
        digest: Option<String>,
    },
}

/// A text is no place where a context can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// It is empty.
    #[error("there is no build context")]
    Empty,
    /// It begins as an address does, and is none.
    #[error("{text:?} is no build context")]
    Address {
        /// As written, without a password.
        text: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// `--build-context` without `=`.
    #[error("{text:?} is not NAME=LOCATION")]
    NoName {
        /// As written.
        text: String,
    },
    /// A kind of location that there is elsewhere, and not here.
    #[error("{text:?}: coracle has no contexts of the kind {kind:?}")]
    UnknownKind {
        /// As written, without a password.
        text: String,
        /// What stands before the colon.
        kind: String,
    },
}

impl FromStr for ContextLocation {
    type Err = LocationError;

    /// Returns the location that docker's and buildah's command lines mean by `text`.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        match text {
            "" => return Err(LocationError::Empty),
            "-" => return Ok(ContextLocation::Stdin),
            _ => {}
        }
        match address::remote(text, Written::AsContext) {
            Some(Ok(Remote::File(url))) => Ok(ContextLocation::Url(url)),
            Some(Ok(Remote::Git(git))) => Ok(ContextLocation::Git(git)),
            Some(Err(source)) => Err(LocationError::Address { text: address::shown(text), source }),
            None => match scheme(text) {
                Some(kind) => Err(LocationError::UnknownKind { text: address::shown(text), kind: kind.to_owned() }),
                None => Ok(ContextLocation::Path(text.into())),
            },
        }
    }
}

impl std::fmt::Display for ContextLocation {
    /// Writes it as the user knows it, without a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ContextLocation::Path(path) => write!(f, "{}", path.display()),
            ContextLocation::Stdin => f.write_str("standard input"),
            ContextLocation::Url(url) => f.write_str(&address::shown(url)),
            ContextLocation::Git(git) => write!(f, "{git}"),
        }
    }
}

impl FromStr for NamedContext {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let missing = || LocationError::NoName { text: address::shown(text) };
        let (name, location) = text.split_once('=').ok_or_else(missing)?;
        if name.is_empty() || location.is_empty() {
            return Err(missing());
        }
        Ok(NamedContext { name: name.to_owned(), location: location.parse()? })
    }
}

impl FromStr for NamedLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let unknown = |kind: &str| LocationError::UnknownKind { text: address::shown(text), kind: kind.to_owned() };
        let not_empty = |rest: &str| if rest.is_empty() { Err(LocationError::Empty) } else { Ok(rest.to_owned()) };
        for kind in ["target:", "input:", "local:"] {
            if text.starts_with(kind) {
                return Err(unknown(kind.trim_end_matches(':')));
            }
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            let rest = not_empty(rest)?;
            let (rest, digest) = match rest.split_once('@') {
                Some((rest, digest)) => (rest, Some(digest.to_owned())),
                None => (&rest[..], None),
            };
            // A colon in the last part only: a folder may have one in its name.
            let at = rest.rfind('/').map_or(0, |at| at + 1);
            let (path, tag) = match rest[at..].split_once(':') {
                Some((name, tag)) => (&rest[..at + name.len()], Some(tag.to_owned())),
                None => (rest, None),
            };
            return Ok(NamedLocation::Layout { path: not_empty(path)?.into(), tag, digest });
        }
        for kind in ["docker-image://", "container-image://", "docker://"] {
            if let Some(rest) = text.strip_prefix(kind) {
                return Ok(NamedLocation::Image(not_empty(rest)?));
            }
        }
        if text == "-" {
            return Err(unknown("-"));
        }
        Ok(NamedLocation::Files(text.parse()?))
    }
}

/// Returns what stands before `://`, if something does that can be the name of a kind.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (!scheme.is_empty() && !scheme.starts_with('.') && scheme.bytes().all(word)).then_some(scheme)
}
