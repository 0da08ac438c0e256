use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use oci_spec::image::Descriptor;

use super::content::{self, Content, Destination, Origin, StoreOrigin, check_names};
use super::out::{BUFFER, FileOut, Out, Streamed};
use super::temp::TempFile;
use super::{Location, OutputError, docker_archive, oci_layout};
use crate::progress::Sink;
use crate::store::{Image, Store};

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// A tar of an OCI layout.
    Oci,
    /// What `docker save` wrote before version 25: layers as plain tars, and no manifest.
    Docker,
    /// What `docker save` writes since: a tar of an OCI layout in which docker's manifest.json is, too. Digests stay.
    Both,
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
    let content = Content::of_image(image);
    let to = Destination::Place { location, scratch: &store.tmp() };
    content::write(&content, &StoreOrigin(store), to, names, sink)?;
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
    let content = Content::of_image(image);
    write_archives(&[(&content, names.to_vec())], &StoreOrigin(store), format, &store.tmp(), out, sink)
}

/// Writes an archive with several images, each under its names, to a stream. Compressed layers are unpacked in the folder `scratch` on
/// their way into an archive of docker: it says the length of each before its content.
///
/// # Errors
/// As [`write_archive`].
pub fn write_archives(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    format: ArchiveFormat,
    scratch: &Path,
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    write_archives_to(contents, from, format, scratch, &mut Streamed(out), sink)
}

/// As [`write_archives`], to a stream or a file.
pub(super) fn write_archives_to(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    format: ArchiveFormat,
    scratch: &Path,
    out: &mut dyn Out,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    match format {
        ArchiveFormat::Oci => {
            contents.iter().try_for_each(|(_, names)| check_names(names))?;
            oci_layout::write_archive(contents, from, None, out, sink)
        }
        ArchiveFormat::Both => {
            contents.iter().try_for_each(|(_, names)| check_names(names))?;
            let manifest = docker_archive::manifest_in_layout(contents)?;
            oci_layout::write_archive(contents, from, Some(&manifest), out, sink)
        }
        ArchiveFormat::Docker => docker_archive::write_archive(contents, from, scratch, out, sink),
    }
}

/// Replaces the file at `path` by what `write` writes: it appears there when it is complete and on the disk. A pipe or a device is
/// written to directly.
///
/// # Errors
/// [`OutputError`]; then what was there before still is.
pub fn replace_file(
    path: &Path,
    write: &mut dyn FnMut(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), OutputError> {
    to_file(path, &mut |mut out| write(&mut out).map_err(OutputError::Stream))
}

pub(super) type WriteTo<'a> = &'a mut dyn FnMut(&mut dyn Out) -> Result<(), OutputError>;

pub(super) fn to_file(path: &Path, write: WriteTo<'_>) -> Result<(), OutputError> {
    let failed = |error| match error {
        OutputError::Stream(source) => OutputError::io("write", path, source),
        other => other,
    };
    if let Some(file) = in_place(path) {
        let file = file.map_err(|source| OutputError::io("open", path, source))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        write(&mut Streamed(&mut out)).map_err(failed)?;
        return out.flush().map_err(|source| OutputError::io("write", path, source));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = TempFile::create(dir).map_err(|error| match error {
        // The name for the time being means nothing to the user.
        OutputError::Io { source, .. } => OutputError::io("create", path, source),
        other => other,
    })?;
    let mut out = FileOut::new(temp.file());
    write(&mut out).map_err(failed)?;
    out.flush().map_err(|source| OutputError::io("write", path, source))?;
    drop(out);
    temp.place(path)
}

/// Opens `path` to be written to where nothing can take its place: a device, a pipe, or a name that the system has for an open file, as
/// /dev/stdout. `None` for all others.
pub fn in_place(path: &Path) -> Option<io::Result<File>> {
    let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    let is_of_system = path.starts_with("/dev") && !path.starts_with("/dev/shm") || path.starts_with("/proc");
    (is_special || is_of_system).then(|| File::options().write(true).create(true).truncate(true).open(path))
}
