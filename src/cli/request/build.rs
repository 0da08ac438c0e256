use std::path::{Path, PathBuf};

use clap::ValueEnum;
use coracle_runtime::probe::Wanted;

use super::around::GivenRequest;
use super::look::{is_set, stays_here, whole_look};
use super::registry::{in_full, in_registry};
use super::remote_cache::{self, CacheTarget};
use super::{AttestRequest, Changes, HostRequest, Platforms, RegistryRequest, SourcesRequest, Task, UsageError};
use crate::build::{Around, CachePolicy, CacheUse, Reach, Times};
use crate::cli::args::{
    self, Age, BuildArgs, CacheFailure, Compression, DigestFiles, FailureAction, FilesOutput, FolderMode, ImageOutput,
    Isolation, Look, OutputSpec, PullPolicy,
};
use crate::cli::environment::Environment;
use crate::cli::progress::Mode;
use crate::cli::report::Style;
use crate::output::cache::CachePlace;
use coracle_runtime::container::Limits;

/// `coracle build`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The folder of the store, absolute.
    pub root: PathBuf,
    /// What it reads.
    pub sources: SourcesRequest,
    /// Names for the image, none empty, none twice.
    pub tags: Vec<String>,
    /// The stage to build; `None` for the last.
    pub target: Option<String>,
    /// Values of ARGs: names are not empty; of one name the last counts.
    pub build_args: Vec<(String, String)>,
    /// What the image is for.
    pub platforms: Platforms,
    /// Whether all from elsewhere must be what the lock says.
    pub locked: bool,
    /// The bundle that has all from elsewhere, absolute.
    pub bundle: Option<PathBuf>,
    /// What the image says about itself besides what its Dockerfile says.
    pub changes: Changes,
    /// Which results of earlier builds count.
    pub cache: CachePolicy,
    /// Caches to look into besides that of the store; paths are absolute.
    pub cache_from: Vec<CachePlace>,
    /// Caches to write; paths are absolute.
    pub cache_to: Vec<CacheTarget>,
    /// When base images are looked for outside of the store.
    pub pull: PullPolicy,
    /// Where the result goes besides the store; paths are absolute, at most one is standard output.
    pub outputs: Vec<OutputSpec>,
    /// How registries are talked to.
    pub registry: RegistryRequest,
    /// The file for the image's id, absolute.
    pub iidfile: Option<PathBuf>,
    /// The file for what is known about the result, absolute.
    pub metadata_file: Option<PathBuf>,
    /// Further files about the result, absolute.
    pub digest_files: DigestFiles,
    /// How progress is shown; never [`Mode::Auto`].
    pub progress: Mode,
    /// Whether that has colours.
    pub style: Style,
    /// Whether what goes to standard output has colours.
    pub output_style: Style,
    /// Which ways to run a step may be taken.
    pub isolation: Wanted,
    /// How many stages at the same time, at least 1; `None` for as many as there are processors.
    pub jobs: Option<usize>,
    /// Which times files and the image get, unless the Dockerfile says so.
    pub times: Times,
    /// Whether SOURCE_DATE_EPOCH, maybe that of the Dockerfile, is for files too, where that was said.
    pub rewrite_times: Option<bool>,
    /// What the image looks like.
    pub look: Look,
    /// What is said about the image, beside it.
    pub attest: AttestRequest,
    /// What each RUN step may use.
    pub limits: Limits,
    /// What is to be done.
    pub task: Task,
    /// Whether it is said of each step that is not in the cache what changed.
    pub explain: bool,
    /// What is around each RUN step.
    pub around: Around,
    /// What of the host RUN steps see.
    pub host: HostRequest,
    /// What RUN steps are given, and what is done when one fails.
    pub given: GivenRequest,
    /// What the user should know about these flags, each to be shown as a warning.
    pub warnings: Vec<String>,
}

