//! What is meant: a [`Request`] for each verb, with absolute paths and checked values, worked out from the arguments and
//! the [`Environment`] by a pure function.

mod around;
mod attest;
mod build;
mod bundle;
mod caches;
mod call;
mod changes;
mod error;
mod images;
mod limits;
mod lock;
mod look;
mod manifest;
mod network;
mod platforms;
mod prune;
mod registry;
mod remote_cache;
mod run;
mod sources;
mod volumes;

pub use around::{GivenRequest, SecretFrom};
pub use attest::AttestRequest;
pub use build::BuildRequest;
pub use bundle::{BundleCreateRequest, BundleLsRequest};
pub use caches::CacheRequest;
pub use call::{PlanStatus, Task};
pub use changes::Changes;
pub use error::UsageError;
pub use images::{
    CopyRequest, DiffRequest, Form, HistoryRequest, ImagesRequest, InspectRequest, LoadRequest, RmiRequest,
    SaveRequest, TagRequest, UntagRequest,
};
pub use lock::{LockRequest, NeedsRequest};
pub use manifest::{ManifestAct, ManifestRequest, platform_of as member_platform};
pub use network::NetworkRequest;
pub use platforms::Platforms;
pub use prune::{DfRequest, PruneRequest};
pub use registry::{LoginAction, LoginRequest, LogoutRequest, PasswordFrom, RegistryRequest};
pub use remote_cache::CacheTarget;
pub use run::RunRequest;
pub use sources::{DockerfileFrom, SourcesRequest};
pub use volumes::HostRequest;

use around::{around, cache_dir, given};
use limits::limits;

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::{BundleArgs, BundleVerb, Cli, ContextArgs, ContextVerb, Location, PullPolicy, Verb};
use super::environment::Environment;
use super::template::Template;
use crate::output::content::Selection;

/// What coracle is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Build an image.
    Build(Box<BuildRequest>),
    /// Write a lock.
    Lock(Box<LockRequest>),
    /// Write a bundle.
    BundleCreate(Box<BundleCreateRequest>),
    /// List a bundle.
    BundleLs(BundleLsRequest),
    /// Run a command in a container.
    Run(Box<RunRequest>),
    /// Bring an image into the store.
    Pull(PullRequest),
    /// Write an image somewhere else.
    Push(PushRequest),
    /// Copy an image.
    Copy(CopyRequest),
    /// Write images into an archive.
    Save(SaveRequest),
    /// Bring the images of an archive in.
    Load(LoadRequest),
    /// Keep credentials.
    Login(LoginRequest),
    /// Forget credentials.
    Logout(LogoutRequest),
    /// List the images.
    Images(ImagesRequest),
    /// Show a document of an image.
    Inspect(InspectRequest),
    /// Show the steps that made an image.
    History(HistoryRequest),
    /// Give an image more names.
    Tag(TagRequest),
    /// Take names from images.
    Untag(UntagRequest),
    /// Remove names, or images by their digests.
    Rmi(RmiRequest),
    /// Say in what two images differ.
    Diff(Box<DiffRequest>),
    /// Make and change lists of images.
    Manifest(Box<ManifestRequest>),
    /// Remove what no image needs.
    Prune(PruneRequest),
    /// List, remove, export and import cache mounts.
    Cache(CacheRequest),
    /// Show what takes how much of the disk.
    Df(DfRequest),
    /// List a context.
    ContextLs(Box<ContextLsRequest>),
    /// Show the version.
    Version(VersionRequest),
    /// Show what this machine allows.
    Doctor(DoctorRequest),
    /// See [`InfoRequest`].
    Info(InfoRequest),
    /// See [`UnshareRequest`].
    Unshare(UnshareRequest),
}

/// `coracle pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// Where the image is; its path is absolute.
    pub source: Location,
    /// The same as it was written, without `docker://`.
    pub written: String,
    /// The name that it gets, not empty; `None` for the one that the source gives it.
    pub name: Option<String>,
    /// When a registry is asked.
    pub policy: PullPolicy,
    /// Whether all tags of the repository are meant.
    pub all_tags: bool,
    /// Which images of an index.
    pub selection: Selection,
    /// Whether the digest is all that is told.
    pub quiet: bool,
    /// How registries are talked to.
    pub registry: RegistryRequest,
}

/// `coracle push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// Whether all names in the repository are meant.
    pub all_tags: bool,
    /// Where it goes; its path is absolute. `None` for the registry that its name says.
    pub destination: Option<Location>,
    /// Which images of an index; `None` for that of this machine, whatever others there are.
    pub selection: Option<Selection>,
    /// The file for the digest of the manifest, absolute.
    pub digest_file: Option<PathBuf>,
    /// Whether the digest is all that is told.
    pub quiet: bool,
    /// What the image looks like there; of what is not said it stays as it is.
    pub look: crate::cli::args::Look,
    /// How registries are talked to.
    pub registry: RegistryRequest,
}

/// What is listed of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The folders, by size.
    Folders,
    /// All files.
    Files,
    /// What is left out.
    Ignored,
    /// All of it, as JSON.
    Json,
}

