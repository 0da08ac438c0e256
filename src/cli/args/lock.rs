//! Flags of `coracle lock`, and of builds that use what it wrote.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{AgentSpec, Assignment, NamedArgs, RegistryArgs, SecretSpec};
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
    /// As for a build for these platforms
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',')]
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

/// What is shown to servers that do not give to everybody.
#[derive(Debug, Clone, Default, Args)]
pub struct DoorArgs {
    /// A token for ADD, as of a build: id=HTTP_AUTH_TOKEN_host,src=FILE; can be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<SecretSpec>,
    /// An ssh agent for ADD: default, or default=SOCKET
    #[arg(long = "ssh", value_name = "NAME[=SOCKET]")]
    pub ssh: Vec<AgentSpec>,
}

/// What a build takes images, URLs and Git repositories from, in place of what their names lead to now.
#[derive(Debug, Clone, Default, Args)]
pub struct PinnedArgs {
    /// Use what the lock beside the Dockerfile says, and nothing else
    #[arg(long)]
    pub locked: bool,
    /// Take images, URLs and Git commits from this bundle alone
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}
