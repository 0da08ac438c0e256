use std::path::Path;

use super::archive::Archive;
use super::content::Origin;
use super::docker_archive::{self, DockerOrigin};
use super::oci_layout::{self, LayoutOrigin};
use super::source::{Dir, Source};
use super::{Location, OutputError, dir};

/// An image that a [`Place`] has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What [`Place::origin`] knows it by.
    pub reference: String,
    /// Its names in full: registry, repository and tag.
    pub names: Vec<String>,
}

/// A folder or a file with images, opened.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    reference: Option<String>,
}

#[derive(Debug)]
enum Kind {
    LayoutDir(Dir),
    LayoutArchive(Archive),
    DockerArchive(Archive),
    Dir(Dir),
}

impl Place {
    /// Opens the folder or file of `location`. `scratch` is a folder for what a compressed archive is unpacked to.
    ///
    /// # Errors
    /// [`OutputError`] where it cannot be read, and for a registry, which is no place of files.
    pub fn open(location: &Location, scratch: &Path) -> Result<Self, OutputError> {
        let kind = match location {
            Location::OciDir { path, .. } => Kind::LayoutDir(Dir::open(path)?),
            Location::OciArchive { path, .. } => Kind::LayoutArchive(Archive::open(path, scratch)?),
            Location::DockerArchive { path, .. } => Kind::DockerArchive(Archive::open(path, scratch)?),
            Location::Dir { path } => Kind::Dir(Dir::open(path)?),
            Location::Registry(_) => return Err(OutputError::NoRegistry { place: location.to_string() }),
        };
        Ok(Place { kind, reference: location.reference().map(str::to_owned) })
    }

    /// Opens the folder or file `path`, whatever of these it is. What is both a layout and an archive of docker is read as a
    /// layout, which keeps digests.
    ///
    /// # Errors
    /// [`OutputError`] where it cannot be read, or is nothing of the kind.
    pub fn detect(path: &Path, scratch: &Path) -> Result<Self, OutputError> {
        let is_dir = std::fs::metadata(path).map_err(|source| OutputError::io("open", path, source))?.is_dir();
        let kind = if is_dir {
            let dir = Dir::open(path)?;
            if dir.open("oci-layout")?.is_some() { Kind::LayoutDir(dir) } else { Kind::Dir(dir) }
        } else {
            let archive = Archive::open(path, scratch)?;
            let is_layout = archive.open("oci-layout")?.is_some() && archive.open("index.json")?.is_some();
            if is_layout { Kind::LayoutArchive(archive) } else { Kind::DockerArchive(archive) }
        };
        Ok(Place { kind, reference: None })
    }

    /// Returns the images that are here.
    ///
    /// # Errors
    /// [`OutputError`] where that cannot be read.
    pub fn images(&self) -> Result<Vec<Listed>, OutputError> {
        let found = match &self.kind {
            Kind::LayoutDir(dir) => oci_layout::list(dir)?,
            Kind::LayoutArchive(archive) => oci_layout::list(archive)?,
            Kind::DockerArchive(archive) => docker_archive::list(archive)?,
            Kind::Dir(_) => vec![(String::new(), Vec::new())],
        };
        Ok(found.into_iter().map(|(reference, names)| Listed { reference, names }).collect())
    }

    /// Returns the image that `reference` means; without one, that of the location, or the only one.
    ///
    /// # Errors
    /// [`OutputError`] where there is none, or more than one.
    pub fn origin(&self, reference: Option<&str>) -> Result<Box<dyn Origin + '_>, OutputError> {
        let reference = reference.map(str::to_owned).or_else(|| self.reference.clone());
        Ok(match &self.kind {
            Kind::LayoutDir(source) => Box::new(LayoutOrigin { source, reference }),
            Kind::LayoutArchive(source) => Box::new(LayoutOrigin { source, reference }),
            Kind::DockerArchive(archive) => Box::new(DockerOrigin::open(archive, reference.as_deref())?),
            Kind::Dir(dir) => Box::new(dir::DirOrigin(dir)),
        })
    }
}
