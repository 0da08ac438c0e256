//! What a build made, as it goes out: an image, or an index of images.

use serde_json::Value;

use super::args::Look;
use super::dress::Dresser;
use super::report::Failure;
use super::request::BuildRequest;
use crate::build::{Built, Times};
use crate::oci::{Digest, Platform};
use crate::output::content::Content;

/// What a build made. It is in the store, without a name.
#[derive(Debug)]
pub(super) struct Product {
    /// For each platform, what was made for it: at least one.
    pub built: Vec<Built>,
    /// The image, or the index with all images.
    pub content: Content,
    /// Whether its files are apart by platform.
    by_platform: bool,
    /// For each image, files with what is said about it, for outputs of files: their names, and what is in them.
    pub notes: Vec<Vec<(String, Vec<u8>)>>,
    /// How each image was made, where that is to be said.
    provenance: Vec<Value>,
    /// What becomes of the times of files.
    pub times: Times,
}

impl Product {
    /// Returns what is made of the images in `built`, as the whole build wants it: an index of them, or the only one.
    pub fn new(
        built: Vec<Built>,
        dresser: &Dresser<'_>,
        (request, provenance): (&BuildRequest, Vec<Value>),
        times: Times,
    ) -> Result<Self, Failure> {
        let content = dresser.content(&built, &Look::default())?;
        let by_platform = request.platforms.make_index();
        let images = content.images();
        let note = |(at, built): (usize, &Built)| {
            let platform = built.image.config.platform.normalised();
            // As it goes out it may look otherwise than it was built.
            let digest = images.get(at).copied().unwrap_or(built.image.digest);
            let subjects = dresser.subjects(&platform);
            let files = dresser.claims(at).iter().filter_map(|claim| Some((claim.file.clone()?, claim)));
            files.map(|(file, claim)| (file, claim.statement(&subjects, &digest))).collect()
        };
        let notes = built.iter().enumerate().map(note).collect();
        Ok(Product { built, content, by_platform, notes, provenance, times })
    }

    /// Returns the digest of the image's configuration; `None` for an index.
    pub fn config_digest(&self) -> Option<Digest> {
        let mut configs = self.content.configs.keys();
        configs.next().copied().filter(|_| !self.content.is_index())
    }

    /// Returns what the metadata say of how the images were made: a key and a value for each.
    pub fn provenance(&self) -> impl Iterator<Item = (String, &Value)> {
        let key = |built: &Built| match self.by_platform {
            true => format!("buildx.build.provenance/{}", built.image.config.platform.normalised()),
            false => "buildx.build.provenance".to_owned(),
        };
        self.built.iter().zip(&self.provenance).map(move |(built, value)| (key(built), value))
    }

    /// Returns for each image the folder in which its files lie beside those of the others; `None` where there is none: `split` says
    /// so, else only one image has none.
    pub fn folders(&self, split: Option<bool>) -> impl Iterator<Item = (Option<String>, &Built)> {
        let split = split.unwrap_or(self.by_platform);
        self.built.iter().map(move |built| (split.then(|| folder(&built.image.config.platform)), built))
    }
}

/// Returns the folder of a platform: as with BuildKit.
fn folder(platform: &Platform) -> String {
    platform.normalised().to_string().replace('/', "_")
}
