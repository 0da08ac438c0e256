//! Images that are not there, and what is asked of them.

use super::{Classify, ExitStatus};
use crate::cli::template::TemplateError;
use crate::output::index::IndexError;

/// No image has the name that the user gave.
#[derive(Debug, thiserror::Error)]
#[error("there is no image {name:?} in the store")]
pub struct NoImage {
    /// The name.
    pub name: String,
}

impl Classify for NoImage {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Failed
    }

    fn hint(&self) -> Option<String> {
        Some("`coracle images` lists those that are".into())
    }
}

impl Classify for TemplateError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("`--format '{{json .}}'` prints all that there is".into())
    }
}

/// Something about an image that was asked for is not there, or not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// A filter that nobody knows.
    #[error("there is no filter {key:?}: there are dangling, label, reference, before, since and until")]
    Filter {
        /// Its key.
        key: String,
    },
    /// A filter with a value that makes no sense.
    #[error("the filter {key}={value:?} makes no sense: {why}")]
    FilterValue {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// A list would be an image, too.
    #[error("{name} cannot be the image and the list that it is added to: give --tag or --manifest another name")]
    ListIsTag {
        /// The name.
        name: String,
    },
    /// A list is to be made, and there is an image or a list of that name.
    #[error("there is {name} already")]
    ListExists {
        /// Its name.
        name: String,
    },
    /// Images of an index are not in the store.
    #[error("not all of {image} is in the store: there is none of it for {}", missing.join(", "))]
    NotWhole {
        /// The index.
        image: String,
        /// The platforms that are missing.
        missing: Vec<String>,
    },
    /// There is no index.
    #[error("{image} is one image, not an index of several")]
    NoIndex {
        /// The image.
        image: String,
    },
    /// An archive would have to be typed.
    #[error("standard input is a terminal: no archive comes from there")]
    TypedArchive,
    /// What refers to an image is known in its registry only.
    #[error("what refers to an image is known in its registry only: docker://NAME")]
    NoReferrers,
}

impl Classify for IndexError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            IndexError::NotAnIndex => ExitStatus::Input,
            _ => ExitStatus::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            IndexError::NoPlatform { .. } => Some("say it with --os and --arch".into()),
            IndexError::Doubled { .. } => Some(
                "`coracle manifest remove` takes one of them out; --variant or --os-version tells them apart".into(),
            ),
            _ => None,
        }
    }
}

impl Classify for ImageProblem {
    fn exit_status(&self) -> ExitStatus {
        match self {
            ImageProblem::ListExists { .. } | ImageProblem::NotWhole { .. } => ExitStatus::Failed,
            _ => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ImageProblem::TypedArchive => Some("name a file with --input FILE, or redirect the input".into()),
            ImageProblem::ListExists { .. } => Some("--amend changes a list that is there".into()),
            ImageProblem::NotWhole { image, .. } => Some(format!(
                "`coracle pull --all {image}` brings the rest in; without --all the image for one platform is taken"
            )),
            _ => None,
        }
    }
}
