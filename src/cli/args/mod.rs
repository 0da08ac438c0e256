//! What was typed: verbs and flags, as clap parses them. It reads no environment and touches no file; what it all
//! means is worked out by [`Request`](super::request::Request).

mod around;
mod attest;
mod build;
mod bundle;
mod cache;
mod cache_spec;
mod caches;
mod call;
mod changes;
mod container;
mod host;
mod images;
mod kaniko;
mod kaniko_registries;
mod limits;
mod lock;
mod look;
mod manifest;
mod output;
mod platform;
mod prune;
mod registry;
mod sources;
mod unbuilt;
mod value;
mod volumes;

pub use around::{
    AgentSpec, AroundArgs, AroundError, CapabilityName, DnsServer, DnsWord, FailureAction, GivenArgs, HostEntry,
    NetworkMode, SecretSpec,
};
pub use attest::{
    AttestArgs, AttestError, AttestSpec, Mode as ProvenanceMode, Provenance, ProvenanceFlag, Sbom, SbomFlag, Slsa,
};
pub use build::{BuildArgs, Isolation, PullPolicy};
pub use bundle::{BundleArgs, BundleCreateArgs, BundleLsArgs, BundleVerb};
pub use cache::{Age, CacheArgs, CacheFailure, CacheFrom, CacheSpecError, CacheTo};
pub use cache_spec::{ActionsSpec, CacheSpec, S3Spec};
pub use caches::{CacheExportArgs, CacheImportArgs, CacheLsArgs, CachePruneArgs, CacheRmArgs, CacheVerb, CachesArgs};
pub use call::{Call, CallArgs, CallError, Method, PrintForm};
pub use changes::{AnywayArgs, ChangeArgs};
pub use container::{HostArgs, HostError, PortSpec, VolumeSpec};
pub use host::{InfoArgs, UnshareArgs};
pub use images::{
    ArchiveName, CopyArgs, DiffArgs, Document, Filter, FormName, HistoryArgs, ImagesArgs, InspectArgs, LoadArgs, Named,
    RmiArgs, SaveArgs, SortKey, TagArgs, UntagArgs,
};
pub use kaniko::{DigestFiles, KanikoArgs, KanikoError, fold};
pub use limits::{LimitArgs, LimitError, SwapSize};
pub use look::{Annotation, AnnotationSpec, Level, Look, LookArgs, LookError, PushLookArgs};
pub use manifest::{DetailArgs, ManifestArgs, ManifestVerb};
pub use output::{Destination, FilesOutput, FolderMode, ImageOutput, OutputError, OutputSpec, is_stdout};
pub use platform::{PartArgs, PlatformArgs};
pub use prune::PruneArgs;
pub use registry::{LoginArgs, LogoutArgs, PullArgs, PushArgs, RegistryArgs, Source, Time};
pub use sources::{ContextArgs, ContextLsArgs, ContextVerb, NamedArgs, SourceArgs};
pub use value::{Assignment, Timestamp, ValueError};
pub use volumes::{BuildHostArgs, BuildVolume, DeviceSpec, VolumeUse};

pub use crate::input::{ContextLocation, NamedContext, NamedLocation};
pub use crate::layer::Compression;
pub use crate::output::Location;

