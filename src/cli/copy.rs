//! `coracle copy`, `save` and `load`: images from one place to another, as they are.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::args::{ArchiveName, Named, is_stdout};
use super::classify::{FileLost, ImageProblem};
use super::named::{Opened, check_whole, in_store};
use super::progress::{Mode, Progress};
use super::registry::{LazyClient, push_content};
use super::report::{Failure, Style};
use super::request::{CopyRequest, LoadRequest, SaveRequest};
use super::{names, print};
use crate::net::Cancel;
use crate::oci::{Digest, Reference, digest_of};
use crate::output::content::{
    Content, Destination, InStore, Origin, Selection, StoreOrigin, Top, convert, copy as transfer, write_archive_file,
};
use crate::output::{ArchiveFormat, Location, OutputError, Place, write_archives};
use crate::progress::{Event, Sink};
use crate::registry::{Client, RegistryError, Remote};
use crate::store::Store;

/// Copies an image or an index.
pub(super) fn copy(request: &CopyRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let progress = Progress::new(if request.quiet { Mode::Quiet } else { mode }, style);
    let result = copy_image(request, &progress);
    progress.finish();
    let digest = result?;
    if let Some(file) = &request.digestfile {
        let lost = |source| FileLost { call: "write", path: file.display().to_string(), source };
        std::fs::write(file, &digest).map_err(lost)?;
    }
    let is_taken = matches!(&request.destination, Named::Place(place) if place.path().is_some_and(is_stdout));
    if is_taken { Ok(()) } else { print(&format!("{digest}\n")) }.map(|()| ExitCode::SUCCESS)
}

fn copy_image(request: &CopyRequest, sink: &dyn Sink) -> Result<String, Failure> {
    let new = match &request.destination {
        Named::Store(name) => Some(names::normalise(name)?),
        Named::Place(_) => None,
    };
    // Only to write into it the store must be writable.
    let store = if new.is_some() { Store::open(&request.root)? } else { Store::open_read(&request.root)? };
    let scratch = if new.is_some() { store.tmp() } else { request.temp.clone() };
    let client = LazyClient::new(&request.registry, Cancel::default());
    let opened = Opened::new(&request.source, &store, &scratch, &client)?;
    if let (Opened::Store(image), Selection::All) = (&opened, &request.selection) {
        check_whole(image)?;
    }
    let origin = opened.origin()?;
    let known = origin.top()?.names;
    if let Named::Place(Location::Registry(name)) = &request.destination {
        let content = Content::gather(origin.as_ref(), &origin.top()?, &request.selection)?;
        let content = match request.form {
            Some(form) => convert(content, form)?,
            None => content,
        };
        push_content(&content, origin.as_ref(), &store, client.get()?, name, sink)?;
        if let (true, Opened::Remote(remote, _)) = (request.referrers, &opened) {
            let mut referrers =
                Referrers { remote, origin: origin.as_ref(), store: &store, to: name, seen: HashSet::new() };
            referrers.copy(&content, client.get()?, sink, 0)?;
        }
        return Ok(content.digest().to_string());
    }
    let (to, names) = match &request.destination {
        Named::Store(_) => (Destination::Store(&store), &[][..]),
        Named::Place(location) => (Destination::Place { location, scratch: &scratch }, known.as_slice()),
    };
    let (content, _) = transfer(origin.as_ref(), &request.selection, request.form, to, names, sink)?;
    if let Some(name) = new {
        store.tag(std::slice::from_ref(&name), &content.top)?;
        sink.emit(Event::Exported { what: name, digest: Some(content.digest().to_string()) });
    }
    Ok(content.digest().to_string())
}

/// What is copied at the most because it refers to one image or to what refers to it.
const MAX_REFERRERS: usize = 10_000;

/// Levels of what refers to what refers to an image.
const MAX_DEPTH: usize = 8;

/// What refers to images, on its way from one registry to another.
struct Referrers<'a> {
    remote: &'a Remote,
    origin: &'a dyn Origin,
    store: &'a Store,
    to: &'a Reference,
    seen: HashSet<Digest>,
}

