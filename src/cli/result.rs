//! The end of a build: the names of the image, in the store and in registries, and the small files about it.

use std::path::Path;
use std::sync::Arc;

use super::args::{DigestFiles, OutputSpec};
use super::build::write_file;
use super::progress::Progress;
use super::registry::{self, LazyClient};
use super::report::Failure;
use super::request::BuildRequest;
use super::{names, print};
use crate::oci::Reference;
use crate::progress::{Event, Sink};
use crate::store::{Image, Store};

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

    /// Returns all that goes to registries.
    pub(super) fn pushed(&self) -> impl Iterator<Item = &Reference> {
        self.tagged.iter().chain(&self.by_digest)
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
    store: &Store,
    client: &LazyClient<'_>,
    image: &Image,
    tags: &[String],
    progress: &Arc<Progress>,
) -> Result<(), Failure> {
    let digest = image.digest.to_string();
    let names = ImageNames::of(request, tags)?;
    // A build that fails tags nothing. A push that fails leaves the image here, to be pushed again.
    store.tag(&names.stored, &image.descriptor())?;
    if !names.tagged.is_empty() {
        registry::push(image, store, client.get()?, &names.tagged, progress.as_ref())?;
    }
    if !names.by_digest.is_empty() {
        let untagged: Result<Vec<_>, _> =
            names.by_digest.iter().map(|name| Reference::parse(&format!("{}@{digest}", name.name()))).collect();
        registry::push(image, store, client.get()?, &untagged?, progress.as_ref())?;
    }
    // Last of all: who finds these may count on the image being where it should be.
    write_files(request, image, &names)?;
    let what = if names.stored.is_empty() { "image".to_owned() } else { names.stored.join(", ") };
    progress.emit(Event::Exported { what, digest: Some(digest.clone()) });
    progress.finish();
    if request.stdout_is_taken() { Ok(()) } else { print(&format!("{digest}\n")) }
}

fn write_files(request: &BuildRequest, image: &Image, names: &ImageNames) -> Result<(), Failure> {
    let digest = image.digest.to_string();
    if let Some(path) = &request.iidfile {
        write_file(path, digest.as_bytes())?;
    }
    if let Some(path) = &request.metadata_file {
        let metadata = serde_json::json!({
            "containerimage.config.digest": image.config_digest(),
            "containerimage.descriptor": image.descriptor(),
            "containerimage.digest": digest,
            "image.name": names.told(&digest).join(","),
        });
        let text = serde_json::to_string_pretty(&metadata).expect("strings always serialise") + "\n";
        write_file(path, text.as_bytes())?;
    }
    let DigestFiles { digest: alone, name, name_and_tag } = &request.digest_files;
    let references: Vec<Reference> = names.stored.iter().filter_map(|name| Reference::parse(name).ok()).collect();
    let lines = |text: &dyn Fn(&Reference) -> String| -> String {
        references.iter().map(|name| format!("{}@{digest}\n", text(name))).collect()
    };
    let write = |path: &Option<std::path::PathBuf>, text: String| match path {
        Some(path) => write_file(path as &Path, text.as_bytes()),
        None => Ok(()),
    };
    write(alone, digest.clone())?;
    write(name, lines(&|name| name.name()))?;
    write(name_and_tag, lines(&|name| name.to_string()))
}
