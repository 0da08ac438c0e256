use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;

use oci_spec::image::Descriptor;

use super::{Content, Form, Origin, Selection, Top, bring, convert, read_failed};
use crate::oci::{DigestReader, digest_of};
use crate::output::source::{Failure, Meter, copy_bytes};
use crate::output::{ArchiveFormat, Location, OutputError, dir, export, oci_layout};
use crate::progress::{Event, Sink};
use crate::store::Store;

/// How many blobs come over a network at the same time.
const STREAMS: usize = 4;

/// Where images go.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// Into the store. The caller names them there.
    Store(&'a Store),
    /// To a folder or a file. `scratch` is a folder for what must be unpacked on the way.
    Place {
        /// The folder or file.
        location: &'a Location,
        /// Holds layers for the time being.
        scratch: &'a Path,
    },
}

/// Takes what is meant in `from` to `to` and returns its content there, and what `from` calls it. `names` are its names there;
/// those in `to` itself go before them. With a `form` its documents are converted where they have another one.
///
/// # Errors
/// [`OutputError`]; then the destination has what it had before, and perhaps blobs that nothing leads to.
pub fn copy(
    from: &dyn Origin,
    selection: &Selection,
    form: Option<Form>,
    to: Destination<'_>,
    names: &[String],
    sink: &dyn Sink,
) -> Result<(Content, Top), OutputError> {
    let top = from.top()?;
    let content = Content::gather(from, &top, selection)?;
    let content = match form {
        Some(form) => convert(content, form)?,
        None => content,
    };
    write(&content, from, to, names, sink)?;
    Ok((content, top))
}

/// Takes `content` from `from` to `to`, under `names`. Blobs that are there already do not move again.
///
/// # Errors
/// As [`copy`].
pub fn write(
    content: &Content,
    from: &dyn Origin,
    to: Destination<'_>,
    names: &[String],
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    match to {
        Destination::Store(store) => to_store(content, from, store, sink),
        Destination::Place { location, scratch } => {
            write_all(&[(content, names.to_vec())], from, location, scratch, sink)
        }
    }
}

/// Takes several images to one place, each under its names. An archive holds them all.
///
/// # Errors
/// As [`copy`].
pub fn write_all(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    location: &Location,
    scratch: &Path,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let own = location.reference().map(|reference| vec![reference.to_owned()]);
    let contents: Vec<(&Content, Vec<String>)> =
        contents.iter().map(|(content, names)| (*content, own.clone().unwrap_or_else(|| names.clone()))).collect();
    let archive = |path: &Path, format| {
        export::to_file(path, &mut |out| export::write_archives_to(&contents, from, format, scratch, out, sink))
    };
    match location {
        Location::OciDir { path, .. } => {
            for (content, names) in &contents {
                check_names(names)?;
                oci_layout::export_dir(content, from, path, names, sink)?;
            }
        }
        Location::OciArchive { path, .. } => archive(path, ArchiveFormat::Oci)?,
        Location::DockerArchive { path, .. } => archive(path, ArchiveFormat::Docker)?,
        Location::Dir { path } => match &contents[..] {
            [(content, _)] => dir::export(content, from, path, sink)?,
            _ => return Err(OutputError::OneOnly { place: location.to_string() }),
        },
        Location::Registry(_) => return Err(OutputError::NoRegistry { place: location.to_string() }),
    }
    let digest = match &contents[..] {
        [(content, _)] => Some(content.digest().to_string()),
        _ => None,
    };
    sink.emit(Event::Exported { what: location.to_string(), digest });
    Ok(())
}

/// Writes several images, each under its names, into an archive in the file `path`, which is there when it is complete.
///
/// # Errors
/// As [`copy`].
pub fn write_archive_file(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    (format, path): (ArchiveFormat, &Path),
    scratch: &Path,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    export::to_file(path, &mut |out| export::write_archives_to(contents, from, format, scratch, out, sink))?;
    let digest = match contents {
        [(content, _)] => Some(content.digest().to_string()),
        _ => None,
    };
    sink.emit(Event::Exported { what: path.display().to_string(), digest });
    Ok(())
}

fn to_store(content: &Content, from: &dyn Origin, store: &Store, sink: &dyn Sink) -> Result<(), OutputError> {
    let missing: Vec<&Descriptor> = content
        .blobs
        .iter()
        .filter(|(digest, descriptor)| {
            !content.configs.contains_key(*digest) && !store.blob_is_sound(digest, descriptor.size())
        })
        .map(|(_, descriptor)| descriptor)
        .collect();
    let total = missing.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size()));
    let meter = Meter::new(sink, from.place(), Some(total));
    each(&missing, from.is_remote(), &|descriptor| bring(from, descriptor, store, &meter))?;
    for config in content.configs.values() {
        store.put_blob(config)?;
    }
    for (_, bytes) in &content.documents {
        store.put_blob(bytes)?;
    }
    Ok(())
}

/// Calls `act` for each of `items`; several at the same time if `wide`. The first error ends it.
pub(in crate::output) fn each<T: Sync>(
    items: &[T],
    wide: bool,
    act: &(dyn Fn(&T) -> Result<(), OutputError> + Sync),
) -> Result<(), OutputError> {
    each_of(items, if wide { STREAMS } else { 1 }, act)
}

/// Calls `act` for each of `items`; `width` of them at the same time. The first error ends it.
pub(in crate::output) fn each_of<T: Sync, E: Send>(
    items: &[T],
    width: usize,
    act: &(dyn Fn(&T) -> Result<(), E> + Sync),
) -> Result<(), E> {
    if width < 2 || items.len() < 2 {
        return items.iter().try_for_each(act);
    }
    let (next, failed) = (Mutex::new(items.iter()), Mutex::new(None));
    let take = || {
        let stop = failed.lock().is_ok_and(|failed| failed.is_some());
        if stop { None } else { next.lock().ok()?.next() }
    };
    std::thread::scope(|scope| {
        for _ in 0..width.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = take() {
                    if let (Err(error), Ok(mut failed)) = (act(item), failed.lock()) {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Copies a blob to `out`, verified: length first, digest second.
///
/// # Errors
/// [`Origin::wrong`], and `write_error` for what `out` reports.
pub(in crate::output) fn stream(
    from: &dyn Origin,
    descriptor: &Descriptor,
    out: &mut dyn Write,
    meter: &Meter<'_>,
    write_error: &dyn Fn(io::Error) -> OutputError,
) -> Result<(), OutputError> {
    let (digest, size) = (digest_of(descriptor)?, descriptor.size());
    let (reader, length) = from.blob(descriptor)?;
    if length != size {
        return Err(from.wrong((digest, size), (digest, length)));
    }
    let mut reader = DigestReader::new(reader);
    copy_bytes(&mut reader, out, size, meter).map_err(|failure| match failure {
        Failure::Read(source) => read_failed(from, &digest, source),
        Failure::Write(source) => write_error(source),
    })?;
    let (mut rest, found, mut found_size) = reader.finish();
    // One byte more would not be read by the copy.
    found_size += u64::from(rest.read(&mut [0]).is_ok_and(|n| n > 0));
    if (found, found_size) == (digest, size) { Ok(()) } else { Err(from.wrong((digest, size), (found, found_size))) }
}

/// Refuses names that no tool could read again.
pub(in crate::output) fn check_names(names: &[String]) -> Result<(), OutputError> {
    match names.iter().find(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic())) {
        Some(name) => Err(OutputError::LayoutName { name: name.clone() }),
        None => Ok(()),
    }
}
