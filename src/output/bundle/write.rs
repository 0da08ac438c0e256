use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use super::row::Row;
use super::{ARTIFACT, EMPTY, FileRow, GitRow, ImageRow};
use crate::oci::{Digest, ImageError, Parts, Platform, digest_of, media_type};
use crate::output::content::{Blob, Content, Origin, StoreOrigin, Top};
use crate::output::{ArchiveFormat, Location, OutputError, export};
use crate::progress::{Event, Sink};
use crate::store::{Store, describe};

/// An image for a bundle.
pub struct BundledImage<'a> {
    /// Its name in full, as the Dockerfile means it.
    pub name: String,
    /// For which platforms `content` has it.
    pub platforms: Vec<Platform>,
    /// What it is.
    pub content: Content,
    /// Where it is read.
    pub origin: &'a dyn Origin,
}

impl std::fmt::Debug for BundledImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundledImage").field("name", &self.name).field("content", &self.content).finish_non_exhaustive()
    }
}

/// A file for a bundle, and where it is.
#[derive(Debug, Clone)]
pub enum BundledFile {
    /// From a URL.
    File(FileRow, PathBuf),
    /// A pack.
    Git(GitRow, PathBuf),
}

/// Writes a bundle to the file `path`, which is replaced when all of it is there. The same things give the same bytes. What `store`
/// has of the images is read there.
///
/// # Errors
/// [`OutputError`]; then the file is what it was before.
pub fn write(
    path: &Path,
    images: &[BundledImage<'_>],
    files: &[BundledFile],
    store: &Store,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let mut rows: Vec<(Row, &Path)> = files
        .iter()
        .map(|file| match file {
            BundledFile::File(row, path) => (Row::File(row.clone()), path.as_path()),
            BundledFile::Git(row, path) => (Row::Git(row.clone()), path.as_path()),
        })
        .collect();
    rows.sort_by_cached_key(|(row, _)| row.descriptor().to_string());
    rows.dedup_by(|(a, _), (b, _)| a == b);
    let mut places = BTreeMap::new();
    for (row, path) in &rows {
        places.insert(row.digest(), Place::File(path));
    }
    let mut contents: Vec<(Content, Vec<String>)> = Vec::new();
    for image in images {
        for digest in image.content.blobs.keys() {
            places.insert(*digest, Place::Origin(image.origin));
        }
        let mut content = image.content.clone();
        content.top.set_annotations(Some(ImageRow::annotation(&image.platforms)));
        contents.push((content, vec![image.name.clone()]));
    }
    contents.sort_by(|(_, a), (_, b)| a.cmp(b));
    contents.push((artifact(&rows)?, Vec::new()));
    let contents: Vec<(&Content, Vec<String>)> =
        contents.iter().map(|(content, names)| (content, names.clone())).collect();
    let from = Joined { store: StoreOrigin(store), places };
    let (format, scratch) = (ArchiveFormat::Oci, store.tmp());
    export::to_file(path, &mut |out| export::write_archives_to(&contents, &from, format, &scratch, out, sink))?;
    let location = Location::OciArchive { path: path.to_path_buf(), reference: None };
    sink.emit(Event::Exported { what: location.to_string(), digest: None });
    Ok(())
}

/// Returns the artifact that has all but the images.
fn artifact(rows: &[(Row, &Path)]) -> Result<Content, OutputError> {
    let (empty_type, empty) = EMPTY;
    let config = describe(empty_type, &Digest::of(empty), empty.len() as u64);
    let layers: Vec<Value> = rows.iter().map(|(row, _)| row.descriptor()).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "artifactType": ARTIFACT,
        "config": config,
        "layers": layers,
    });
    let bytes = serde_json::to_vec(&manifest).expect("JSON values always serialise");
    // What could not be read again must not be written.
    let parts = Parts::parse(&bytes, Some(media_type::MANIFEST), "what the Dockerfile fetches")?;
    let mut top = describe(media_type::MANIFEST, &Digest::of(&bytes), bytes.len() as u64);
    top.set_artifact_type(Some(MediaType::from(ARTIFACT)));
    let mut content = Content {
        top: top.clone(),
        documents: vec![(top, bytes)],
        configs: BTreeMap::from([(Digest::of(empty), empty.to_vec())]),
        blobs: BTreeMap::new(),
    };
    for blob in parts.blobs {
        content.blobs.insert(digest_of(&blob)?, blob);
    }
    Ok(content)
}

impl Row {
    fn digest(&self) -> Digest {
        match self {
            Row::File(file) => file.digest,
            Row::Git(git) => git.digest,
        }
    }
}

enum Place<'a> {
    Origin(&'a dyn Origin),
    File(&'a Path),
}

/// All that goes into a bundle, wherever it is.
struct Joined<'a> {
    store: StoreOrigin<'a>,
    places: BTreeMap<Digest, Place<'a>>,
}

impl Origin for Joined<'_> {
    fn place(&self) -> String {
        "what goes into the bundle".into()
    }

    fn top(&self) -> Result<Top, OutputError> {
        Ok(Top { starts: Vec::new(), names: Vec::new() })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        // They are all in the contents.
        let found = descriptor.media_type().to_string();
        Err(ImageError::MediaType { what: what.into(), expected: "a blob".into(), found }.into())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        match self.places.get(&digest) {
            Some(Place::File(path)) => {
                let file = File::open(path).map_err(|source| OutputError::io("open", path, source))?;
                let length = file.metadata().map_err(|source| OutputError::io("read", path, source))?.len();
                Ok((Box::new(file), length))
            }
            Some(Place::Origin(origin)) if !self.store.0.blob_is_sound(&digest, descriptor.size()) => {
                origin.blob(descriptor)
            }
            _ => self.store.blob(descriptor),
        }
    }
}
