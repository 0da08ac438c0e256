use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::Descriptor;

use super::error::printable;
use super::source::{Meter, Source, blob_name, copy_in, copy_out, read_document, read_file};
use super::tarball::Tarball;
use super::temp::TempFile;
use super::{Imported, OutputError};
use crate::oci::{Digest, Document, ImageError, Platform, Reference, digest_of, media_type, select};
use crate::progress::Sink;
use crate::store::{Image, Layout, Store, index_json, reference_name};

/// The annotations that name an image, the general one first.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Brings an image of an OCI layout into the store.
pub(super) fn import(
    source: &dyn Source,
    reference: Option<&str>,
    store: &Store,
    sink: &dyn Sink,
) -> Result<Imported, OutputError> {
    let entries = read_index(source)?;
    let starts = choose(&entries, reference, source.path())?;
    let what = source.path().display().to_string();
    let mut fetch = |descriptor: &Descriptor, what: &str| read_document(source, descriptor, what);
    let image: Image = select(&starts, &Platform::host(), &what, &mut fetch)?.into();
    let mut layers: Vec<(Digest, u64)> = Vec::new();
    for layer in image.layers() {
        let listed = layers.iter().any(|(digest, _)| *digest == layer.digest);
        if !listed && !store.blob_is_sound(&layer.digest, layer.size) {
            layers.push((layer.digest, layer.size));
        }
    }
    let total = layers.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
    let mut meter = Meter::new(sink, what, Some(total));
    for (digest, size) in &layers {
        let missing = || OutputError::Missing { what: format!("blob {digest}"), path: source.path().to_path_buf() };
        let opened = source.open(&blob_name(digest))?.ok_or_else(missing)?;
        copy_in(source, opened, (digest, *size), store, &mut meter)?;
    }
    store.put_blob(&image.config_bytes)?;
    store.put_blob(&image.manifest_bytes)?;
    let name = starts.iter().find_map(reference_name).map(|name| name.to_string());
    Ok(Imported { name, descriptor: image.descriptor() })
}

/// Returns the entries of a layout's index.json.
fn read_index(source: &dyn Source) -> Result<Vec<Descriptor>, OutputError> {
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
        let first = digest_of(&entries[0])?;
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

fn names_of(entry: &Descriptor) -> impl Iterator<Item = &str> {
    NAMES.iter().filter_map(|key| Some(entry.annotations().as_ref()?.get(*key)?.as_str()))
}

/// Writes `image` into the layout in the folder `dir`, which is made where it is missing: blobs first, the index last.
pub(super) fn export_dir(
    image: &Image,
    store: &Store,
    dir: &Path,
    names: &[String],
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    check_dir(dir)?;
    let layout = Layout::at(dir);
    layout.prepare()?;
    let blobs: Vec<(Digest, u64)> = blobs(image)
        .into_iter()
        .filter(|(digest, size)| {
            let there = fs::symlink_metadata(dir.join(blob_name(digest)));
            !there.is_ok_and(|metadata| metadata.is_file() && metadata.len() == *size)
        })
        .collect();
    let mut meter = Meter::new(sink, dir.display().to_string(), Some(blobs.iter().map(|(_, size)| size).sum()));
    for (digest, size) in &blobs {
        let temp = TempFile::create(dir)?;
        let path = temp.path().to_path_buf();
        let failed = |source| OutputError::io("write", &path, source);
        match inline(image, digest) {
            Some(bytes) => {
                temp.file().write_all(bytes).map_err(failed)?;
                meter.advance(*size);
            }
            None => copy_out(store, (digest, *size), &mut temp.file(), &mut meter, &failed)?,
        }
        temp.place(&dir.join(blob_name(digest)))?;
    }
    layout.add(names, &image.descriptor())?;
    Ok(())
}

/// Refuses a folder that holds other things than a layout, or leads elsewhere.
fn check_dir(dir: &Path) -> Result<(), OutputError> {
    let not_a_layout = || OutputError::NotALayout { path: dir.to_path_buf() };
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OutputError::io("open", dir, source)),
        Ok(mut entries) => {
            let is_layout = fs::symlink_metadata(dir.join("oci-layout")).is_ok_and(|metadata| metadata.is_file());
            // An interrupted begin of a layout leaves "blobs" and hidden files only.
            let foreign = entries.any(|entry| {
                entry.is_ok_and(|entry| {
                    let name = entry.file_name();
                    name != "blobs" && !name.as_encoded_bytes().starts_with(b".")
                })
            });
            if !is_layout && foreign {
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

/// Writes an archive of a layout with `image` alone: sorted, so that the same image and names give the same bytes.
pub(super) fn write_archive(
    image: &Image,
    store: &Store,
    names: &[String],
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let blobs = blobs(image);
    let mut meter = Meter::new(sink, "oci-archive".into(), Some(blobs.iter().map(|(_, size)| size).sum()));
    let mut tar = Tarball::new(out);
    for dir in ["blobs", "blobs/sha256"] {
        tar.dir(dir).map_err(OutputError::Stream)?;
    }
    for (digest, size) in &blobs {
        match inline(image, digest) {
            Some(bytes) => {
                tar.file(&blob_name(digest), bytes).map_err(OutputError::Stream)?;
                meter.advance(*size);
            }
            None => {
                tar.begin(&blob_name(digest), *size).map_err(OutputError::Stream)?;
                copy_out(store, (digest, *size), tar.out(), &mut meter, &OutputError::Stream)?;
                tar.end(*size).map_err(OutputError::Stream)?;
            }
        }
    }
    let index = index_json(names, &image.descriptor());
    tar.file("index.json", &index).map_err(OutputError::Stream)?;
    tar.file("oci-layout", LAYOUT_FILE).map_err(OutputError::Stream)?;
    tar.finish().map_err(OutputError::Stream)?;
    Ok(())
}

/// Returns the blobs of `image` and their lengths, each once, by digest.
fn blobs(image: &Image) -> Vec<(Digest, u64)> {
    let mut blobs: BTreeMap<Digest, u64> = image.layers().iter().map(|layer| (layer.digest, layer.size)).collect();
    blobs.insert(image.config_digest(), image.config_bytes.len() as u64);
    blobs.insert(image.digest, image.manifest_bytes.len() as u64);
    blobs.into_iter().collect()
}

/// Returns the content of a blob that is in memory already.
fn inline<'a>(image: &'a Image, digest: &Digest) -> Option<&'a [u8]> {
    match digest {
        digest if *digest == image.digest => Some(&image.manifest_bytes),
        digest if *digest == image.config_digest() => Some(&image.config_bytes),
        _ => None,
    }
}
