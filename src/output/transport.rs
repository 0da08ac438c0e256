use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::oci::Reference;

/// Prefixes that are transports elsewhere (containers/image), and may come here later.
const LATER: [&str; 9] =
    ["docker", "docker-daemon", "containers-storage", "dir", "ostree", "sif", "tarball", "atomic", "oci-layout"];

/// Where an image lies outside the store, as skopeo and buildah write it.
///
/// The path ends at the first colon; all behind that names the image.
///
/// ```
/// use coracle::output::Location;
/// let location: Location = "oci:/srv/sdk:mcr.microsoft.com/dotnet/core/sdk:3.0-alpine".parse()?;
/// assert_eq!(location.path(), std::path::Path::new("/srv/sdk"));
/// assert_eq!(location.reference(), Some("mcr.microsoft.com/dotnet/core/sdk:3.0-alpine"));
/// # Ok::<(), coracle::output::LocationError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// `oci:DIR[:REF]`: a folder that is an OCI layout.
    OciDir {
        /// The folder.
        path: PathBuf,
        /// Which image in it.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: a tar of an OCI layout.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// Which image in it.
        reference: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: a tar as `docker save` writes it.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Which image in it.
        reference: Option<String>,
    },
}

/// A text is not a [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// There is no transport in front.
    #[error("{text:?} does not say what it is: write oci:DIR, oci-archive:FILE or docker-archive:FILE")]
    NoTransport {
        /// The text.
        text: String,
    },
    /// The name of an image, without a transport: it would be in a registry.
    #[error("{text:?}: registries are not supported yet; write oci:DIR, oci-archive:FILE or docker-archive:FILE")]
    Registry {
        /// The name.
        text: String,
    },
    /// A transport that other tools know.
    #[error("transport {transport:?} is not supported yet (only oci, oci-archive and docker-archive are)")]
    Unsupported {
        /// The transport.
        transport: String,
    },
    /// There is no path behind the transport.
    #[error("{text:?} has no path")]
    NoPath {
        /// The text.
        text: String,
    },
}

impl Location {
    /// Returns whether `text` begins with a transport, supported or not, and so is not the name of an image.
    pub fn has_transport(text: &str) -> bool {
        text.split_once(':').is_some_and(|(transport, rest)| match transport {
            "oci" | "oci-archive" | "docker-archive" => true,
            // "dir:latest" may be an image; a path is not a tag.
            later => LATER.contains(&later) && rest.contains('/'),
        })
    }

    /// Returns the folder or file.
    pub fn path(&self) -> &Path {
        match self {
            Location::OciDir { path, .. }
            | Location::OciArchive { path, .. }
            | Location::DockerArchive { path, .. } => path,
        }
    }

    /// Returns the folder or file, to change it.
    pub fn path_mut(&mut self) -> &mut PathBuf {
        match self {
            Location::OciDir { path, .. }
            | Location::OciArchive { path, .. }
            | Location::DockerArchive { path, .. } => path,
        }
    }

    /// Returns which image in it is meant.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Location::OciDir { reference, .. }
            | Location::OciArchive { reference, .. }
            | Location::DockerArchive { reference, .. } => reference.as_deref(),
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let cut = || text.chars().take(200).collect();
        // "./a" and "/a" are files, whatever is in them.
        let no_transport = || match Reference::parse(text) {
            Ok(_) => LocationError::Registry { text: cut() },
            Err(_) => LocationError::NoTransport { text: cut() },
        };
        let (transport, rest) = text.split_once(':').ok_or_else(no_transport)?;
        if LATER.contains(&transport) {
            return Err(LocationError::Unsupported { transport: transport.into() });
        }
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) => (path, Some(reference).filter(|text| !text.is_empty())),
            None => (rest, None),
        };
        let (path, reference) = (PathBuf::from(path), reference.map(str::to_owned));
        let location = match transport {
            "oci" => Location::OciDir { path, reference },
            "oci-archive" => Location::OciArchive { path, reference },
            "docker-archive" => Location::DockerArchive { path, reference },
            _ => return Err(no_transport()),
        };
        if location.path().as_os_str().is_empty() {
            return Err(LocationError::NoPath { text: cut() });
        }
        Ok(location)
    }
}

impl fmt::Display for Location {
    /// Writes the location as it is parsed; control characters in it are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self {
            Location::OciDir { .. } => "oci",
            Location::OciArchive { .. } => "oci-archive",
            Location::DockerArchive { .. } => "docker-archive",
        };
        let path = self.path().to_string_lossy();
        let reference = self.reference().map(|reference| format!(":{reference}")).unwrap_or_default();
        for c in format!("{transport}:{path}{reference}").chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_ends_at_the_first_colon() {
        for (text, path, reference) in [
            ("oci:out", "out", None),
            (
                "oci:/tmp/fx/sdk:mcr.microsoft.com/sdk:3.0-alpine",
                "/tmp/fx/sdk",
                Some("mcr.microsoft.com/sdk:3.0-alpine"),
            ),
            ("oci-archive:a.tar:latest", "a.tar", Some("latest")),
            ("docker-archive:../a b.tar", "../a b.tar", None),
            ("oci:out:", "out", None),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!((location.path(), location.reference()), (Path::new(path), reference), "{text}");
            assert!(Location::has_transport(text));
        }
        assert_eq!("oci:a:b:c".parse::<Location>().unwrap().to_string(), "oci:a:b:c");
    }

    #[test]
    fn what_is_not_a_location_is_told_why() {
        for (text, says) in [
            ("docker://busybox", "transport \"docker\" is not supported yet"),
            ("dir:/tmp/x", "transport \"dir\" is not supported yet"),
            ("containers-storage:x", "is not supported yet"),
            ("busybox", "registries are not supported yet"),
            ("busybox:1", "registries are not supported yet"),
            ("registry.example.com/x", "registries are not supported yet"),
            ("/tmp/x", "does not say what it is"),
            ("oci:", "has no path"),
            ("oci::latest", "has no path"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Location::has_transport("docker://busybox") && !Location::has_transport("docker:dind"));
        assert!(!Location::has_transport("busybox:1") && !Location::has_transport("quay.io/a/b"));
    }
}
