use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::{
    AroundArgs, Assignment, CacheArgs, CallArgs, ChangeArgs, GivenArgs, KanikoArgs, LimitArgs, NamedArgs, OutputSpec,
    PlatformArgs, RegistryArgs, SourceArgs, Timestamp,
};
use crate::cli::progress::Mode;

/// When a base image is looked for outside of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Where the store has none.
    #[default]
    Missing,
    /// Where there is a newer one.
    Newer,
    /// Not at all.
    Never,
}

/// How RUN steps are kept apart from the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// The best that the machine allows.
    #[default]
    Auto,
    /// A user namespace: with a full map of ids, or with one id and emulated owners.
    Userns,
    /// A user namespace with one id and emulated owners.
    SingleId,
    /// chroot(2), as root: nothing but the files is kept apart.
    Chroot,
    /// Not at all: a RUN that is not in the cache is an error.
    None,
}

/// Flags of `coracle build`.
#[derive(Debug, Args)]
#[command(
    override_usage = "coracle build [OPTIONS] CONTEXT",
    after_help = "\
Examples:
  coracle build -t web:1 .                                  into the store
  coracle build -f deploy/Dockerfile --target test .        one stage of another file
  coracle build -t web:1 -o type=oci,dest=web.tar .         into an archive too
  coracle build -t registry.example/web:1 --push .          into a registry too
  coracle build --build-arg VERSION=3 --build-arg TOKEN .   TOKEN as it is set here

Contexts:
  DIR                           a folder
  FILE                          a tar archive, compressed or not
  -                             such an archive, or a Dockerfile alone, on standard input
  https://HOST/FILE             the same behind a URL
  https://HOST/REPO.git#REF:DIR a directory at a branch, tag or commit; also ssh://, git@HOST:PATH
--build-context takes NAME=DIR, FILE, a URL, docker-image://IMAGE or oci-layout://DIR[:TAG].

Outputs:
  type=oci,dest=FILE            an OCI archive; dest=- is standard output
  type=oci,dest=DIR,tar=false   an OCI image layout
  type=docker,dest=FILE         what `docker load` reads
  type=local,dest=DIR           the files of the image; DIR alone is the same
  type=tar,dest=FILE            the files of the image in a tar file
  type=registry[,name=NAME]     a registry, as --push; push-by-digest=true gives it no tag there
  type=image,name=NAME          one more name in the store
  type=cacheonly                nothing but the results of steps: the image gets no name
oci, image and registry also take compression=KIND, compression-level=N, force-compression=true,
oci-mediatypes=false and annotation.KEY=VALUE, for this output alone or for the image in all places.
local and tar take platform-split=BOOL, local mode=delete: files that the image lacks are removed.
A part with a comma stands in quotes: 'type=local,\"dest=a,b\"'

--annotation is for the manifest, and LEVEL:KEY=VALUE for a level: manifest, manifest-descriptor,
index, index-descriptor; manifest[linux/arm64]:KEY=VALUE is for the image of one platform.

--file - reads the instructions from standard input.
--build-arg NAME hands on the variable NAME, where it is set.
--pull alone means always; without it, base images are looked for where they are missing.
--compression takes levels from gzip:1 to gzip:12 and from zstd:1 to zstd:19.
SOURCE_DATE_EPOCH, where it is set, is the latest time that a file or the image gets."
)]
pub struct BuildArgs {
    /// Give the image this name; can be repeated
    #[arg(short = 't', long = "tag", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub tags: Vec<String>,
    /// What is read.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// What has a name.
    #[command(flatten)]
    pub named: NamedArgs,
    /// Build this stage [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = NonEmptyStringValueParser::new())]
    pub target: Option<String>,
    /// Set an ARG, or hand on a variable of here; can be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<Assignment>,
    /// Add a label to the image; can be repeated
    #[arg(long = "label", value_name = "NAME[=VALUE]")]
    pub labels: Vec<Assignment>,
    /// Look for base images: always, missing, newer or never
    // Not an enum for clap: docker's --pull takes no word, so `--pull .` must leave the dot to CONTEXT.
    #[arg(long, value_name = "POLICY", num_args = 0..=1, default_missing_value = "always")]
    pub pull: Option<String>,
    /// Write the result here too: see below; can be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub output: Vec<OutputSpec>,
    /// Keep the image in the store: so it is in any case
    #[arg(long)]
    pub load: bool,
    /// Push the image too, to the registry of each of its names
    #[arg(long)]
    pub push: bool,
    /// Write the image's id to FILE
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what is known about the result to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// auto, tty, plain, json or quiet
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = true)]
    pub progress: Mode,
    /// Print the image's id only: --progress=quiet
    #[arg(short, long, conflicts_with = "progress")]
    pub quiet: bool,
    /// How to isolate RUN: auto, userns, single-id, chroot or none
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = true)]
    pub isolation: Isolation,
    /// Stages at the same time, at most [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Set all times to this one: seconds since 1970, or RFC 3339
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub timestamp: Option<Timestamp>,
    /// What it looks like.
    #[command(flatten)]
    pub look: super::LookArgs,
    /// What is said about it.
    #[command(flatten)]
    pub attest: super::AttestArgs,
    /// What the image is for.
    #[command(flatten)]
    pub platform: PlatformArgs,
    /// What images, URLs and repositories have to be.
    #[command(flatten)]
    pub pinned: super::PinnedArgs,
    // Before the limits, which begin a part of the help of their own.
    /// What COPY copies from: a folder, or see below
    #[arg(required_unless_present_any = ["pull", "kaniko_context", "destination"])]
    pub context: Option<PathBuf>,
    /// What it says about itself.
    #[command(flatten)]
    pub changes: ChangeArgs,
    /// Results of earlier builds.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// What each RUN step may use.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What is around each RUN step.
    #[command(flatten)]
    pub around: AroundArgs,
    /// What of the host they see.
    #[command(flatten)]
    pub host: super::BuildHostArgs,
    /// What RUN steps are given.
    #[command(flatten)]
    pub given: GivenArgs,
    /// What kaniko calls them.
    #[command(flatten)]
    pub kaniko: KanikoArgs,
    /// How registries are talked to.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// What is told of the build, or done in its place.
    #[command(flatten)]
    pub call: CallArgs,
}
