//! What a build made, as it goes out: an image, or an index of images.

use super::args::Look;
use super::dress::Dresser;
use super::report::Failure;
use crate::build::Built;
use crate::oci::{Digest, Platform};
use crate::output::content::Content;

/// What a build made. It is in the store, without a name.
#[derive(Debug)]
pub(super) struct Product {
    /// For each platform, what was made for it: at least one.
    pub built: Vec<Built>,
    /// The image, or the index with all images.
    pub content: Content,
}

impl Product {
    /// Returns what is made of the images in `built`, as the whole build wants it: an index of them, or the only one.
    pub fn new(built: Vec<Built>, dresser: &Dresser<'_>) -> Result<Self, Failure> {
        let content = dresser.content(&built, &Look::default())?;
        Ok(Product { built, content })
    }

    /// Returns the digest of the image's configuration; `None` for an index.
    pub fn config_digest(&self) -> Option<Digest> {
        let mut configs = self.content.configs.keys();
        configs.next().copied().filter(|_| !self.content.is_index())
    }

    /// Returns for each image the folder in which its files lie beside those of the others; `None` where there is only one.
    pub fn folders(&self) -> impl Iterator<Item = (Option<String>, &Built)> {
        let is_index = self.content.is_index();
        self.built.iter().map(move |built| (is_index.then(|| folder(&built.image.config.platform)), built))
    }
}

/// Returns the folder of a platform: as with BuildKit.
fn folder(platform: &Platform) -> String {
    platform.normalised().to_string().replace('/', "_")
}
