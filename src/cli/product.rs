//! What a build made, as it goes out: an image, or an index of images.

use super::report::Failure;
use crate::build::Built;
use crate::oci::Platform;
use crate::output::content::Content;
use crate::output::index;
use crate::store::{Image, Store};

/// What a build made. It is in the store, without a name.
#[derive(Debug)]
pub(super) struct Product {
    /// For each platform, what was made for it: at least one.
    pub built: Vec<Built>,
    /// The image, or the index with all images.
    pub content: Content,
}

impl Product {
    /// Returns what is made of the images in `built`: an index of them, or the only one.
    pub fn new(built: Vec<Built>, form: Form, store: &Store) -> Result<Self, Failure> {
        let content = match form {
            Form::Image => Content::of_image(&built[0].image),
            Form::Index => {
                let images: Vec<&Image> = built.iter().map(|built| &built.image).collect();
                let members = images.iter().map(|image| {
                    let mut member = image.descriptor();
                    member.set_platform(Some(index::platform_of(&image.config)));
                    member
                });
                let (top, bytes) = index::join(&members.collect::<Vec<_>>(), &[])?;
                store.put_blob(&bytes)?;
                Content::of_index(&images, top, bytes)
            }
        };
        Ok(Product { built, content })
    }

    /// Returns the image; `None` for an index.
    pub fn image(&self) -> Option<&Image> {
        match &self.built[..] {
            [built] if !self.content.is_index() => Some(&built.image),
            _ => None,
        }
    }

    /// Returns for each image the folder in which its files lie beside those of the others; `None` where there is only one.
    pub fn folders(&self) -> impl Iterator<Item = (Option<String>, &Built)> {
        let is_index = self.content.is_index();
        self.built.iter().map(move |built| (is_index.then(|| folder(&built.image.config.platform)), built))
    }
}

/// What becomes of the images of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// There is one, and it is the result.
    Image,
    /// An index of them is the result.
    Index,
}

/// Returns the folder of a platform: as with BuildKit.
fn folder(platform: &Platform) -> String {
    platform.normalised().to_string().replace('/', "_")
}
