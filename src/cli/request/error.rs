use std::path::PathBuf;

use crate::cli::template::TemplateError;
use crate::tree::PathError;

/// The arguments and the environment ask for something that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// Nothing says where the store is.
    #[error("there is no folder for the store: HOME is not set")]
    NoRoot,
    /// One image is named where all of a repository are meant.
    #[error("--all-tags is for a repository of a registry, and {name:?} is more, or something else")]
    OneTag {
        /// What was named.
        name: String,
    },
    /// Only the registry knows its tags.
    #[error("--all-tags asks the registry which tags there are, and --policy=never forbids that")]
    NoList,
    /// A relative path, and the working directory is gone.
    #[error("{path:?} is a relative path, and there is no working directory")]
    NoWorkingDirectory {
        /// The path.
        path: PathBuf,
    },
    /// A flag of kaniko's cannot be followed.
    #[error(transparent)]
    Kaniko(#[from] crate::cli::args::KanikoError),
    /// A cache is named that cannot be.
    #[error(transparent)]
    Cache(#[from] crate::cli::args::CacheSpecError),
    /// A flag about what an image looks like makes no sense.
    #[error(transparent)]
    Look(#[from] crate::cli::args::OutputError),
    /// The image in the store and in registries is one.
    #[error("the image cannot have two values of {key}: an output of type=oci can have one of its own")]
    TwoLooks {
        /// The key.
        key: &'static str,
    },
    /// An annotation of an index where there is none.
    #[error("the annotation {key:?} is for an index, which there is of images for several platforms only")]
    NoIndex {
        /// Its key.
        key: String,
    },
    /// An annotation for the image of a platform of which none is made.
    #[error("the annotation {key:?} is for {platform}, and images are built for: {}", .built.join(", "))]
    NoSuchPlatform {
        /// Its key.
        key: String,
        /// The platform that it is for.
        platform: String,
        /// Those that images are made for.
        built: Vec<String>,
    },
    /// Two flags ask for one attestation.
    #[error("the attestation {kind} is asked for twice")]
    AttestTwice {
        /// Which.
        kind: &'static str,
    },
    /// Attestations, and an archive of docker.
    #[error(
        "type=docker holds an image without attestations: use type=oci, or leave --provenance, --sbom and --attest out"
    )]
    AttestDocker,
    /// Attestations, and docker's form.
    #[error("docker's form has no attestations: use --format oci, or leave --provenance, --sbom and --attest out")]
    AttestForm,
    /// Docker's form has no layers with zstd.
    #[error("docker's form has no layers with zstd: use --format oci, or gzip")]
    DockerZstd,
    /// Docker's form has no annotations.
    #[error("docker's form has no annotations, so {key:?} has nowhere to go: use --format oci, or --label")]
    DockerAnnotation {
        /// Its key.
        key: String,
    },
    /// A part of a registry in docker's file.
    #[error("docker's file has credentials for whole registries, and not for {registry}: use --authfile")]
    DockerKnowsHosts {
        /// The part.
        registry: String,
    },
    /// A flag that asks for what is never so.
    #[error("{flag} is not how coracle builds: {instead}")]
    NotOtherwise {
        /// The flag.
        flag: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// `mode=delete` for a folder that may hold anything.
    #[error(
        "mode=delete removes what is in {path:?} and not in the image: the folder must lie below the working directory"
    )]
    DeleteOutside {
        /// The folder.
        path: PathBuf,
    },
    /// An image without an output.
    #[error("type=cacheonly is for a build that makes nothing else: leave out the other outputs, --push and --load")]
    CacheOnlyAlone,
    /// Files have one time in all outputs.
    #[error("rewrite-timestamp is for all outputs and the store: it cannot be true and false")]
    TwoRewrites,
    /// A time that is for files is not for them.
    #[error("--timestamp sets the times of files: --rewrite-timestamp=false goes with --source-date-epoch")]
    TimestampIsForFiles,
    /// The cache in an image is about layers that are not in it.
    #[error("--squash makes one layer of those that a cache in the image would be about: use another --cache-to")]
    SquashInline,
    /// SOURCE_DATE_EPOCH is no number of seconds.
    #[error("SOURCE_DATE_EPOCH is {value:?}, not a whole number of seconds since 1970")]
    BadEpoch {
        /// Its value.
        value: String,
    },
    /// Something must be UTF-8, because it gets into JSON.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What.
        what: String,
    },
    /// A lock, and no image is made.
    #[error("--locked is for builds: what is only looked at is not fetched")]
    LockedOnly,
    /// A bundle, and no image is made.
    #[error("--bundle is for builds: what is only looked at is not fetched")]
    BundleOnly,
    /// A bundle, and registries are to be asked.
    #[error("--bundle and --pull={policy} contradict each other: with a bundle nobody is asked")]
    BundlePull {
        /// The policy.
        policy: &'static str,
    },
    /// A bundle, and something to be fetched that is never in one.
    #[error("--bundle keeps the build from the network, and {place} is not on this machine")]
    BundleContext {
        /// The context or the Dockerfile.
        place: String,
    },
    /// `build` without CONTEXT.
    #[error("there is no build context")]
    NoContext,
    /// The word behind `--pull` is none.
    #[error("--pull takes always, missing, newer or never, not {word:?}")]
    BadPull {
        /// The word.
        word: String,
    },
    /// A text that is no place for a context.
    #[error(transparent)]
    Location(#[from] crate::input::LocationError),
    /// Both the context and the Dockerfile on standard input.
    #[error("the context and the Dockerfile cannot both be on standard input")]
    StdinTwice,
    /// `--context-sub-path` is no path.
    #[error("--context-sub-path {text:?} is no path")]
    BadFolder {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// More than one result for standard output.
    #[error("only one output can go to standard output")]
    TwoToStdout,
    /// An archive would go to a terminal.
    #[error("standard output is a terminal: an archive does not belong there")]
    ArchiveToTerminal,
    /// What refers to images is copied, but not between registries.
    #[error("--referrers goes from registry to registry only: docker://NAME")]
    ReferrersElsewhere,
    /// What goes and what stays is said in a way that makes no sense.
    #[error("{what} {value:?} makes no sense: {why}")]
    BadFilter {
        /// The flag or the filter.
        what: String,
        /// Its value.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// `--format` is no template.
    #[error("the template of --format makes no sense")]
    BadTemplate {
        /// What is wrong with it.
        #[source]
        source: TemplateError,
    },
    /// Files named by two flags are the same one.
    #[error("{path:?} is written by two flags")]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// `run` with a relative folder to start in.
    #[error("the working directory {path:?} is not absolute")]
    RelativeWorkdir {
        /// The folder.
        path: String,
    },
    /// `run` without an image name.
    #[error("the name of the image is empty")]
    NoImage,
    /// `--memory` is too small for anything to run.
    #[error("--memory must be at least {least} bytes (6m)")]
    TooLittleMemory {
        /// The least, bytes.
        least: u64,
    },
    /// `--memory-swap` without `--memory`.
    #[error("--memory-swap is memory and swap together, so it needs --memory")]
    SwapWithoutMemory,
    /// `--memory-swap` is less than `--memory`.
    #[error("--memory-swap is memory and swap together, so it must not be less than --memory")]
    SwapLessThanMemory,
    /// `--publish` and no network.
    #[error("port {port} cannot be published: --network=none leaves no network to publish it on")]
    PortWithoutNetwork {
        /// The port.
        port: u16,
    },
    /// `--dns none`, and something else about names.
    #[error("--dns none leaves /etc/resolv.conf as it is in the image, so nothing else can be set in it")]
    DnsNone,
    /// A secret in a variable that is not set.
    #[error("the secret {id:?} is in the variable {variable}, which is not set")]
    SecretNotSet {
        /// Its id.
        id: String,
        /// The variable.
        variable: String,
    },
    /// `--ssh NAME`, and there is no agent.
    #[error("there is no ssh agent for {id:?}: SSH_AUTH_SOCK is not set")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// `--ssh NAME`, twice.
    #[error("--ssh {id:?} is given twice")]
    AgentTwice {
        /// Its id.
        id: String,
    },
    /// `--on-failure=shell` and others.
    #[error("--on-failure=shell cannot be combined with another --on-failure")]
    ShellAlone,
    /// `--on-failure=shell` without a terminal.
    #[error("--on-failure=shell needs a terminal: standard input and standard error are not both one")]
    ShellWithoutTerminal,
    /// A password without a name.
    #[error("--password-stdin needs --username NAME")]
    PasswordWithoutUser,
    /// An image without a name cannot be pushed.
    #[error("--push needs a name: --tag REGISTRY/NAME")]
    PushWithoutTag,
    /// A platform is named twice.
    #[error("the platform {platform} is named twice")]
    PlatformTwice {
        /// The platform.
        platform: crate::oci::Platform,
    },
    /// `--all-platforms`, and nothing is built.
    #[error("--all-platforms is for builds: what is only looked at asks no registry which platforms there are")]
    AllPlatformsOnly,
    /// `--call=outline` for several platforms.
    #[error("--call=outline is for one platform at a time")]
    OneOutline,
    /// `type=docker` for several platforms.
    #[error("type=docker holds an image for one platform only")]
    OnePlatformOutput,
    /// A NUL byte, which no file name or argument can have.
    #[error("{what} has a NUL byte")]
    Nul {
        /// What.
        what: &'static str,
    },
}

impl UsageError {
    /// Returns what to do next, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            UsageError::NoRoot => "name a folder with --root DIR, CORACLE_ROOT or XDG_DATA_HOME".into(),
            UsageError::NoContext => "name the folder that COPY copies from, as in `coracle build .`".into(),
            UsageError::NoAgent { .. } => {
                "start one with `eval $(ssh-agent)` and `ssh-add`, or give a file with a key: --ssh default=FILE".into()
            }
            UsageError::ShellWithoutTerminal => "--on-failure=save=DIR keeps the files without one".into(),
            UsageError::AllPlatformsOnly => "name them: --platform=linux/amd64,linux/arm64".into(),
            UsageError::OnePlatformOutput => "type=oci holds the images for all platforms, and their index".into(),
            UsageError::BundleContext { .. } => {
                "bring the context here, as a folder or an archive: a bundle has images, URLs of ADD and repositories of \
                 ADD, and no contexts"
                    .into()
            }
            UsageError::StdinTwice => "put the Dockerfile into the archive, and name it with --file".into(),
            UsageError::ArchiveToTerminal => "name a file with dest=FILE, or redirect the output".into(),
            _ => return None,
        })
    }
}
