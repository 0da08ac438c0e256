use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::registry::RegistryArgs;
use super::value::ValueError;
use crate::oci::{Platform, Reference};
use crate::output::content::Form as ManifestForm;
use crate::output::{Location, LocationError};

/// An image that is named: in the store, or at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// In the store, by a name or the beginning of a digest.
    Store(String),
    /// Somewhere else.
    Place(Location),
}

impl FromStr for Named {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if Location::has_transport(text) {
            return Ok(Named::Place(text.parse()?));
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let id = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match Reference::parse(text) {
            Err(source) if !id => Err(LocationError::NoTransport { text: text.chars().take(200).collect(), source }),
            _ => Ok(Named::Store(text.to_owned())),
        }
    }
}

/// One condition on images: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What is looked at.
    pub key: String,
    /// What it should be.
    pub value: String,
    /// `KEY!=VALUE`: what it should not be.
    pub negated: bool,
}

impl FromStr for Filter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (key, value) = text.split_once('=').ok_or(ValueError::NoEquals)?;
        let (key, negated) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
        if key.is_empty() {
            return Err(ValueError::NoName);
        }
        Ok(Filter { key: key.to_owned(), value: value.to_owned(), negated })
    }
}

/// The form of manifests, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormName {
    /// That of OCI.
    Oci,
    /// Docker's, schema 2.
    #[value(alias = "v2s2")]
    Docker,
}

impl From<FormName> for ManifestForm {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Oci => ManifestForm::Oci,
            FormName::Docker => ManifestForm::Docker,
        }
    }
}

/// Flags of `coracle copy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Places:
  NAME                       an image in the store
  docker://NAME              an image in a registry
  oci:DIR[:REF]              an image layout
  oci-archive:FILE[:REF]     an image layout in a tar file
  docker-archive:FILE[:REF]  what `docker save` writes and `docker load` reads
  dir:DIR                    manifest and blobs of one image in a folder

Manifests are copied byte for byte, so digests stay; only --format and docker-archive make new ones.")]
pub struct CopyArgs {
    /// Where the image is
    pub source: Named,
    /// Where it goes
    pub destination: Named,
    /// Copy the images of all platforms, and their index
    #[arg(short, long, conflicts_with = "platform")]
    pub all: bool,
    /// Copy the image for this platform [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Convert manifests: oci, docker or v2s2
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<FormName>,
    /// Copy what refers to the images as well, signatures and the like: from registry to registry
    #[arg(long, conflicts_with = "format")]
    pub referrers: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the digest to FILE too
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchiveName {
    /// What every docker reads: layers without compression.
    DockerArchive,
    /// An OCI layout.
    OciArchive,
}

/// Flags of `coracle save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Images in the store
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Write to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write docker-archive or oci-archive alone [default: one file that is both, digests kept; with --all oci-archive]
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub format: Option<ArchiveName>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Save the images of all platforms, and their indexes: in an oci-archive
    #[arg(short, long)]
    pub all: bool,
}

/// Flags of `coracle load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Read FILE, or the folder of a layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Load the images of all platforms, and their indexes
    #[arg(short, long, conflicts_with = "platform")]
    pub all: bool,
    /// Load the images for this platform [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
}

/// Flags of `coracle images`.
#[derive(Debug, Args)]
#[command(after_help = "\
Filters: dangling=true, label=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME
A format is a template as `{{.Repository}}:{{.Tag}}`, or json. Its fields: Name, Repository, Tag, Digest, ID,
Platform, Platforms, Created, CreatedAt, CreatedSince, Size, Labels, MediaType.")]
pub struct ImagesArgs {
    /// Show images of this name only; * and ? are wildcards
    pub pattern: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    /// Print the image ids only, a line each
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    pub quiet: bool,
    /// Show images without a name too
    #[arg(short, long)]
    pub all: bool,
    /// Show those for which KEY=VALUE is true; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,
    /// Show digests in full
    #[arg(long, alias = "no-trunc")]
    pub digests: bool,
    /// Print each image in this form
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,
    /// Sort by created, name, repository, tag, id or size; the newest and the largest first [default: name]
    #[arg(long, value_name = "KEY", hide_possible_values = true, default_value = "name", hide_default_value = true)]
    pub sort: SortKey,
    /// Leave out the head of the table
    #[arg(short, long = "noheading", alias = "no-heading")]
    pub no_heading: bool,
}

/// By what a list of images is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// Their names; those without one come last.
    #[default]
    Name,
    /// When they were made, the newest first.
    Created,
    /// Their names without tags.
    Repository,
    /// Their tags.
    Tag,
    /// Their digests.
    Id,
    /// Their sizes, the largest first.
    Size,
}

/// Which document of an image `coracle inspect` shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The image's configuration.
    #[default]
    Config,
    /// The image's manifest.
    Manifest,
    /// The index that leads to images for several platforms.
    Index,
    /// What is known about the image, in one document.
    Image,
    /// What refers to the image in its registry: signatures and the like.
    Referrers,
}

/// Flags of `coracle inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
NAME is an image in the store, or one at a place: docker://NAME, oci:DIR[:REF], oci-archive:FILE[:REF],
docker-archive:FILE[:REF], dir:DIR.

A format is a template as `{{.Config.Cmd}}` or `{{json .}}`; without --type its fields are those of --type image.
--raw prints bytes as they are stored: those of the index or manifest, or of --type. --type referrers lists what refers
to docker://NAME in its registry: signatures, lists of contents and the like.")]
pub struct InspectArgs {
    /// The image
    pub name: Named,
    /// Which document: config, manifest, index, image or referrers [default: config]
    #[arg(long = "type", value_name = "DOCUMENT")]
    pub document: Option<Document>,
    /// Print the bytes as they are stored
    #[arg(long, conflicts_with = "format")]
    pub raw: bool,
    /// Print what this template makes of it
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Look at the image for this platform [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Flags of `coracle history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The image in the store
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    /// Show commands and digests in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print each step in this form: {{.CreatedBy}}, {{.Size}} and so on
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,
    /// Print the digests of layers only, a line each
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    pub quiet: bool,
    /// Look at the image for this platform [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
}

/// Flags of `coracle tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// The image in the store
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Its further names
    #[arg(required = true, value_name = "NEW", value_parser = NonEmptyStringValueParser::new())]
    pub new: Vec<String>,
}

/// Flags of `coracle untag`.
#[derive(Debug, Args)]
pub struct UntagArgs {
    /// Names, each of which its image loses
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
}

/// Flags of `coracle rmi`.
#[derive(Debug, Args)]
pub struct RmiArgs {
    /// Names of images in the store; a digest means all names of that image
    #[arg(required_unless_present = "all", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Remove all names
    #[arg(short, long, conflicts_with = "names")]
    pub all: bool,
    /// Do not fail where there is no such image
    #[arg(short, long, alias = "force", short_alias = 'f')]
    pub ignore: bool,
}

/// Flags of `coracle diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
+ is a file that only B has, - one that only A has, ~ one that both have, but not the same.
A and B are images in the store, or at a place: docker://NAME, oci:DIR, oci-archive:FILE and so on.")]
pub struct DiffArgs {
    /// An image
    #[arg(value_name = "A")]
    pub first: Named,
    /// Another one
    #[arg(value_name = "B")]
    pub second: Named,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Look at the images for this platform [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
}
