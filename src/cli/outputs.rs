//! Where the result of a build goes, besides the store.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::args::{Destination, DigestFiles, FilesOutput, FolderMode, OutputSpec};
use super::classify::{BuildProblem, FileLost, not_created};
use super::dress::Dresser;
use super::product::Product;
use super::report::Failure;
use super::request::{BuildRequest, UsageError};
use super::result::write_file;
use crate::build::{Builder, Times};
use crate::output::content::{self, Content, Destination as ContentTo, StoreOrigin};
use crate::output::files::{self, FileTimes, Others};
use crate::output::{self, ArchiveFormat, Location, OutputError};
use crate::progress::{Event, Sink};
use crate::store::{Store, View};
use crate::tree::{Tree, TreePath};

/// Checks that all that a build is to write has a folder to lie in: a build may take long, and fail for that at its end.
pub(super) fn check_folders(request: &BuildRequest) -> Result<(), Failure> {
    let outputs = request.outputs.iter().filter_map(|output| match output {
        // These make their folder.
        OutputSpec::OciDir(..) | OutputSpec::Local(..) | OutputSpec::Image(_) | OutputSpec::CacheOnly => None,
        OutputSpec::OciArchive(to, _) | OutputSpec::DockerArchive(to) | OutputSpec::Tar(to, _) => match to {
            Destination::File(file) => Some(file),
            Destination::Stdout => None,
        },
    });
    let DigestFiles { digest, name, name_and_tag, hex } = &request.digest_files;
    let small = [&request.iidfile, &request.metadata_file, digest, name, name_and_tag, hex];
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
    let times = match product.times {
        Times::Keep | Times::Image(_) => FileTimes::Keep,
        Times::Clamp(time) => FileTimes::AtMost(time),
        Times::Set(time) => FileTimes::All(time),
    };
    let what = match spec {
        // Written with the names, when all else is there.
        OutputSpec::Image(_) | OutputSpec::CacheOnly => return Ok(()),
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
        OutputSpec::Local(dir, spec) => {
            let views = views(builder, product, spec)?;
            let others = match &spec.mode {
                FolderMode::Merge => Others::Stay,
                FolderMode::Delete(within) => {
                    fs::create_dir_all(dir).map_err(|source| lost("create", dir, source))?;
                    let (real, within) = (real(dir)?, real(within)?);
                    // A link may lead anywhere.
                    if real == within || !real.starts_with(&within) {
                        return Err(UsageError::DeleteOutside { path: dir.clone() }.into());
                    }
                    Others::Go
                }
            };
            fs::create_dir_all(dir).map_err(|source| lost("create", dir, source))?;
            for ((_, view), notes) in views.iter().zip(&product.notes) {
                check_notes(view, notes)?;
            }
            for warning in files::write_folder(&views, &product.notes, (times, others), dir)? {
                sink.emit(Event::Warning { message: warning, line: None });
            }
            for ((folder, _), notes) in views.iter().zip(&product.notes) {
                let dir = folder.as_ref().map_or_else(|| dir.clone(), |folder| dir.join(folder));
                notes.iter().try_for_each(|(name, bytes)| write_file(&dir.join(name), bytes))?;
            }
            dir.display().to_string()
        }
        OutputSpec::Tar(Destination::File(file), spec) => {
            let views = views(builder, product, spec)?;
            if let Some(device) = output::in_place(file) {
                write_tar(&views, (product, times), &mut device.map_err(|source| lost("open", file, source))?)?;
                sink.emit(Event::Exported { what: file.display().to_string(), digest: None });
                return Ok(());
            }
            let dir = file.parent().unwrap_or(Path::new("/"));
            let mut archive = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(dir)
                .map_err(|source| lost("create", file, not_created(dir, &source)))?;
            write_tar(&views, (product, times), archive.as_file_mut())?;
            archive.persist(file).map_err(|error| lost("write", file, error.error))?;
            file.display().to_string()
        }
        OutputSpec::Tar(Destination::Stdout, spec) => {
            let views = views(builder, product, spec)?;
            write_tar(&views, (product, times), &mut io::stdout().lock())?;
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
fn views(
    builder: &mut Builder<'_>,
    product: &Product,
    spec: &FilesOutput,
) -> Result<Vec<(Option<String>, View)>, Failure> {
    product.folders(spec.split).map(|(folder, built)| Ok((folder, builder.files(built)?))).collect()
}

fn real(path: &Path) -> Result<std::path::PathBuf, Failure> {
    path.canonicalize().map_err(|source| lost("resolve", path, source))
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

fn write_tar(
    views: &[(Option<String>, View)],
    (product, times): (&Product, FileTimes),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    for ((_, view), notes) in views.iter().zip(&product.notes) {
        check_notes(view, notes)?;
    }
    files::write_tar(views, &product.notes, times, &mut out)?;
    out.flush().map_err(|source| lost("write", Path::new("the archive"), source))?;
    Ok(())
}

fn lost(call: &'static str, path: &Path, source: io::Error) -> Failure {
    FileLost { call, path: path.display().to_string(), source }.into()
}
