//! Flags of `coracle bundle`, and of builds from one.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::{Assignment, DoorArgs, NamedArgs, RegistryArgs};
use crate::oci::Platform;

/// `coracle bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: BundleVerb,
}

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub enum BundleVerb {
    /// Write all that a Dockerfile names elsewhere into an archive
    Create(Box<BundleCreateArgs>),
    /// List what a bundle holds
    #[command(visible_alias = "inspect")]
    Ls(BundleLsArgs),
}

/// Flags of `coracle bundle create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  coracle bundle create .                             bundle.tar, for this machine's platform
  coracle bundle create --platform linux/amd64,linux/arm64 -o web.tar .
  coracle build --bundle bundle.tar .                 where there is no network

It holds each image that the Dockerfile names, each URL of ADD and each Git repository at its commit: as the lock beside the
Dockerfile says, where there is one, and what that does not have as it is now.")]
pub struct BundleCreateArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "bundle.tar")]
    pub output: PathBuf,
    /// Instructions [default: Containerfile or Dockerfile of CONTEXT]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only what this stage needs [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = NonEmptyStringValueParser::new())]
    pub target: Option<String>,
    /// Set an ARG, or hand on a variable of here; can be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<Assignment>,
    /// For builds on these platforms: a,b [default: this machine's]
    #[arg(long = "platform", value_name = "PLATFORMS", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// The folder of the build
    pub context: PathBuf,
    /// What has a name.
    #[command(flatten)]
    pub named: NamedArgs,
    /// What opens doors.
    #[command(flatten)]
    pub doors: DoorArgs,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle bundle ls`.
#[derive(Debug, Args)]
pub struct BundleLsArgs {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// The bundle
    pub file: PathBuf,
}
