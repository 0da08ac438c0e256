//! Flags about what a build reads: the Dockerfile, the context, folders and images with a name.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::NamedContext;

/// Flags about what is read.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// Instructions [default: Containerfile or Dockerfile of CONTEXT]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Leave out what FILE says, in place of .dockerignore
    #[arg(long = "ignorefile", value_name = "FILE")]
    pub ignore_file: Option<PathBuf>,
    /// Take only this folder of CONTEXT
    #[arg(long = "context-sub-path", value_name = "DIR", value_parser = NonEmptyStringValueParser::new())]
    pub below: Option<String>,
}

/// Flags about what has a name.
#[derive(Debug, Clone, Default, Args)]
pub struct NamedArgs {
    /// Name files or an image for FROM and --from; can be repeated
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    pub contexts: Vec<NamedContext>,
}

/// `coracle context`.
#[derive(Debug, Args)]
pub struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ContextVerb,
}

/// What to do with a context.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// List what a build can see, and what the ignore file leaves out
    Ls(ContextLsArgs),
}

/// Flags of `coracle context ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  coracle context ls             folders by size, and what was left out
  coracle context ls --all src   every file
  coracle context ls --ignored   which line of which file leaves what out

Sizes are those of the files below, with what is left out not counted.")]
pub struct ContextLsArgs {
    /// What is read.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// List every file
    #[arg(long, conflicts_with = "ignored")]
    pub all: bool,
    /// List what is left out, and the rule
    #[arg(long)]
    pub ignored: bool,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// A folder, an archive, -, a URL or a Git repository [default: .]
    pub context: Option<PathBuf>,
}
