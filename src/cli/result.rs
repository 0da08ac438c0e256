//! The end of a build: the names of the image, in the store and in registries, and the small files about it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::args::{DigestFiles, OutputSpec};
use super::classify::{FileLost, not_created};
use super::product::Product;
use super::progress::Progress;
use super::registry::{self, LazyClient, WithCaches};
use super::report::Failure;
use super::request::BuildRequest;
use super::{names, print};
use crate::oci::{Reference, digest_of};
use crate::output::cache::CacheSources;
use crate::output::{OutputError, index};
use crate::progress::{Event, Sink};

/// The names that a build gives to its image.
#[derive(Debug, Default)]
pub(super) struct ImageNames {
    /// In the store.
    stored: Vec<String>,
    /// In registries, with a tag.
    tagged: Vec<Reference>,
    /// In registries, by the digest alone: what stands for the digest does not count.
    by_digest: Vec<Reference>,
    /// Whether the names with the digest are told too.
    canonical: bool,
}

impl ImageNames {
    /// Returns the names that `request` asks for; `tags` are its `--tag`s in full.
    pub(super) fn of(request: &BuildRequest, tags: &[String]) -> Result<Self, Failure> {
        let mut all = ImageNames { stored: tags.to_vec(), ..ImageNames::default() };
        let outputs = request.outputs.iter().filter_map(|output| match output {
            OutputSpec::Image(image) => Some(image),
            _ => None,
        });
        for output in outputs {
            let own = names::normalised(&output.names)?;
            let named = if own.is_empty() { tags } else { &own };
            let references: Vec<Reference> =
                named.iter().map(|name| Reference::parse(name)).collect::<Result<_, _>>()?;
            if output.push && output.by_digest {
                all.by_digest.extend(references);
            } else if output.push {
                all.tagged.extend(references);
            }
            if !output.by_digest {
                all.stored.extend(own);
            }
            all.canonical |= output.canonical;
        }
        let mut seen = std::collections::HashSet::new();
        all.stored.retain(|name| seen.insert(name.clone()));
        Ok(all)
    }

