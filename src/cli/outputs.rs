//! Where the result of a build goes, besides the store.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::args::{Destination, DigestFiles, OutputSpec};
use super::classify::{BuildProblem, FileLost, not_created};
use super::dress::Dresser;
use super::product::Product;
use super::report::Failure;
use super::request::BuildRequest;
use super::result::write_file;
use crate::build::Builder;
use crate::output::content::{self, Content, Destination as ContentTo, StoreOrigin};
use crate::output::{self, ArchiveFormat, Location, OutputError, files};
use crate::progress::{Event, Sink};
use crate::store::{Store, View};
use crate::tree::{Tree, TreePath};

/// Checks that all that a build is to write has a folder to lie in: a build may take long, and fail for that at its end.
pub(super) fn check_folders(request: &BuildRequest) -> Result<(), Failure> {
    let outputs = request.outputs.iter().filter_map(|output| match output {
        // These make their folder.
        OutputSpec::OciDir(..) | OutputSpec::Local(_) | OutputSpec::Image(_) => None,
        OutputSpec::OciArchive(to, _) | OutputSpec::DockerArchive(to) | OutputSpec::Tar(to) => match to {
            Destination::File(file) => Some(file),
            Destination::Stdout => None,
        },
    });
    let DigestFiles { digest, name, name_and_tag } = &request.digest_files;
    let small = [&request.iidfile, &request.metadata_file, digest, name, name_and_tag];
    for file in outputs.chain(small.into_iter().flatten()) {
        let dir = file.parent().unwrap_or(Path::new("/"));
        if !dir.is_dir() {
            return Err(BuildProblem::NoFolder { file: file.clone(), dir: dir.to_path_buf() }.into());
        }
    }
    Ok(())
}

/// Writes what `spec` asks for.
pub(super) fn write(
    spec: &OutputSpec,
    builder: &mut Builder<'_>,
    (product, dresser): (&Product, &Dresser<'_>),
    tags: &[String],
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let content = &product.content;
    let what = match spec {
        // Written with the names, when all else is there.
        OutputSpec::Image(_) => return Ok(()),
        OutputSpec::OciDir(dir, look) => {
            let to = Location::OciDir { path: dir.clone(), reference: None };
            return export(&dresser.content(&product.built, look)?, builder.store, to, tags, sink);
        }
        OutputSpec::OciArchive(Destination::File(file), look) => {
            let to = Location::OciArchive { path: file.clone(), reference: None };
            return export(&dresser.content(&product.built, look)?, builder.store, to, tags, sink);
        }
        OutputSpec::DockerArchive(Destination::File(file)) => {
            let to = Location::DockerArchive { path: file.clone(), reference: None };
            return export(content, builder.store, to, tags, sink);
        }
        OutputSpec::OciArchive(Destination::Stdout, look) => {
            let mut out = BufWriter::new(io::stdout().lock());
            let content = dresser.content(&product.built, look)?;
            write_archive(&content, builder.store, ArchiveFormat::Oci, tags, &mut out, sink)?;
            "standard output".into()
        }
        OutputSpec::DockerArchive(Destination::Stdout) => {
            let mut out = BufWriter::new(io::stdout().lock());
            write_archive(content, builder.store, ArchiveFormat::Docker, tags, &mut out, sink)?;
            "standard output".into()
        }
        OutputSpec::Local(dir) => {
            for ((folder, built), notes) in product.folders().zip(&product.notes) {
                let view = builder.files(built)?;
                let dir = folder.map_or_else(|| dir.clone(), |folder| dir.join(folder));
                fs::create_dir_all(&dir).map_err(|source| lost("create", &dir, source))?;
                check_notes(&view, notes)?;
                for warning in files::write_dir(&view, &dir)? {
                    sink.emit(Event::Warning { message: warning, line: None });
                }
                notes.iter().try_for_each(|(name, bytes)| write_file(&dir.join(name), bytes))?;
            }
            dir.display().to_string()
        }
        OutputSpec::Tar(Destination::File(file)) => {
            let views = views(builder, product)?;
            let dir = file.parent().unwrap_or(Path::new("/"));
            let mut archive = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(dir)
                .map_err(|source| lost("create", file, not_created(dir, &source)))?;
            write_tar(&views, product, archive.as_file_mut())?;
            archive.persist(file).map_err(|error| lost("write", file, error.error))?;
            file.display().to_string()
        }
        OutputSpec::Tar(Destination::Stdout) => {
            let views = views(builder, product)?;
            write_tar(&views, product, &mut io::stdout().lock())?;
            "standard output".into()
        }
    };
    sink.emit(Event::Exported { what, digest: None });
    Ok(())
}

/// It says itself what it has written.
fn export(content: &Content, store: &Store, to: Location, tags: &[String], sink: &dyn Sink) -> Result<(), Failure> {
    let to = ContentTo::Place { location: &to, scratch: &store.tmp() };
    Ok(content::write(content, &StoreOrigin(store), to, tags, sink)?)
}

fn write_archive(
    content: &Content,
    store: &Store,
    format: ArchiveFormat,
    tags: &[String],
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let contents = [(content, tags.to_vec())];
    Ok(output::write_archives(&contents, &StoreOrigin(store), format, &store.tmp(), out, sink)?)
}

/// Returns the files of each image, with the folder in which they are.
fn views(builder: &mut Builder<'_>, product: &Product) -> Result<Vec<(Option<String>, View)>, Failure> {
    product.folders().map(|(folder, built)| Ok((folder, builder.files(built)?))).collect()
}

/// What is said about an image must not stand in the place of one of its files.
fn check_notes(view: &View, notes: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    for (name, _) in notes {
        if view.lookup(&TreePath::root().child(name.as_bytes())).map_err(OutputError::from)?.is_some() {
            return Err(BuildProblem::NoteInTheWay { name: name.clone() }.into());
        }
    }
    Ok(())
}

fn write_tar(views: &[(Option<String>, View)], product: &Product, out: &mut dyn Write) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    for ((_, view), notes) in views.iter().zip(&product.notes) {
        check_notes(view, notes)?;
    }
    files::write_tar(views, &product.notes, &mut out)?;
    out.flush().map_err(|source| lost("write", Path::new("the archive"), source))?;
    Ok(())
}

fn lost(call: &'static str, path: &Path, source: io::Error) -> Failure {
    FileLost { call, path: path.display().to_string(), source }.into()
}