impl Referrers<'_> {
    /// Copies what refers to the manifests of `content`, and what refers to that.
    fn copy(&mut self, content: &Content, client: &Client, sink: &dyn Sink, depth: usize) -> Result<(), Failure> {
        if depth == MAX_DEPTH {
            return Ok(());
        }
        for (subject, _) in &content.documents {
            let subject = digest_of(subject).map_err(OutputError::from)?;
            for referrer in self.remote.repository.referrers(&subject, None).map_err(OutputError::from)? {
                let digest = digest_of(&referrer).map_err(OutputError::from)?;
                if !self.seen.insert(digest) {
                    continue;
                }
                if self.seen.len() > MAX_REFERRERS {
                    let reason = format!("more than {MAX_REFERRERS} manifests refer to this image, directly or not");
                    let registry = self.remote.repository.name();
                    return Err(OutputError::from(RegistryError::Protocol { registry, reason }).into());
                }
                let top = Top { starts: vec![referrer], names: Vec::new() };
                let content = Content::gather(self.origin, &top, &Selection::All)?;
                let name = Reference::parse(&format!("{}@{digest}", self.to.name()))?;
                push_content(&content, self.origin, self.store, client, &name, sink)?;
                self.copy(&content, client, sink, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Writes images into an archive.
pub(super) fn save(request: &SaveRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let progress = Progress::new(if request.quiet { Mode::Quiet } else { mode }, style);
    let result = write_archive(request, &store, &progress);
    progress.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn write_archive(request: &SaveRequest, store: &Store, sink: &dyn Sink) -> Result<(), Failure> {
    let mut contents: Vec<(Content, Vec<String>)> = Vec::new();
    for name in &request.names {
        let image: InStore<'_> = in_store(store, name)?;
        if request.selection == Selection::All {
            check_whole(&image)?;
        }
        let content = Content::gather(&image, &image.top()?, &request.selection)?;
        let own: Vec<String> = image.name.into_iter().collect();
        match contents.iter_mut().find(|(known, _)| known.digest() == content.digest()) {
            // One that is given twice, short and in full, is one.
            Some((_, names)) => names.extend(own.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>()),
            None => contents.push((content, own)),
        }
    }
    let contents: Vec<(&Content, Vec<String>)> =
        contents.iter().map(|(content, names)| (content, names.clone())).collect();
    let origin = StoreOrigin(store);
    let format = match (request.format, &request.selection) {
        (Some(ArchiveName::DockerArchive), _) => ArchiveFormat::Docker,
        // An index has no place in the manifest of docker.
        (Some(ArchiveName::OciArchive), _) | (None, Selection::All) => ArchiveFormat::Oci,
        (None, _) => ArchiveFormat::Both,
    };
    match &request.output {
        Some(path) => write_archive_file(&contents, &origin, (format, path), &request.temp, sink)?,
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            write_archives(&contents, &origin, format, &request.temp, &mut out, sink)?;
            let lost = |source| FileLost { call: "write", path: "standard output".into(), source };
            out.flush().map_err(lost)?;
        }
    }
    Ok(())
}

/// Brings all images of an archive or a folder in.
pub(super) fn load(request: &LoadRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let progress = Progress::new(if request.quiet { Mode::Quiet } else { mode }, style);
    let result = match &request.input {
        Some(path) => load_from(path, &request.selection, &store, &progress),
        None if io::stdin().is_terminal() => Err(ImageProblem::TypedArchive.into()),
        None => spooled(&store).and_then(|file| load_from(file.path(), &request.selection, &store, &progress)),
    };
    progress.finish();
    let loaded: String = result?.iter().map(|name| format!("{name}\n")).collect();
    print(&loaded).map(|()| ExitCode::SUCCESS)
}

/// Returns a file in the store that holds what came on standard input: an archive is not read from front to back.
fn spooled(store: &Store) -> Result<tempfile::NamedTempFile, Failure> {
    let lost = |source| FileLost { call: "read", path: "standard input".into(), source };
    let mut file = tempfile::NamedTempFile::new_in(store.tmp()).map_err(lost)?;
    // So that nobody takes it for what a killed process left. Who just looks has the lock for a moment.
    file.as_file().lock().map_err(lost)?;
    io::copy(&mut io::stdin().lock(), file.as_file_mut()).map_err(lost)?;
    Ok(file)
}

/// Returns `error` with the name that the user knows: what came on standard input lies in a file of the store.
fn named(error: OutputError, path: &Path, store: &Store) -> OutputError {
    match error {
        OutputError::Damaged { path: at, reason } if at == path && at.starts_with(store.tmp()) => {
            OutputError::Damaged { path: "standard input".into(), reason }
        }
        error => error,
    }
}

fn load_from(path: &Path, selection: &Selection, store: &Store, sink: &dyn Sink) -> Result<Vec<String>, Failure> {
    let lost = |source| FileLost { call: "open", path: path.display().to_string(), source };
    File::open(path).map_err(lost)?;
    let named = |error| named(error, path, store);
    let place = Place::detect(path, &store.tmp()).map_err(named)?;
    let mut loaded = Vec::new();
    for listed in place.images().map_err(named)? {
        let origin = place.origin(Some(&listed.reference))?;
        let (content, _) = transfer(origin.as_ref(), selection, None, Destination::Store(store), &[], sink)?;
        let digest = content.digest().to_string();
        store.tag(&listed.names, &content.top)?;
        for name in &listed.names {
            sink.emit(Event::Exported { what: name.clone(), digest: Some(digest.clone()) });
        }
        if listed.names.is_empty() {
            let message = format!("the image {digest} has no name: `coracle tag` gives it one, else prune removes it");
            sink.emit(Event::Warning { message, line: None });
            loaded.push(digest);
        } else {
            loaded.extend(listed.names);
        }
    }
    Ok(loaded)
}
