use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::oci::{Reference, ReferenceError};

/// Transports of other tools (containers/image) that are refused, and what to do.
const OTHERS: [(&str, &str); 8] = [
    (
        "containers-storage",
        "it is podman's and buildah's own store: write the image out with `podman save --format oci-archive`",
    ),
    (
        "docker-daemon",
        "coracle talks to no daemon: write the image out with `docker save`, and name it docker-archive:FILE",
    ),
    ("ostree", "no tool of today writes it"),
    ("sif", "it is a format of apptainer, without an image configuration"),
    ("tarball", "a tar of files is no image: `FROM scratch` and ADD make one of it"),
    ("atomic", "name the registry: docker://HOST/NAME"),
    ("oci-layout", "write oci:DIR"),
    ("docker-image", "write docker://NAME"),
];

/// Where an image lies outside the store, as skopeo and buildah write it.
///
/// The path ends at the first colon; all behind that names the image. A name without a transport is in a registry, as with
/// `docker://` in front.
///
/// ```
/// use coracle::output::Location;
/// let location: Location = "oci:/srv/sdk:mcr.microsoft.com/dotnet/core/sdk:3.0-alpine".parse()?;
/// assert_eq!(location.path(), Some(std::path::Path::new("/srv/sdk")));
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
        /// Which image in it: a name, or `@` and its number, from 0.
        reference: Option<String>,
    },
    /// `dir:DIR`: a folder with the manifest and the blobs of one image, as skopeo writes it.
    Dir {
        /// The folder.
        path: PathBuf,
    },
    /// `docker://NAME`, or a name alone: in a registry.
    Registry(Reference),
}

/// A text is not a [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// It is neither a transport and a place, nor the name of an image.
    #[error("{text:?} is neither the name of an image nor a place: write {FORMS}")]
    NoTransport {
        /// The text.
        text: String,
        /// Why it is no name.
        #[source]
        source: ReferenceError,
    },
    /// What stands behind `docker://` is no name.
    #[error("{text:?} is not the name of an image in a registry")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A transport that other tools know.
    #[error("transport {transport:?} is not supported: {instead}")]
    Unsupported {
        /// The transport.
        transport: String,
        /// What to do in its place.
        instead: &'static str,
    },
    /// There is no path behind the transport.
    #[error("{text:?} has no path")]
    NoPath {
        /// The text.
        text: String,
    },
    /// `dir:` holds one image without a name.
    #[error("{text:?}: there is one image in a folder of dir:, it has no name behind a colon")]
    DirName {
        /// The text.
        text: String,
    },
}

/// The forms of a location.
const FORMS: &str = "docker://NAME, oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or dir:DIR";

impl Location {
    /// Returns whether `text` begins with a transport, supported or not, and so is not the name of an image alone.
    pub fn has_transport(text: &str) -> bool {
        text.split_once(':').is_some_and(|(transport, rest)| match transport {
            "oci" | "oci-archive" | "docker-archive" | "dir" => true,
            "docker" => rest.starts_with("//"),
            "containers-storage" | "docker-daemon" => true,
            // "sif:latest" may be an image; a path is not a tag.
            other => OTHERS.iter().any(|(known, _)| *known == other) && rest.contains('/'),
        })
    }

    /// Returns the folder or file; `None` for a registry.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Location::OciDir { path, .. }
            | Location::OciArchive { path, .. }
            | Location::DockerArchive { path, .. }
            | Location::Dir { path } => Some(path),
            Location::Registry(_) => None,
        }
    }

    /// Returns the folder or file, to change it; `None` for a registry.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Location::OciDir { path, .. }
            | Location::OciArchive { path, .. }
            | Location::DockerArchive { path, .. }
            | Location::Dir { path } => Some(path),
            Location::Registry(_) => None,
        }
    }

    /// Returns which image in the folder or file is meant.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Location::OciDir { reference, .. }
            | Location::OciArchive { reference, .. }
            | Location::DockerArchive { reference, .. } => reference.as_deref(),
            Location::Dir { .. } | Location::Registry(_) => None,
        }
    }

    /// Returns the name in a registry.
    pub fn registry(&self) -> Option<&Reference> {
        match self {
            Location::Registry(name) => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let cut = || text.chars().take(200).collect();
        if let Some(name) = text.strip_prefix("docker://") {
            return match Reference::parse(name) {
                Ok(name) => Ok(Location::Registry(name)),
                Err(source) => Err(LocationError::Name { text: cut(), source }),
            };
        }
        let place = text.split_once(':').filter(|_| Location::has_transport(text));
        let Some((transport, rest)) = place else {
            // "./a" and "/a" are files, whatever is in them.
            return match Reference::parse(text) {
                Ok(name) => Ok(Location::Registry(name)),
                Err(source) => Err(LocationError::NoTransport { text: cut(), source }),
            };
        };
        if let Some((transport, instead)) = OTHERS.iter().find(|(known, _)| *known == transport) {
            return Err(LocationError::Unsupported { transport: (*transport).into(), instead });
        }
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) => (path, Some(reference).filter(|text| !text.is_empty())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(LocationError::NoPath { text: cut() });
        }
        let (path, reference) = (PathBuf::from(path), reference.map(str::to_owned));
        match (transport, reference) {
            ("oci", reference) => Ok(Location::OciDir { path, reference }),
            ("oci-archive", reference) => Ok(Location::OciArchive { path, reference }),
            ("docker-archive", reference) => Ok(Location::DockerArchive { path, reference }),
            (_, None) => Ok(Location::Dir { path }),
            (_, Some(_)) => Err(LocationError::DirName { text: cut() }),
        }
    }
}

impl fmt::Display for Location {
    /// Writes the location as it is parsed; control characters in it are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self {
            Location::OciDir { .. } => "oci",
            Location::OciArchive { .. } => "oci-archive",
            Location::DockerArchive { .. } => "docker-archive",
            Location::Dir { .. } => "dir",
            Location::Registry(name) => return write!(f, "docker://{name}"),
        };
        let path = self.path().map(Path::to_string_lossy).unwrap_or_default();
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
            ("dir:/tmp/x", "/tmp/x", None),
            ("dir:x", "x", None),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!((location.path(), location.reference()), (Some(Path::new(path)), reference), "{text}");
            assert!(Location::has_transport(text));
        }
        assert_eq!("oci:a:b:c".parse::<Location>().unwrap().to_string(), "oci:a:b:c");
    }

    #[test]
    fn what_is_not_a_location_is_told_why() {
        for (text, says) in [
            ("docker://Upper", "is not the name of an image in a registry"),
            ("containers-storage:x", "podman save"),
            ("docker-daemon:x:1", "docker save"),
            ("ostree:x@/y", "is not supported"),
            ("/tmp/x", "neither the name of an image nor a place"),
            ("oci:", "has no path"),
            ("oci::latest", "has no path"),
            ("dir:/tmp/x:1", "it has no name behind a colon"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        for (text, name) in [
            ("busybox", "docker://docker.io/library/busybox:latest"),
            ("docker://registry.example.com:5000/x:1", "docker://registry.example.com:5000/x:1"),
            ("sif:latest", "docker://docker.io/library/sif:latest"),
            ("docker:dind", "docker://docker.io/library/docker:dind"),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!((location.to_string().as_str(), location.path()), (name, None), "{text}");
        }
        assert!(Location::has_transport("docker://busybox") && !Location::has_transport("docker:dind"));
        assert!(!Location::has_transport("busybox:1") && !Location::has_transport("quay.io/a/b"));
    }
}