pub use lock::{DoorArgs, LockArgs, PinnedArgs};

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    about = "Builds container images without a daemon, without root, and without asking the administrator for anything",
    after_help = EXAMPLES,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The store [default: $CORACLE_ROOT, or coracle in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub root: Option<PathBuf>,
    /// Print this help
    // Of our own: that of clap prints a longer form for --help, with six lines a flag.
    #[arg(short, long, global = true, action = ArgAction::HelpShort, help_heading = "Everywhere")]
    help: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  coracle pull busybox                           bring a base image in: FROM does it too
  coracle build -t web:1 .                       build the Dockerfile of this folder
  coracle run --rm web:1                         try it
  coracle push web:1 registry.example/web:1      hand it on
  coracle doctor                                 see what this machine allows
  coracle help build                             the flags of a verb

The store is the folder that --root names, else $CORACLE_ROOT, else $XDG_DATA_HOME/coracle, else
$HOME/.local/share/coracle.

Exit status: 0 done, 1 the build failed, 2 usage, 3 an input is bad, 4 network, 5 store,
6 this machine cannot do it, 10 a plan misses, 125 a fault of coracle, 130 interrupted";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Write down what a Dockerfile names elsewhere, as it is now
    Lock(Box<LockArgs>),
    /// Take what a Dockerfile names elsewhere to where there is no network
    Bundle(BundleArgs),
    /// Run a command in a new container of an image
    Run(Box<RunArgs>),
    /// Bring an image into the store
    Pull(PullArgs),
    /// Write an image of the store somewhere else
    Push(PushArgs),
    /// Copy an image from one place to another as it is
    Copy(CopyArgs),
    /// Write images of the store into an archive
    Save(SaveArgs),
    /// Bring the images of an archive into the store
    Load(LoadArgs),
    /// Keep credentials for a registry
    Login(LoginArgs),
    /// Forget credentials for a registry
    Logout(LogoutArgs),
    /// List the images in the store
    Images(ImagesArgs),
    /// Show what an image says about itself
    Inspect(InspectArgs),
    /// Show the steps that made an image
    History(HistoryArgs),
    /// Show in what two images differ
    Diff(DiffArgs),
    /// Give an image more names
    Tag(TagArgs),
    /// Take names from images
    Untag(UntagArgs),
    /// Remove images: their names; `prune` takes what has none
    Rmi(RmiArgs),
    /// Make and change lists of images for several platforms
    Manifest(ManifestArgs),
    /// Remove what no image needs
    Prune(PruneArgs),
    /// List, remove, prune, export and import cache mounts
    Cache(CachesArgs),
    /// Show what takes how much of the disk
    Df(JsonArgs),
    /// Look at what a build can see
    Context(ContextArgs),
    /// Run a command with the ids that steps have
    Unshare(UnshareArgs),
    /// Show the version
    Version(JsonArgs),
    /// Show the store, this machine and what a build will use
    Info(InfoArgs),
    /// Show what this machine allows, and how to get more
    Doctor(JsonArgs),
}

/// Flags of `coracle run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "coracle run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "\
Examples:
  coracle run web:1                                what the image says
  coracle run --rm -e PORT=8080 web:1 serve --all  another command, with a variable
  coracle run --entrypoint sh web:1 -c 'ls -l /'   another program

All behind IMAGE belongs to the command. --entrypoint takes a path, a JSON array of strings, or \"\" for none.
The container uses the host's network. Signals reach the command, and its exit status is coracle's."
)]
pub struct RunArgs {
    /// Remove the container when it ends: so it is in any case
    #[arg(long)]
    pub rm: bool,
    /// Pass standard input on: so it is in any case
    #[arg(short, long)]
    pub interactive: bool,
    /// Set a variable, or hand one of here on; can be repeated
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<Assignment>,
    /// Start in DIR, an absolute path in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Run as USER: a name or number, and a group behind a colon
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Run this in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// The image, the command and its arguments
    // One positional for both: with two, clap would still take flags of ours from between them.
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub image_and_command: Vec<OsString>,
    /// What it may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What is around it.
    #[command(flatten)]
    pub around: AroundArgs,
    /// What of the host it sees.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Flags of the verbs that only know `--json`.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Returns what `args`, program name first, say.
///
/// # Errors
/// clap's error, which is also how `--help` and `--version` come back. A flag that users of docker or buildah expect
/// and coracle lacks is said to be not supported yet.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args = help_as_a_flag(args.into_iter().collect());
    Cli::try_parse_from(&args).map_err(|error| unbuilt::explain(error, &args))
}

/// Turns `help VERB` into `VERB --help`: clap's own verb prints a longer form, with six lines a flag.
fn help_as_a_flag(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_none_or(|verb| verb != "help") {
        return args;
    }
    args.remove(1);
    // What comes after the verbs goes: `run` and `unshare` would take it for a command.
    let root = Cli::command();
    let (mut command, mut words) = (&root, 1);
    while let Some(word) = args.get(words).filter(|_| command.has_subcommands()) {
        if word.as_encoded_bytes().starts_with(b"-") {
            break;
        }
        words += 1;
        let Some(verb) = command.find_subcommand(word) else { break };
        command = verb;
    }
    args.truncate(words);
    args.push("--help".into());
    args
}

#[cfg(test)]
mod tests;
