use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde::Deserialize;

use super::row::Row;
use super::{ARTIFACT, ARTIFACT_OF_ANY_VERSION, FileRow, GitRow, ImageRow};
use crate::oci::{Digest, Parts, Platform, digest_of};
use crate::output::OutputError;
use crate::output::archive::Archive;
use crate::output::content::{
    Blob, Content, Destination, Origin, Selection, Top, read_document, stream, write as write_content,
};
use crate::output::oci_layout::{LayoutOrigin, names_of, read_index};
use crate::output::source::{Meter, Source, blob_name};
use crate::progress::{Silent, Sink};
use crate::store::{Store, describe};

/// A bundle, opened. All that is taken out of it is verified.
#[derive(Debug)]
pub struct Bundle {
    archive: Archive,
    path: PathBuf,
    images: Vec<(ImageRow, Descriptor)>,
    files: Vec<FileRow>,
    git: Vec<GitRow>,
}

impl Bundle {
    /// Opens the archive `path`. `scratch` is a folder for what a compressed one is unpacked to.
    ///
    /// # Errors
    /// [`OutputError`] where it cannot be read, is damaged, or is no bundle.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, OutputError> {
        let archive = Archive::open(path, scratch)?;
        let none = |reason: String| OutputError::NoBundle { path: path.to_path_buf(), reason };
        let damaged = |reason: String| OutputError::damaged(path, reason);
        if archive.open("oci-layout")?.is_none() {
            return Err(none("it is not an OCI archive".into()));
        }
        let (mut images, mut artifact) = (Vec::new(), None);
        for entry in read_index(&archive)? {
            let kind = entry.artifact_type().as_ref().map(ToString::to_string).unwrap_or_default();
            if kind == ARTIFACT {
                if artifact.replace(entry).is_some() {
                    return Err(damaged("it has two lists of what is in it".into()));
                }
                continue;
            }
            if kind.starts_with(ARTIFACT_OF_ANY_VERSION) {
                let kind: String = kind.chars().take(100).collect();
                return Err(none(format!("it is of the kind {kind:?}, and this is known: {ARTIFACT}")));
            }
            let name = names_of(&entry).next().map(str::to_owned);
            if let Some(name) = name {
                images.push((ImageRow::parse(&name, &entry).map_err(damaged)?, entry));
            }
        }
        let artifact = artifact.ok_or_else(|| none("it has no list of what is in it, only images".into()))?;
        let layout = LayoutOrigin { source: &archive, reference: None };
        let rows = rows(&layout, &artifact, path)?;
        let (mut files, mut git) = (Vec::new(), Vec::new());
        let named = images.iter().map(|(row, _)| (row.name.as_str(), row.digest.to_string()));
        let named = named.chain(rows.iter().map(Row::name));
        let mut known: HashMap<&str, String> = HashMap::new();
        for (name, value) in named.filter(|(name, _)| !name.is_empty()) {
            if known.get(name).is_some_and(|other| *other != value) {
                let name: String = name.chars().take(200).collect();
                return Err(damaged(format!("it has two different things under the name {name:?}")));
            }
            known.insert(name, value);
        }
        for row in rows {
            match row {
                Row::File(row) => files.push(row),
                Row::Git(row) => git.push(row),
            }
        }
        Ok(Bundle { archive, path: path.to_path_buf(), images, files, git })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its images.
    pub fn images(&self) -> impl Iterator<Item = &ImageRow> {
        self.images.iter().map(|(row, _)| row)
    }

    /// Returns its files.
    pub fn files(&self) -> &[FileRow] {
        &self.files
    }

    /// Returns its commits, those of submodules too.
    pub fn git(&self) -> &[GitRow] {
        &self.git
    }

    /// Returns the image of this row.
    pub fn image(&self, row: &ImageRow) -> impl Origin + use<'_> {
        let entry = self.images.iter().find(|(known, _)| known == row).map(|(_, entry)| entry);
        let top = entry.map(|entry| {
            let kind = entry.media_type().as_ref();
            describe(kind, &row.digest, entry.size())
        });
        Within { bundle: self, name: row.name.clone(), top }
    }

    /// Brings the image of this row for a platform into the store, where it has no name then. Returns what leads to it.
    ///
    /// # Errors
    /// [`OutputError`], also where it is not there for the platform.
    pub fn import(
        &self,
        row: &ImageRow,
        platform: &Platform,
        store: &Store,
        sink: &dyn Sink,
    ) -> Result<Descriptor, OutputError> {
        let origin = self.image(row);
        let content = Content::gather(&origin, &origin.top()?, &Selection::Platform(platform.clone()));
        let content = content.map_err(|error| match error {
            OutputError::Missing { .. } if !row.platforms.contains(platform) => OutputError::NotBundled {
                path: self.path.clone(),
                name: row.name.clone(),
                has: row.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                wanted: Box::new(platform.clone()),
            },
            other => other,
        })?;
        write_content(&content, &origin, Destination::Store(store), &[], sink)?;
        Ok(content.top)
    }

    /// Writes the blob `digest`, of `size` bytes, to `out`, verified.
    ///
    /// # Errors
    /// [`OutputError`]; then what was written is not all of it, or something else.
    pub fn extract(&self, digest: &Digest, size: u64, out: &mut dyn Write, to: &Path) -> Result<(), OutputError> {
        let from = LayoutOrigin { source: &self.archive, reference: None };
        let meter = Meter::new(&Silent, self.path.display().to_string(), Some(size));
        let blob = describe("application/octet-stream", digest, size);
        stream(&from, &blob, out, &meter, &|source| OutputError::io("write", to, source))
    }
}

/// Returns what the artifact lists.
fn rows(from: &LayoutOrigin<'_>, artifact: &Descriptor, path: &Path) -> Result<Vec<Row>, OutputError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        artifact_type: Option<String>,
    }
    let damaged = |reason: String| OutputError::damaged(path, reason);
    let what = "the list of what is in the bundle";
    let bytes = read_document(from, artifact, what)?;
    let parts = Parts::parse(&bytes, Some(artifact.media_type().as_ref()), what)?;
    let typed: Result<Typed, _> = serde_json::from_slice(&bytes);
    if !typed.is_ok_and(|typed| typed.artifact_type.as_deref() == Some(ARTIFACT)) {
        return Err(damaged(format!("{what} is not what its index says")));
    }
    parts.layers.iter().map(Row::parse).collect::<Result<_, _>>().map_err(damaged)
}

/// An image in a bundle.
struct Within<'a> {
    bundle: &'a Bundle,
    name: String,
    top: Option<Descriptor>,
}

impl Within<'_> {
    fn layout(&self) -> LayoutOrigin<'_> {
        LayoutOrigin { source: &self.bundle.archive, reference: None }
    }
}

impl Origin for Within<'_> {
    fn place(&self) -> String {
        self.bundle.path.display().to_string()
    }

    fn top(&self) -> Result<Top, OutputError> {
        let missing = || OutputError::Missing { what: self.name.clone(), path: self.bundle.path.clone() };
        let top = self.top.clone().ok_or_else(missing)?;
        Ok(Top { starts: vec![top], names: vec![self.name.clone()] })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        self.layout().document(descriptor, what)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        match self.bundle.archive.open(&blob_name(&digest_of(descriptor)?))? {
            Some(blob) => Ok(blob),
            None => Err(OutputError::Missing {
                what: format!("blob {}", descriptor.digest()),
                path: self.bundle.path.clone(),
            }),
        }
    }
}