impl BuildRequest {
    pub(super) fn new(mut args: BuildArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let exists = |path: &Path| environment.absolute(path).is_ok_and(|path| path.exists());
        let (mut digest_files, of_kaniko) = args::fold(&mut args, exists)?;
        for file in [&mut digest_files.digest, &mut digest_files.name, &mut digest_files.name_and_tag] {
            *file = file.as_deref().map(|file| environment.absolute(file)).transpose()?;
        }
        let (pull, context) = pull_and_context(args.pull, args.context)?;
        let mut outputs = args.output;
        for path in outputs.iter_mut().filter_map(OutputSpec::path_mut) {
            *path = environment.absolute(path)?;
        }
        for output in &mut outputs {
            if let OutputSpec::Local(path, FilesOutput { mode: FolderMode::Delete(within), .. }) = output {
                *within = environment.absolute(Path::new("."))?;
                let dots = path.components().any(|part| part == std::path::Component::ParentDir);
                if path == within || !path.starts_with(&*within) || dots {
                    return Err(UsageError::DeleteOutside { path: path.clone() });
                }
            }
        }
        if outputs.contains(&OutputSpec::CacheOnly) && (outputs.len() > 1 || args.push || args.load) {
            return Err(UsageError::CacheOnlyAlone);
        }
        match outputs.iter().filter(|output| output.is_stdout()).count() {
            0 => {}
            1 if environment.stdout_is_terminal => return Err(UsageError::ArchiveToTerminal),
            1 => {}
            _ => return Err(UsageError::TwoToStdout),
        }
        let cache_from = args.cache.cache_from.into_iter().map(|from| remote_cache::place(from.0, environment));
        let cache_from = cache_from.collect::<Result<Vec<_>, _>>()?;
        let cache_to = args.cache.cache_to.into_iter().map(|to| CacheTarget::new(to, environment));
        let mut cache_to = cache_to.collect::<Result<Vec<_>, _>>()?;
        let (isolation, unknown) = wanted(args.isolation, environment);
        let file = |path: Option<PathBuf>| path.map(|path| environment.absolute(&path)).transpose();
        let (iidfile, metadata_file) = (file(args.iidfile)?, file(args.metadata_file)?);
        digest_files.hex = file(args.changes.iidfile_raw.take())?;
        let written = outputs.iter_mut().filter_map(OutputSpec::path_mut).map(|path| path.clone());
        let mut written: Vec<PathBuf> =
            written.chain(iidfile.clone()).chain(metadata_file.clone()).chain(digest_files.hex.clone()).collect();
        written.retain(|path| !path.starts_with("/dev"));
        written.sort();
        if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(UsageError::SameFile { path: pair[0].clone() });
        }
        let mut tags: Vec<String> = Vec::new();
        let is_named = !outputs.contains(&OutputSpec::CacheOnly);
        let unnamed = (!is_named && !args.tags.is_empty())
            .then(|| "type=cacheonly makes no image: it gets none of its names".to_owned());
        for tag in args.tags.into_iter().filter(|_| is_named) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        // --push is an output of its own: the image under its names.
        if args.push && !outputs.iter().any(|output| matches!(output, OutputSpec::Image(image) if image.push)) {
            outputs.push(OutputSpec::Image(ImageOutput { push: true, ..ImageOutput::default() }));
        }
        let pushes_tags = |output: &OutputSpec| matches!(output, OutputSpec::Image(image) if image.names.is_empty());
        if outputs.iter().any(pushes_tags) && tags.is_empty() {
            return Err(UsageError::PushWithoutTag);
        }
        let meant = super::changes::times(&args.changes, args.timestamp, &outputs, environment)?;
        let mut build_args = environment.fill(args.build_args)?;
        // What is given counts more.
        if args.host.http_proxy {
            build_args.splice(0..0, super::volumes::proxies(environment)?);
        }
        // As with docker, the variable is a build argument, too; one that is given counts more, and the flag most.
        if let Some(seconds) = meant.epoch {
            let at = if args.changes.source_date_epoch.is_some() { build_args.len() } else { 0 };
            build_args.insert(at, ("SOURCE_DATE_EPOCH".into(), seconds.to_string()));
        }
        let given = super::given(args.given, &build_args, environment)?;
        // A shell has the terminal for itself.
        let with_shell = given.on_failure.contains(&FailureAction::Shell);
        let progress = match args.progress.resolve(environment.terminal()) {
            _ if args.quiet => Mode::Quiet,
            Mode::Tty if with_shell => Mode::Plain,
            mode => mode,
        };
        if args.pinned.locked && Task::new(&args.call) != Task::Build {
            return Err(UsageError::LockedOnly);
        }
        let os_version = args.platform.os_version.take();
        let platforms = Platforms::new(args.platform, Task::new(&args.call), &outputs)?;
        let attest = AttestRequest::new(args.attest, &outputs)?;
        let look = whole_look(args.look, &outputs, &platforms, &attest)?;
        let stays = stays_here(&look, &outputs, platforms.make_index() || attest.is_wanted());
        if is_set(&build_args, "BUILDKIT_INLINE_CACHE") && cache_to.iter().all(|to| to.place.is_some()) {
            let failure = CacheFailure::Warns;
            cache_to.push(CacheTarget { place: None, reach: Reach::Min, compression: None, failure });
        }
        if (args.changes.squash || args.changes.squash_all) && cache_to.iter().any(|to| to.place.is_none()) {
            return Err(UsageError::SquashInline);
        }
        let labels = args.labels.into_iter().map(|label| (label.name, label.value.unwrap_or_default())).collect();
        let registry = RegistryRequest::new(args.registry, environment)?.naming(pushed(&tags, &outputs));
        let caches = cache_from.iter().chain(cache_to.iter().filter_map(|to| to.place.as_ref()));
        let registry = registry.naming(caches.filter_map(|place| match place {
            CachePlace::Image(location) => in_registry(location),
            _ => None,
        }));
        let mut sources =
            SourcesRequest::new(args.sources, &context, environment)?.with_named(args.named.contexts, environment)?;
        sources.network.retry = registry.network.retry.clone();
        let bundle = super::bundle::of_build(&args.pinned, (Task::new(&args.call), pull), &sources, environment)?;
        Ok(BuildRequest {
            root,
            sources,
            tags,
            target: args.target,
            build_args,
            platforms,
            locked: args.pinned.locked,
            bundle,
            cache: CachePolicy {
                uses: if args.cache.no_cache { CacheUse::Ignore } else { CacheUse::Use },
                except: args.cache.no_cache_filter,
                ttl: args.cache.cache_ttl.map(|Age(seconds)| seconds),
                from: cache_from.iter().map(CachePlace::identity).collect(),
            },
            cache_from,
            cache_to,
            pull,
            outputs,
            registry,
            iidfile,
            metadata_file,
            progress,
            style: if environment.colour() { Style::Colour } else { Style::Plain },
            output_style: match environment.stdout_is_terminal && environment.colour() {
                true => Style::Colour,
                false => Style::Plain,
            },
            isolation,
            jobs: if with_shell { Some(1) } else { args.jobs.map(usize::from) },
            times: meant.times,
            rewrite_times: meant.rewrite,
            changes: Changes::new(args.changes, (labels, os_version), environment)?,
            look,
            attest,
            limits: super::limits(args.limits)?,
            task: Task::new(&args.call),
            explain: args.call.explain,
            around: super::around(args.around)?,
            host: HostRequest::new(args.host, environment)?,
            given,
            digest_files,
            warnings: unknown.into_iter().chain(unnamed).chain(of_kaniko).chain(stays).collect(),
        })
    }

    /// Returns how the layers that the build makes are compressed.
    pub fn compression(&self) -> Compression {
        self.look.compression.unwrap_or_default()
    }

    /// Returns whether the result is an index, of one image or several.
    pub fn makes_index(&self) -> bool {
        self.platforms.make_index() || self.attest.is_wanted()
    }

    /// Returns whether an output goes to standard output: the image's id must not.
    pub fn stdout_is_taken(&self) -> bool {
        self.outputs.iter().any(OutputSpec::is_stdout)
    }
}

