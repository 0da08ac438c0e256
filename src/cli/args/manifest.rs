use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::images::{FormName, Named};
use super::registry::RegistryArgs;
use super::value::Assignment;
use crate::output::Location;

/// Flags of `coracle manifest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  coracle manifest create web:1 docker://reg.example/web@sha256:… docker://reg.example/web@sha256:…
  coracle manifest push web:1 docker://reg.example/web:1
joins what two jobs pushed by digest. Members come from the store, from a registry or from a place.")]
pub struct ManifestArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ManifestVerb,
}

/// What to do with a list.
#[derive(Debug, Subcommand)]
pub enum ManifestVerb {
    /// Make a list, with these images in it
    Create(CreateArgs),
    /// Add images to a list
    Add(AddArgs),
    /// Change what a list says about an image, or about itself
    Annotate(AnnotateArgs),
    /// Show a list, as JSON
    Inspect(ListInspectArgs),
    /// Write a list with its images somewhere else
    Push(ListPushArgs),
    /// Remove lists; their images stay
    Rm(ListRmArgs),
    /// Say by the exit status whether there is such a list
    Exists(ListArgs),
    /// Take images out of a list
    Remove(RemoveArgs),
}

/// What is said about a member.
#[derive(Debug, Args, Default)]
pub struct DetailArgs {
    /// Its operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Its processor: amd64, arm64, …
    #[arg(long)]
    pub arch: Option<String>,
    /// Its variant of that: v7, v8, …
    #[arg(long)]
    pub variant: Option<String>,
    /// Its version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub os_version: Option<String>,
    /// A feature of the operating system; can be repeated
    #[arg(long = "os-features", value_name = "FEATURE", value_delimiter = ',')]
    pub os_features: Vec<String>,
    /// An annotation; can be repeated
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<Assignment>,
}

/// Flags of `coracle manifest create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The name of the list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
    /// Images
    pub images: Vec<Named>,
    /// Change a list that is there, or make it
    #[arg(short, long)]
    pub amend: bool,
    /// Of an image that is an index, take all images
    #[arg(long)]
    pub all: bool,
    /// An annotation of the list; can be repeated
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<Assignment>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle manifest add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<Named>,
    /// Of an image that is an index, take all images
    #[arg(long)]
    pub all: bool,
    /// What is said about them.
    #[command(flatten)]
    pub details: DetailArgs,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle manifest annotate`.
#[derive(Debug, Args)]
pub struct AnnotateArgs {
    /// The list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
    /// The digest of an image in it, or its beginning, or a name in the store
    #[arg(required_unless_present = "index")]
    pub image: Option<String>,
    /// Annotate the list itself
    #[arg(long, conflicts_with = "image")]
    pub index: bool,
    /// What is said about it.
    #[command(flatten)]
    pub details: DetailArgs,
}

/// Flags of `coracle manifest inspect`.
#[derive(Debug, Args)]
pub struct ListInspectArgs {
    /// The list, in the store or at a place
    pub list: Named,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle manifest push`.
#[derive(Debug, Args)]
pub struct ListPushArgs {
    /// The list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
    /// Where it goes [default: the registry of its name]
    pub destination: Option<Location>,
    /// Push its images too: so it is in any case
    #[arg(long)]
    pub all: bool,
    /// Remove the list afterwards
    #[arg(long)]
    pub rm: bool,
    /// Convert manifests: oci, docker or v2s2
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<FormName>,
    /// Write the digest to FILE too
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
}

/// Flags of `coracle manifest rm`.
#[derive(Debug, Args)]
pub struct ListRmArgs {
    /// Lists
    #[arg(required = true, value_name = "LIST", value_parser = NonEmptyStringValueParser::new())]
    pub lists: Vec<String>,
}

/// Flags of `coracle manifest remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The list
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub list: String,
    /// Digests of images in it, or their beginnings
    #[arg(required = true, value_name = "DIGEST", value_parser = NonEmptyStringValueParser::new())]
    pub digests: Vec<String>,
}
