use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::Descriptor;

use super::OutputError;
use super::content::{Blob, Content, Origin, Top, bring_as, each, stream};
use super::error::printable;
use super::out::Out;
use super::source::{Meter, Source, blob_name, read_file};
use super::tarball::Tarball;
use super::temp::TempFile;
use crate::oci::{Digest, Document, ImageError, Reference, digest_of, media_type};
use crate::progress::Sink;
use crate::store::{Layout, index_json, reference_name};

/// The annotations that name an image, the general one first.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image in an OCI layout.
pub(super) struct LayoutOrigin<'a> {
    /// The files of the layout.
    pub(super) source: &'a dyn Source,
    /// Which image in it.
    pub(super) reference: Option<String>,
}

impl Origin for LayoutOrigin<'_> {
    fn place(&self) -> String {
        self.source.path().display().to_string()
    }

    fn top(&self) -> Result<Top, OutputError> {
        let entries = read_index(self.source)?;
        let starts = choose(&entries, self.reference.as_deref(), self.source.path())?;
        let mut names: Vec<String> = Vec::new();
        for name in starts.iter().filter_map(reference_name).map(|name| name.to_string()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        // Their names and annotations belong to this layout, not to the image.
        let starts = starts.into_iter().map(|mut start| {
            start.set_annotations(None);
            start
        });
        Ok(Top { starts: starts.collect(), names })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        let missing = || OutputError::Missing { what: what.into(), path: self.source.path().to_path_buf() };
        read_file(self.source, &blob_name(&digest_of(descriptor)?))?.ok_or_else(missing)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        let missing =
            || OutputError::Missing { what: format!("blob {digest}"), path: self.source.path().to_path_buf() };
        self.source.open(&blob_name(&digest))?.ok_or_else(missing)
    }
}

/// Returns what is in the layout: for each entry what to ask for, and its names in full.
pub(super) fn list(source: &dyn Source) -> Result<Vec<(String, Vec<String>)>, OutputError> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for entry in read_index(source)?.into_iter().filter(is_image) {
        let reference = names_of(&entry).next().map_or_else(|| entry.digest().to_string(), str::to_owned);
        if !found.iter().any(|(known, _)| *known == reference) {
            found.push((reference, reference_name(&entry).iter().map(ToString::to_string).collect()));
        }
    }
    Ok(found)
}

/// Returns the entries of a layout's index.json.
pub(super) fn read_index(source: &dyn Source) -> Result<Vec<Descriptor>, OutputError> {
    let path = source.path();
    let Some(layout) = read_file(source, "oci-layout")? else {
        let other = read_file(source, "manifest.json")?.is_some();
        let hint = if other { "; it may be a docker-archive" } else { "" };
        return Err(OutputError::damaged(path, format!("it is not an OCI layout: it has no file oci-layout{hint}")));
    };
    let version: Option<serde_json::Value> = serde_json::from_slice(&layout).ok();
    let version = version.as_ref().and_then(|v| v.get("imageLayoutVersion")).and_then(|v| v.as_str());
    if !version.is_some_and(|version| version.starts_with("1.")) {
        return Err(OutputError::damaged(path, "its file oci-layout does not say version 1"));
    }
    let what = format!("index.json in {}", path.display());
    let bytes = read_file(source, "index.json")?
        .ok_or_else(|| OutputError::damaged(path, "it has no index.json, so no images"))?;
    match Document::parse(&bytes, None, &what)? {
        (Document::Index(index), _) => Ok(index.manifests().clone()),
        (_, found) => Err(ImageError::MediaType { what, expected: media_type::INDEX.into(), found }.into()),
    }
}

