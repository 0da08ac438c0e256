//! Flags of `coracle lock`, and of builds that use what it wrote.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Assignment, NamedArgs, RegistryArgs};
use crate::oci::Platform;

/// Flags of `coracle lock`.
#[derive(Debug, Args)]
#[command(after_help = "\
It writes NAME.lock beside the Dockerfile NAME: each image that it names with its digest, each URL of ADD with that of its
content, each Git repository with a commit. `coracle build --locked` uses exactly these.")]
pub struct LockArgs {
    /// Instructions [default: Containerfile or Dockerfile of CONTEXT]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Look for all of it anew, and say what has changed
    #[arg(long)]
    pub update: bool,
    /// Only what this stage needs [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = NonEmptyStringValueParser::new())]
    pub target: Option<String>,
    /// Set an ARG, or hand on a variable of here; can be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<Assignment>,
    /// As for a build on this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,
    /// The folder of the build
    pub context: PathBuf,
    /// What has a name.
    #[command(flatten)]
    pub named: NamedArgs,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// What a build takes images, URLs and Git repositories from, in place of what their names lead to now.
#[derive(Debug, Clone, Default, Args)]
pub struct PinnedArgs {
    /// Use what the lock beside the Dockerfile says, and nothing else
    #[arg(long)]
    pub locked: bool,
}