    /// Returns all of them, each once.
    pub(super) fn all(&self) -> Vec<String> {
        let mut all = self.stored.clone();
        for name in self.pushed().map(Reference::to_string) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    /// Returns all that goes to registries.
    pub(super) fn pushed(&self) -> impl Iterator<Item = &Reference> {
        self.tagged.iter().chain(&self.by_digest)
    }

    /// Returns the registry to which the image goes, if that is one alone, and the image is had from there by each of its names.
    pub(super) fn only_registry(&self) -> Option<&str> {
        let registry = self.pushed().next()?.registry();
        let there = |name: &String| self.tagged.iter().any(|tagged| tagged.to_string() == *name);
        let one = self.pushed().all(|name| name.registry() == registry) && self.stored.iter().all(there);
        one.then_some(registry)
    }

    /// Returns what is told as the name of the image with the digest `digest`.
    fn told(&self, digest: &str) -> Vec<String> {
        let mut told = self.stored.clone();
        if self.canonical || self.stored.is_empty() {
            told.extend(self.pushed().map(|name| format!("{}@{digest}", name.name())));
        }
        let mut seen = std::collections::HashSet::new();
        told.retain(|name| seen.insert(name.clone()));
        told
    }
}

/// Names the image, pushes it, and says what it is.
pub(super) fn finish(
    request: &BuildRequest,
    from: &WithCaches<'_, '_>,
    client: &LazyClient<'_>,
    product: &Product,
    tags: &[String],
    progress: &Arc<Progress>,
) -> Result<(), Failure> {
    let (content, store) = (&product.content, from.store);
    let digest = content.digest().to_string();
    let names = ImageNames::of(request, tags)?;
    let files = prepare_files(request, product, &names)?;
    // A build that fails tags nothing. A push that fails leaves the image here, to be pushed again.
    store.tag(&names.stored, &content.top)?;
    if let Some(list) = &request.changes.list {
        super::lists::add(store, list, content)?;
    }
    if !names.tagged.is_empty() {
        registry::push(content, from, client.get()?, &names.tagged, progress.as_ref())?;
    }
    if !names.by_digest.is_empty() {
        let untagged: Result<Vec<_>, _> =
            names.by_digest.iter().map(|name| Reference::parse(&format!("{}@{digest}", name.name()))).collect();
        registry::push(content, from, client.get()?, &untagged?, progress.as_ref())?;
    }
    if let (Some(name), true) = (names.pushed().next(), from.caches.is_some_and(CacheSources::has_stayed)) {
        // The layers that stayed away are there now, for whoever needs them.
        for (descriptor, _) in &content.documents {
            store.remember_origin(&digest_of(descriptor).map_err(OutputError::from)?, &name.name())?;
        }
    }
    // Last of all: who finds these may count on the image being where it should be.
    files.into_iter().try_for_each(PreparedFile::place)?;
    let what = if names.stored.is_empty() { "image".to_owned() } else { names.stored.join(", ") };
    progress.emit(Event::Exported { what, digest: Some(digest.clone()) });
    progress.finish();
    if request.stdout_is_taken() { Ok(()) } else { print(&format!("{digest}\n")) }
}

/// Makes the small files, but for their names.
fn prepare_files(request: &BuildRequest, product: &Product, names: &ImageNames) -> Result<Vec<PreparedFile>, Failure> {
    let digest = product.content.digest().to_string();
    let mut metadata = serde_json::json!({
        "containerimage.config.digest": product.config_digest(),
        "containerimage.descriptor": index::entry(&product.content.top),
        "containerimage.digest": digest,
        "image.name": names.told(&digest).join(","),
    });
    if let (None, Some(members)) = (product.config_digest(), metadata.as_object_mut()) {
        // An index has none.
        members.shift_remove("containerimage.config.digest");
    }
    for (key, value) in product.provenance() {
        metadata[key] = value.clone();
    }
    let metadata = serde_json::to_string_pretty(&metadata).expect("strings always serialise") + "\n";
    let references: Vec<Reference> = names.stored.iter().filter_map(|name| Reference::parse(name).ok()).collect();
    let lines = |text: &dyn Fn(&Reference) -> String| -> String {
        references.iter().map(|name| format!("{}@{digest}\n", text(name))).collect()
    };
    let DigestFiles { digest: alone, name, name_and_tag, hex } = &request.digest_files;
    let wanted = [
        (&request.iidfile, digest.clone()),
        (&request.metadata_file, metadata),
        (alone, digest.clone()),
        (hex, product.content.digest().hex()),
        (name, lines(&|name| name.name())),
        (name_and_tag, lines(&|name| name.to_string())),
    ];
    let files = wanted.into_iter().filter_map(|(path, text)| Some((path.as_deref()?, text)));
    files.map(|(path, text)| PreparedFile::new(path, text.into_bytes())).collect()
}

/// A small file whose content is known and can be written, but is not at its place yet.
enum PreparedFile {
    /// Beside its place: a reader sees the old bytes or the new ones.
    Beside(NamedTempFile, PathBuf),
    /// For what cannot be replaced: a device, a pipe, a file that is mounted in /dev.
    Open(File, PathBuf, Vec<u8>),
}

impl PreparedFile {
    fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Failure> {
        let lost = |source| FileLost { call: "write", path: path.display().to_string(), source };
        if is_special(path) {
            let file = File::options().write(true).create(true).truncate(true).open(path).map_err(lost)?;
            return Ok(PreparedFile::Open(file, path.to_path_buf(), bytes));
        }
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(|error| lost(not_created(dir, &error)))?;
        file.write_all(&bytes).map_err(lost)?;
        Ok(PreparedFile::Beside(file, path.to_path_buf()))
    }

    fn place(self) -> Result<(), Failure> {
        let (path, placed) = match self {
            PreparedFile::Beside(file, path) => {
                let placed = file.persist(&path).map(drop).map_err(|error| error.error);
                (path, placed)
            }
            PreparedFile::Open(mut file, path, bytes) => {
                let written = file.write_all(&bytes);
                (path, written)
            }
        };
        Ok(placed.map_err(|source| FileLost { call: "write", path: path.display().to_string(), source })?)
    }
}

/// Returns whether `path` is written to as it is, and not replaced. What lies in /dev is somebody else's, as a pod's
/// /dev/termination-log, which is mounted there.
fn is_special(path: &Path) -> bool {
    path.starts_with("/dev") || fs::metadata(path).is_ok_and(|meta| !meta.is_file())
}

/// Removes what an earlier build wrote about its image: who finds a file after a build that failed must not take it for that of
/// this one.
///
/// # Errors
/// [`FileLost`] where a file could not be written at the end either.
pub(super) fn remove_files(request: &BuildRequest) -> Result<(), Failure> {
    let DigestFiles { digest, name, name_and_tag, hex } = &request.digest_files;
    let files = [&request.iidfile, &request.metadata_file, digest, name, name_and_tag, hex];
    for path in files.into_iter().flatten().filter(|path| !is_special(path)) {
        let lost = |source| FileLost { call: "write", path: path.display().to_string(), source };
        rustix::fs::access(path.parent().unwrap_or(Path::new("/")), rustix::fs::Access::WRITE_OK)
            .map_err(|errno| lost(errno.into()))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(lost(error).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Writes a small file: a reader sees the old bytes or the new ones.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    PreparedFile::new(path, bytes.to_vec())?.place()
}
