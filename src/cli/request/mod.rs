//! What is meant: a [`Request`] for each verb, with absolute paths and checked values, worked out from the arguments and
//! the [`Environment`] by a pure function.

mod build;
mod error;
mod limits;
mod run;

pub use build::{BuildRequest, DockerfileFrom};
pub use error::UsageError;
pub use run::RunRequest;

use limits::limits;

use std::path::PathBuf;

use super::args::{Cli, Document, Location, Verb};
use super::environment::Environment;

/// What coracle is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Build an image.
    Build(Box<BuildRequest>),
    /// Run a command in a container.
    Run(RunRequest),
    /// Bring an image into the store.
    Pull(PullRequest),
    /// Write an image somewhere else.
    Push(PushRequest),
    /// List the images.
    Images(ImagesRequest),
    /// Show a document of an image.
    Inspect(InspectRequest),
    /// Show the steps that made an image.
    History(HistoryRequest),
    /// Give an image one more name.
    Tag(TagRequest),
    /// Remove names.
    Rmi(RmiRequest),
    /// Remove what no image needs.
    Prune(PruneRequest),
    /// Show the version.
    Version(VersionRequest),
    /// Show what this machine allows.
    Doctor(DoctorRequest),
}

/// `coracle pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// Where the image is; its path is absolute.
    pub source: Location,
    /// The name that it gets, not empty; `None` for the one that the source gives it.
    pub name: Option<String>,
}

/// `coracle push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// Where it goes; its path is absolute.
    pub destination: Location,
}

/// How a list of images is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// Ids alone, a line each.
    Ids,
}

/// `coracle images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// How to print them.
    pub form: Form,
}

/// `coracle inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// Which document.
    pub document: Document,
}

/// `coracle history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// [`Form::Table`] or [`Form::Json`].
    pub form: Form,
    /// Whether commands and digests are shown in full.
    pub full: bool,
}

/// `coracle tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// Its further name, not empty.
    pub new: String,
}

/// `coracle rmi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmiRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// At least one name, none empty.
    pub names: Vec<String>,
}

/// `coracle prune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// Whether the build cache goes too.
    pub cache_too: bool,
    /// Whether to print JSON.
    pub json: bool,
}

/// `coracle version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRequest {
    /// Whether to print JSON.
    pub json: bool,
}

/// `coracle doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorRequest {
    /// The folder of the store, or why there is none: something for doctor to tell.
    pub root: Result<PathBuf, UsageError>,
    /// Where to try things if there is no such folder; absolute.
    pub temp: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether a person reads it on a terminal with colours.
    pub colour: bool,
}

impl Request {
    /// Returns what `cli` means in `environment`.
    ///
    /// # Errors
    /// [`UsageError`] for what can not be meant.
    pub fn new(cli: Cli, environment: &Environment) -> Result<Self, UsageError> {
        let root = environment.root(cli.root.as_deref());
        let located = |mut location: Location| {
            if let Some(path) = location.path_mut() {
                *path = environment.absolute(path)?;
            }
            Ok(location)
        };
        Ok(match cli.verb {
            Verb::Build(args) => Request::Build(Box::new(BuildRequest::new(*args, root?, environment)?)),
            Verb::Run(args) => Request::Run(RunRequest::new(args, root?, environment)?),
            Verb::Pull(args) => {
                Request::Pull(PullRequest { root: root?, source: located(args.source)?, name: args.name })
            }
            Verb::Push(args) => {
                Request::Push(PushRequest { root: root?, name: args.name, destination: located(args.destination)? })
            }
            Verb::Images(args) => {
                let form = match (args.json, args.quiet) {
                    (true, _) => Form::Json,
                    (_, true) => Form::Ids,
                    _ => Form::Table,
                };
                Request::Images(ImagesRequest { root: root?, form })
            }
            Verb::Inspect(args) => {
                Request::Inspect(InspectRequest { root: root?, name: args.name, document: args.document })
            }
            Verb::History(args) => {
                let form = if args.json { Form::Json } else { Form::Table };
                Request::History(HistoryRequest { root: root?, name: args.name, form, full: args.no_trunc })
            }
            Verb::Tag(args) => Request::Tag(TagRequest { root: root?, name: args.name, new: args.new }),
            Verb::Rmi(args) => Request::Rmi(RmiRequest { root: root?, names: args.names }),
            Verb::Prune(args) => Request::Prune(PruneRequest { root: root?, cache_too: args.all, json: args.json }),
            Verb::Version(args) => Request::Version(VersionRequest { json: args.json }),
            Verb::Doctor(args) => {
                let colour = environment.stdout_is_terminal && environment.colour();
                Request::Doctor(DoctorRequest { root, temp: environment.temp_dir(), json: args.json, colour })
            }
        })
    }
}

#[cfg(test)]
mod tests;
