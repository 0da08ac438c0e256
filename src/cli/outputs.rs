//! Where the result of a build goes, besides the store.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::args::{Destination, OutputSpec};
use super::classify::FileLost;
use super::report::Failure;
use crate::build::{Builder, Built};
use crate::output::{self, ArchiveFormat, Location, files};
use crate::progress::{Event, Sink};

/// Writes what `spec` asks for.
pub(super) fn write(
    spec: &OutputSpec,
    builder: &mut Builder<'_>,
    built: &Built,
    tags: &[String],
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let image = &built.image;
    let what = match spec {
        OutputSpec::OciDir(dir) => {
            let location = Location::OciDir { path: dir.clone(), reference: None };
            output::export(image, builder.store, &location, tags, sink)?;
            location.to_string()
        }
        OutputSpec::OciArchive(Destination::File(file)) => {
            let location = Location::OciArchive { path: file.clone(), reference: None };
            output::export(image, builder.store, &location, tags, sink)?;
            location.to_string()
        }
        OutputSpec::DockerArchive(Destination::File(file)) => {
            let location = Location::DockerArchive { path: file.clone(), reference: None };
            output::export(image, builder.store, &location, tags, sink)?;
            location.to_string()
        }
        OutputSpec::OciArchive(Destination::Stdout) => {
            let mut out = BufWriter::new(io::stdout().lock());
            output::write_archive(image, builder.store, ArchiveFormat::Oci, tags, &mut out, sink)?;
            "standard output".into()
        }
        OutputSpec::DockerArchive(Destination::Stdout) => {
            let mut out = BufWriter::new(io::stdout().lock());
            output::write_archive(image, builder.store, ArchiveFormat::Docker, tags, &mut out, sink)?;
            "standard output".into()
        }
        OutputSpec::Local(dir) => {
            let view = builder.files(built)?;
            fs::create_dir_all(dir).map_err(|source| lost("create", dir, source))?;
            for warning in files::write_dir(&view, dir)? {
                sink.emit(Event::Warning { message: warning, line: None });
            }
            dir.display().to_string()
        }
        OutputSpec::Tar(Destination::File(file)) => {
            let view = builder.files(built)?;
            let dir = file.parent().unwrap_or(Path::new("/"));
            let mut archive = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(dir)
                .map_err(|source| lost("create", file, source))?;
            write_tar(&view, archive.as_file_mut())?;
            archive.persist(file).map_err(|error| lost("write", file, error.error))?;
            file.display().to_string()
        }
        OutputSpec::Tar(Destination::Stdout) => {
            let view = builder.files(built)?;
            write_tar(&view, &mut io::stdout().lock())?;
            "standard output".into()
        }
    };
    sink.emit(Event::Exported { what, digest: None });
    Ok(())
}

fn write_tar(view: &crate::store::View, out: &mut dyn Write) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    files::write_tar(view, &mut out)?;
    out.flush().map_err(|source| lost("write", Path::new("the archive"), source))?;
    Ok(())
}

fn lost(call: &'static str, path: &Path, source: io::Error) -> Failure {
    FileLost { call, path: path.display().to_string(), source }.into()
}
