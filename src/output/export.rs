use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use oci_spec::image::Descriptor;

use super::temp::TempFile;
use super::{Location, OutputError, docker_archive, oci_layout};
use crate::progress::{Event, Sink};
use crate::store::{Image, Store};

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// A tar of an OCI layout.
    Oci,
    /// What `docker save` writes: layers as plain tars.
    Docker,
}

/// Writes `image` to `location` and returns the descriptor that leads to it there.
///
/// It is named as `location` says, else by each of `names`, else not at all. A layout in a folder is added to; an archive
/// is replaced. Nothing is half-written: archives appear when they are complete, in a layout the index comes last.
/// A pipe or a device is written to directly.
///
/// # Errors
/// [`OutputError`]; then the location has what it had before, but perhaps blobs that no index leads to.
pub fn export(
    image: &Image,
    store: &Store,
    location: &Location,
    names: &[String],
    sink: &dyn Sink,
) -> Result<Descriptor, OutputError> {
    let own = location.reference().map(|reference| [reference.to_owned()]);
    let names = own.as_ref().map_or(names, |name| name.as_slice());
    match location {
        Location::OciDir { path, .. } => {
            check_names(names)?;
            oci_layout::export_dir(image, store, path, names, sink)?;
        }
        Location::OciArchive { path, .. } => {
            to_file(path, &mut |out| write_archive(image, store, ArchiveFormat::Oci, names, out, sink))?;
        }
        Location::DockerArchive { path, .. } => {
            to_file(path, &mut |out| write_archive(image, store, ArchiveFormat::Docker, names, out, sink))?;
        }
    }
    sink.emit(Event::Exported { what: location.to_string(), digest: Some(image.digest.to_string()) });
    Ok(image.descriptor())
}

/// Writes an archive with `image`, named by each of `names`, to `out`. The same image and names give the same bytes.
///
/// # Errors
/// [`OutputError`]; then what was written is no complete archive.
pub fn write_archive(
    image: &Image,
    store: &Store,
    format: ArchiveFormat,
    names: &[String],
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    match format {
        ArchiveFormat::Oci => {
            check_names(names)?;
            oci_layout::write_archive(image, store, names, out, sink)
        }
        ArchiveFormat::Docker => docker_archive::write_archive(image, store, names, out, sink),
    }
}

type WriteTo<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), OutputError>;

fn to_file(path: &Path, write: WriteTo<'_>) -> Result<(), OutputError> {
    let failed = |error| match error {
        OutputError::Stream(source) => OutputError::io("write", path, source),
        other => other,
    };
    // /dev/stdout, a pipe: nothing can take their place.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        let file = File::options().write(true).open(path).map_err(|source| OutputError::io("open", path, source))?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        return write(&mut out).map_err(failed);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = TempFile::create(dir).map_err(|error| match error {
        // The name for the time being means nothing to the user.
        OutputError::Io { source, .. } => OutputError::io("create", path, source),
        other => other,
    })?;
    let mut out = BufWriter::with_capacity(256 << 10, temp.file());
    write(&mut out).map_err(failed)?;
    out.flush().map_err(|source| OutputError::io("write", path, source))?;
    drop(out);
    temp.place(path)
}

/// Refuses names that no tool could read again.
fn check_names(names: &[String]) -> Result<(), OutputError> {
    match names.iter().find(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic())) {
        Some(name) => Err(OutputError::LayoutName { name: name.clone() }),
        None => Ok(()),
    }
}