/// Returns the entries that `reference` means; without one, the only image. Several are the same image for several
/// platforms.
fn choose(entries: &[Descriptor], reference: Option<&str>, path: &Path) -> Result<Vec<Descriptor>, OutputError> {
    if entries.is_empty() {
        return Err(OutputError::Empty { path: path.to_path_buf() });
    }
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    names.extend(entries.iter().filter_map(|entry| Some((names_of(entry).next()?, ()))));
    let listed = || printable(names.keys().copied());
    let path = path.to_path_buf();
    let Some(wanted) = reference else {
        let entries: Vec<Descriptor> = entries.iter().filter(|entry| is_image(entry)).cloned().collect();
        let Some(first) = entries.first().map(digest_of) else { return Err(OutputError::Empty { path }) };
        let first = first?;
        if entries.iter().all(|entry| digest_of(entry).is_ok_and(|digest| digest == first)) {
            return Ok(entries[..1].to_vec());
        }
        let unnamed = entries.iter().any(|entry| names_of(entry).next().is_none());
        return match (names.len(), unnamed) {
            // An index.json may be the index of one image for several platforms.
            (0, _) if entries.iter().all(|entry| entry.platform().is_some()) => Ok(entries.to_vec()),
            (0, _) => {
                let names = entries.iter().map(|entry| entry.digest().to_string()).take(50).collect();
                Err(OutputError::Several { path, names })
            }
            (1, false) => Ok(entries.to_vec()),
            _ => Err(OutputError::Several { path, names: listed() }),
        };
    };
    let full = Reference::parse(wanted).ok();
    let matching: [&dyn Fn(&Descriptor) -> bool; 3] = [
        &|entry| names_of(entry).any(|name| name == wanted),
        &|entry| full.is_some() && reference_name(entry) == full,
        &|entry| entry.digest().to_string() == wanted,
    ];
    for matches in matching {
        let found: Vec<Descriptor> = entries.iter().filter(|entry| matches(entry)).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(OutputError::NoSuchImage { path, wanted: wanted.into(), names: listed() })
}

/// Returns whether an entry may be an image: what says that it is an artifact is none.
fn is_image(entry: &Descriptor) -> bool {
    entry.artifact_type().is_none()
}

pub(super) fn names_of(entry: &Descriptor) -> impl Iterator<Item = &str> {
    NAMES.iter().filter_map(|key| Some(entry.annotations().as_ref()?.get(*key)?.as_str()))
}

/// Writes `content` into the layout in the folder `dir`, which is made where it is missing: blobs first, the index last.
pub(super) fn export_dir(
    content: &Content,
    from: &dyn Origin,
    dir: &Path,
    names: &[String],
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    check_dir(dir)?;
    let layout = Layout::at(dir);
    layout.prepare()?;
    let blobs: Vec<Piece<'_>> =
        pieces(&[content]).into_iter().filter(|piece| !layout.blob_is_sound(&piece.digest, piece.size())).collect();
    let meter = Meter::new(sink, dir.display().to_string(), Some(total(&blobs)));
    each(&blobs, from.is_remote(), &|piece| {
        if piece.bytes.is_none() && from.is_remote() {
            // What is interrupted goes on next time.
            return bring_as(from, piece.descriptor, &meter, &|digest, size| layout.partial_blob(digest, size));
        }
        let temp = TempFile::create(dir)?;
        let path = temp.path().to_path_buf();
        let failed = |source| OutputError::io("write", &path, source);
        piece.write(from, &mut temp.file(), &meter, &failed)?;
        temp.place(&dir.join(blob_name(&piece.digest)))
    })?;
    layout.add(names, &content.top)?;
    layout.forget_partial();
    Ok(())
}

/// Refuses a folder that holds other things than a layout, or leads elsewhere.
fn check_dir(dir: &Path) -> Result<(), OutputError> {
    let not_a_layout = || OutputError::NotALayout { path: dir.to_path_buf() };
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OutputError::io("open", dir, source)),
        Ok(mut entries) => {
            // An interrupted begin of a layout leaves "blobs" and hidden files only.
            let foreign = entries.any(|entry| {
                entry.is_ok_and(|entry| {
                    let name = entry.file_name();
                    name != "blobs" && !name.as_encoded_bytes().starts_with(b".")
                })
            });
            // Asked last: another process may begin the layout while this one reads the folder.
            let is_layout = || fs::symlink_metadata(dir.join("oci-layout")).is_ok_and(|metadata| metadata.is_file());
            if foreign && !is_layout() {
                return Err(not_a_layout());
            }
        }
    }
    for name in ["blobs", "blobs/sha256"] {
        if fs::symlink_metadata(dir.join(name)).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(OutputError::damaged(&dir.join(name), "it is not a directory"));
        }
    }
    Ok(())
}

/// Writes an archive of a layout with `contents` alone: sorted, so that the same images and names give the same bytes. `docker` is
/// the manifest.json beside it, if there is to be one.
pub(super) fn write_archive(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    docker: Option<&[u8]>,
    out: &mut dyn Out,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let all: Vec<&Content> = contents.iter().map(|(content, _)| *content).collect();
    let blobs = pieces(&all);
    let meter = Meter::new(sink, "oci-archive".into(), Some(total(&blobs)));
    let mut tar = Tarball::new(out);
    for dir in ["blobs", "blobs/sha256"] {
        tar.dir(dir).map_err(OutputError::Stream)?;
    }
    for piece in &blobs {
        tar.begin(&blob_name(&piece.digest), piece.size()).map_err(OutputError::Stream)?;
        piece.write(from, tar.out(), &meter, &OutputError::Stream)?;
        tar.end(piece.size()).map_err(OutputError::Stream)?;
    }
    let entries: Vec<(&[String], &Descriptor)> =
        contents.iter().map(|(content, names)| (names.as_slice(), &content.top)).collect();
    tar.file("index.json", &index_json(&entries)).map_err(OutputError::Stream)?;
    if let Some(manifest) = docker {
        tar.file("manifest.json", manifest).map_err(OutputError::Stream)?;
    }
    tar.file("oci-layout", LAYOUT_FILE).map_err(OutputError::Stream)?;
    tar.finish().map_err(OutputError::Stream)?;
    Ok(())
}

/// A blob of a layout.
pub(super) struct Piece<'a> {
    pub(super) digest: Digest,
    descriptor: &'a Descriptor,
    /// Its content, where it is in memory already.
    bytes: Option<&'a [u8]>,
}

impl Piece<'_> {
    /// Returns its length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.descriptor.size()
    }

    /// Writes it to `out`, verified.
    pub(super) fn write(
        &self,
        from: &dyn Origin,
        out: &mut dyn Write,
        meter: &Meter<'_>,
        write_error: &dyn Fn(io::Error) -> OutputError,
    ) -> Result<(), OutputError> {
        match self.bytes {
            Some(bytes) => {
                out.write_all(bytes).map_err(write_error)?;
                meter.advance(bytes.len() as u64);
                Ok(())
            }
            None => stream(from, self.descriptor, out, meter, write_error),
        }
    }
}

/// Returns all documents and blobs of `contents`, each once, by digest.
pub(super) fn pieces<'a>(contents: &[&'a Content]) -> Vec<Piece<'a>> {
    let mut found: BTreeMap<Digest, Piece<'a>> = BTreeMap::new();
    for content in contents {
        for (digest, descriptor) in &content.blobs {
            let bytes = content.configs.get(digest).map(Vec::as_slice);
            found.insert(*digest, Piece { digest: *digest, descriptor, bytes });
        }
        for (descriptor, bytes) in &content.documents {
            let digest = digest_of(descriptor).expect("checked when it was read");
            found.insert(digest, Piece { digest, descriptor, bytes: Some(bytes) });
        }
    }
    found.into_values().collect()
}

fn total(pieces: &[Piece<'_>]) -> u64 {
    pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.size()))
}