/// Returns the names under which the image goes to registries.
fn pushed(tags: &[String], outputs: &[OutputSpec]) -> Vec<String> {
    let images = outputs.iter().filter_map(|output| match output {
        OutputSpec::Image(image) if image.push => Some(image),
        _ => None,
    });
    let names = images.flat_map(|image| if image.names.is_empty() { tags } else { &image.names });
    names.map(|name| in_full(name)).collect()
}

/// Takes the word behind `--pull` apart from the context: docker's `--pull` has none, so in `--pull .` it is the context.
fn pull_and_context(word: Option<String>, context: Option<PathBuf>) -> Result<(PullPolicy, PathBuf), UsageError> {
    let (pull, context) = match (word, context) {
        (None, context) => (PullPolicy::default(), context),
        (Some(word), context) => match (PullPolicy::from_str(&word, false), context) {
            (Ok(pull), context) => (pull, context),
            (Err(_), None) => (PullPolicy::Always, Some(word.into())),
            (Err(_), Some(_)) => return Err(UsageError::BadPull { word }),
        },
    };
    let context = context.filter(|context| !context.as_os_str().is_empty()).ok_or(UsageError::NoContext)?;
    Ok((pull, context))
}

/// Returns which isolation is asked for: by the flag, else by BUILDAH_ISOLATION, which images that are made for buildah set. That
/// is a wish only: where it cannot be had, the best that works is taken.
fn wanted(flag: Isolation, environment: &Environment) -> (Wanted, Option<String>) {
    let value = environment.var("BUILDAH_ISOLATION").filter(|_| flag == Isolation::Auto);
    let known = match (flag, value.and_then(|value| value.to_str())) {
        (Isolation::Userns, _) => Wanted::UserNamespace,
        (Isolation::SingleId, _) => Wanted::OneId,
        (Isolation::Chroot, _) => Wanted::Chroot,
        (Isolation::None, _) => Wanted::Nothing,
        // User namespaces are what is tried first.
        (Isolation::Auto, Some("default" | "rootless" | "oci")) => Wanted::Any,
        (Isolation::Auto, Some("chroot")) => Wanted::ChrootFirst,
        (Isolation::Auto, _) => {
            let unknown =
                |value| format!("BUILDAH_ISOLATION={value:?} is no isolation: --isolation says what there is");
            return (Wanted::Any, value.map(unknown));
        }
    };
    (known, None)
}