/// `coracle context ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextLsRequest {
    /// The folder of the store, or why there is none: only some contexts need it.
    pub root: Result<PathBuf, UsageError>,
    /// The context.
    pub sources: SourcesRequest,
    /// What is shown.
    pub listing: Listing,
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

/// `coracle info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// How it is printed.
    pub form: InfoForm,
}

/// How `coracle info` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfoForm {
    /// Lines for people.
    Lines,
    /// A JSON object.
    Json,
    /// What a template makes of that.
    Template(Template),
}

/// `coracle unshare`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnshareRequest {
    /// A folder that is there: namespaces are tried on its file system.
    pub place: PathBuf,
    /// The command.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Request {
    /// Returns what `cli` means in `environment`.
    ///
    /// # Errors
    /// [`UsageError`] for what can not be meant.
    pub fn new(cli: Cli, environment: &Environment) -> Result<Self, UsageError> {
        let root = environment.root(cli.root.as_deref());
        Ok(match cli.verb {
            Verb::Build(args) => Request::Build(Box::new(BuildRequest::new(*args, root?, environment)?)),
            Verb::Lock(args) => Request::Lock(Box::new(LockRequest::new(*args, root?, environment)?)),
            Verb::Bundle(BundleArgs { verb: BundleVerb::Create(args) }) => {
                Request::BundleCreate(Box::new(BundleCreateRequest::new(*args, root?, environment)?))
            }
            Verb::Bundle(BundleArgs { verb: BundleVerb::Ls(args) }) => {
                Request::BundleLs(BundleLsRequest::new(args, environment)?)
            }
            Verb::Run(args) => Request::Run(Box::new(RunRequest::new(*args, root?, environment)?)),
            Verb::Copy(args) => Request::Copy(CopyRequest::new(args, root?, environment)?),
            Verb::Save(args) => Request::Save(SaveRequest::new(args, root?, environment)?),
            Verb::Load(args) => Request::Load(LoadRequest::new(args, root?, environment)?),
            Verb::Images(args) => Request::Images(ImagesRequest::new(args, root?)?),
            Verb::Inspect(args) => Request::Inspect(InspectRequest::new(args, root?, environment)?),
            Verb::History(args) => Request::History(HistoryRequest::new(args, root?)?),
            Verb::Pull(args) => Request::Pull(PullRequest::new(args, root?, environment)?),
            Verb::Push(args) => Request::Push(PushRequest::new(args, root?, environment)?),
            Verb::Login(args) => Request::Login(LoginRequest::new(args, environment)?),
            Verb::Logout(args) => Request::Logout(LogoutRequest::new(args, environment)?),
            Verb::Tag(args) => Request::Tag(TagRequest { root: root?, name: args.name, new: args.new }),
            Verb::Untag(args) => Request::Untag(UntagRequest { root: root?, names: args.names }),
            Verb::Rmi(args) => {
                let names = if args.all { None } else { Some(args.names) };
                Request::Rmi(RmiRequest { root: root?, names, ignore: args.ignore })
            }
            Verb::Diff(args) => Request::Diff(Box::new(DiffRequest::new(args, root?, environment)?)),
            Verb::Manifest(args) => Request::Manifest(Box::new(ManifestRequest::new(args, root?, environment)?)),
            Verb::Prune(args) => Request::Prune(PruneRequest::new(args, root?)?),
            Verb::Cache(args) => Request::Cache(CacheRequest::new(args, root?, environment)?),
            Verb::Df(args) => Request::Df(DfRequest { root: root?, json: args.json }),
            Verb::Context(ContextArgs { verb: ContextVerb::Ls(args) }) => {
                let listing = match (args.json, args.all, args.ignored) {
                    (true, ..) => Listing::Json,
                    (_, true, _) => Listing::Files,
                    (_, _, true) => Listing::Ignored,
                    _ => Listing::Folders,
                };
                let context = args.context.unwrap_or_else(|| ".".into());
                let sources = SourcesRequest::new(args.sources, &context, environment)?;
                Request::ContextLs(Box::new(ContextLsRequest { root, sources, listing }))
            }
            Verb::Version(args) => Request::Version(VersionRequest { json: args.json }),
            Verb::Info(args) => {
                let template = args.format.as_deref().map(images::parse).transpose()?;
                let plain = if args.json { InfoForm::Json } else { InfoForm::Lines };
                Request::Info(InfoRequest { root: root?, form: template.map_or(plain, InfoForm::Template) })
            }
            Verb::Unshare(args) => {
                let shell = || environment.var("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".as_ref());
                let mut words = args.command.into_iter();
                let program = words.next().unwrap_or_else(|| shell().to_owned());
                let place = root.unwrap_or_else(|_| environment.temp_dir());
                Request::Unshare(UnshareRequest { place, program, arguments: words.collect() })
            }
            Verb::Doctor(args) => {
                let colour = environment.stdout_is_terminal && environment.colour();
                Request::Doctor(DoctorRequest { root, temp: environment.temp_dir(), json: args.json, colour })
            }
        })
    }
}

#[cfg(test)]
mod tests;
