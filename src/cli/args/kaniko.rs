//! The flags of kaniko's executor, so that a job that used it moves by changing its image and its command. docs/kaniko.md is the table.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{
    Age, BuildArgs, CacheFailure, CacheFrom, CacheSpec, CacheTo, Destination, Look, OutputSpec, Time, Timestamp,
};
use crate::build::Reach;
use crate::cli::progress::Mode;
use crate::oci::Reference;
use crate::output::Location;

/// Where kaniko looks for the context by itself.
const WORKSPACE: &str = "/workspace";

/// Flags of `coracle build` that are kaniko's.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "As kaniko has it (docs/kaniko.md)")]
pub struct KanikoArgs {
    /// The context: a folder, dir://, tar:// or git://
    #[arg(short = 'c', long = "context", value_name = "CONTEXT", conflicts_with = "context")]
    pub kaniko_context: Option<String>,
    /// Name the image, and push it there; can be repeated
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub destination: Vec<String>,
    /// Do not push
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL")]
    pub no_push: bool,
    /// Write the digest to FILE
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,
    /// Write NAME@DIGEST of each name to FILE
    #[arg(long, value_name = "FILE", hide = true)]
    pub image_name_with_digest_file: Option<PathBuf>,
    /// Write NAME:TAG@DIGEST of each name to FILE
    #[arg(long, value_name = "FILE", hide = true)]
    pub image_name_tag_with_digest_file: Option<PathBuf>,
    /// Write what `docker load` reads to FILE
    #[arg(long, value_name = "FILE", hide = true)]
    pub tar_path: Option<PathBuf>,
    /// Write an OCI layout to DIR
    #[arg(long, value_name = "DIR", hide = true)]
    pub oci_layout_path: Option<PathBuf>,
    /// Keep results in a registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    pub cache: Option<bool>,
    /// The repository for them
    #[arg(long, value_name = "NAME", hide = true)]
    pub cache_repo: Option<String>,
    /// All times are 0
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    pub reproducible: bool,
    /// Do not check the certificates of registries
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    pub skip_tls_verify: bool,
    /// Of the registry that is pulled from
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    pub skip_tls_verify_pull: bool,
    /// Push without TLS
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    pub insecure: bool,
    /// Pull without TLS
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide = true)]
    pub insecure_pull: bool,
    /// Try a push again
    #[arg(long, value_name = "N", hide = true)]
    pub push_retry: Option<u32>,
    /// Try a pull again
    #[arg(long, value_name = "N", hide = true)]
    pub image_download_retry: Option<u32>,
    /// How much is told
    #[arg(short, long, value_name = "LEVEL", hide = true)]
    pub verbosity: Option<String>,
    /// text, color or json
    #[arg(long, value_name = "FORM", hide = true)]
    pub log_format: Option<String>,
    /// What is said of single registries.
    #[command(flatten)]
    pub registries: super::kaniko_registries::KanikoRegistryArgs,
    /// These mean nothing here.
    #[command(flatten)]
    pub nothing: NothingArgs,
}

/// Flags that mean nothing here: what they choose is so in any case, or there is nothing to choose.
#[derive(Debug, Default, Args)]
pub struct NothingArgs {
    /// Nothing: it is ignored
    #[arg(long, value_name = "MODE", hide = true)]
    snapshot_mode: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    use_new_run: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    cleanup: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    force: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    compressed_caching: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    cache_copy_layers: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    cache_run_layers: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    skip_unused_stages: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    log_timestamp: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    ignore_var_run: Option<String>,
    /// Nothing: it is ignored
    #[arg(long, value_name = "DIR", hide = true)]
    kaniko_dir: Option<String>,
}

impl NothingArgs {
    fn given(&self) -> Vec<&'static str> {
        [
            ("--snapshot-mode", &self.snapshot_mode),
            ("--use-new-run", &self.use_new_run),
            ("--cleanup", &self.cleanup),
            ("--force", &self.force),
            ("--compressed-caching", &self.compressed_caching),
            ("--cache-copy-layers", &self.cache_copy_layers),
            ("--cache-run-layers", &self.cache_run_layers),
            ("--skip-unused-stages", &self.skip_unused_stages),
            ("--log-timestamp", &self.log_timestamp),
            ("--ignore-var-run", &self.ignore_var_run),
            ("--kaniko-dir", &self.kaniko_dir),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|_| name))
        .collect()
    }
}

/// A flag of kaniko's cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KanikoError {
    /// A context that nobody here can reach.
    #[error("--context {context}: {scheme} is not supported; use a folder, dir://, tar://, git:// or https://")]
    Context {
        /// As written.
        context: String,
        /// Its scheme.
        scheme: String,
    },
    /// There is no name to make that of the cache from.
    #[error("--cache needs --cache-repo where there is no --destination")]
    NoCacheRepo,
    /// The name of a repository is none.
    #[error("--cache-repo {name}: {reason}")]
    CacheRepo {
        /// As written.
        name: String,
        /// Why it is none.
        reason: String,
    },
    /// A word that a flag does not have.
    #[error("{flag} has no {value:?}: there is {known}")]
    Word {
        /// The flag.
        flag: &'static str,
        /// The word.
        value: String,
        /// What there is.
        known: &'static str,
    },
    /// A value that is not of the form of its flag.
    #[error("{value:?} is not {flag}")]
    Form {
        /// The flag and its form.
        flag: &'static str,
        /// The value.
        value: String,
    },
    /// `--push` and `--no-push`.
    #[error("--push and --no-push contradict each other")]
    PushAndNot,
}

/// Small files about the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestFiles {
    /// The digest.
    pub digest: Option<PathBuf>,
    /// `NAME@DIGEST`, a line for each name.
    pub name: Option<PathBuf>,
    /// The hexadecimal digits of the digest.
    pub hex: Option<PathBuf>,
    /// `NAME:TAG@DIGEST`, a line for each name.
    pub name_and_tag: Option<PathBuf>,
}

/// Turns kaniko's flags in `args` into those that mean the same; `exists` says whether there is such a file. Returns the files
/// about the result, and what the user should know.
///
/// # Errors
/// [`KanikoError`].
pub fn fold(args: &mut BuildArgs, exists: impl Fn(&Path) -> bool) -> Result<(DigestFiles, Vec<String>), KanikoError> {
    let kaniko = std::mem::take(&mut args.kaniko);
    if args.push && kaniko.no_push {
        return Err(KanikoError::PushAndNot);
    }
    let mut warnings = Vec::new();
    if let Some(context) = &kaniko.kaniko_context {
        args.context = Some(self::context(context)?);
    } else if args.context.is_none() && args.pull.is_none() && !kaniko.destination.is_empty() {
        args.context = Some(WORKSPACE.into());
    }
    // kaniko looks for a relative path in the context too.
    if let (Some(file), Some(context)) = (&mut args.sources.file, &args.context)
        && file.is_relative()
        && file.as_os_str() != "-"
        && !exists(file)
        && exists(&context.join(&*file))
    {
        *file = context.join(&*file);
    }
    args.push |= !kaniko.destination.is_empty() && !kaniko.no_push;
    if kaniko.cache == Some(true) || kaniko.cache_repo.is_some() && kaniko.cache.is_none() {
        let location = cache(kaniko.cache_repo.as_deref(), kaniko.destination.first().map(String::as_str))?;
        let location = CacheSpec::Image(location);
        args.cache.cache_from.push(CacheFrom(location.clone()));
        if !kaniko.no_push {
            let failure = CacheFailure::Warns;
            args.cache.cache_to.push(CacheTo {
                location: Some(location),
                reach: Reach::Max,
                compression: None,
                failure,
            });
        }
        // As long as kaniko's cache counts by itself.
        args.cache.cache_ttl.get_or_insert(Age(14 * 86_400));
    }
    args.tags.extend(kaniko.destination);
    args.output.extend(kaniko.tar_path.map(|file| OutputSpec::DockerArchive(Destination::of(file))));
    args.output.extend(kaniko.oci_layout_path.map(|dir| OutputSpec::OciDir(dir, Look::default())));
    if kaniko.reproducible {
        args.timestamp.get_or_insert(Timestamp(0));
    }
    if kaniko.skip_tls_verify || kaniko.skip_tls_verify_pull || kaniko.insecure || kaniko.insecure_pull {
        args.registry.tls_verify.get_or_insert(false);
    }
    if let Some(retry) = kaniko.push_retry.max(kaniko.image_download_retry) {
        args.registry.retry.get_or_insert(retry);
        args.registry.retry_delay.get_or_insert(Time(std::time::Duration::from_secs(1)));
    }
    args.registry.given = kaniko.registries.given()?;
    let word = |flag, value: &str, known| Err(KanikoError::Word { flag, value: value.into(), known });
    match kaniko.log_format.as_deref() {
        // In colour where there is a terminal.
        None | Some("color") => {}
        Some("text") => args.progress = Mode::Plain,
        Some("json") => args.progress = Mode::Json,
        Some(other) => return word("--log-format", other, "text, color and json"),
    }
    match kaniko.verbosity.as_deref() {
        None | Some("info") => {}
        Some("trace" | "debug") => {
            args.call.explain = true;
            if args.progress != Mode::Json {
                args.progress = Mode::Plain;
            }
        }
        Some("warn" | "warning") => args.progress = Mode::Warnings,
        Some("error" | "fatal" | "panic") => args.quiet = true,
        Some(other) => {
            return word("--verbosity", other, "trace, debug, info, warn, error, fatal and panic");
        }
    }
    let nothing = kaniko.nothing.given();
    if !nothing.is_empty() {
        warnings.push(format!("{} means nothing here and is ignored", nothing.join(", ")));
    }
    let files = DigestFiles {
        hex: None,
        digest: kaniko.digest_file,
        name: kaniko.image_name_with_digest_file,
        name_and_tag: kaniko.image_name_tag_with_digest_file,
    };
    Ok((files, warnings))
}

/// Returns the context as coracle names it.
fn context(context: &str) -> Result<PathBuf, KanikoError> {
    let Some((scheme, rest)) = context.split_once("://") else { return Ok(context.into()) };
    match scheme {
        "dir" => Ok(rest.into()),
        "tar" if rest == "stdin" => Ok("-".into()),
        "tar" => Ok(rest.into()),
        // kaniko fetches by https whatever is written; the commit is behind a second number sign.
        "git" => Ok(match rest.split_once('#') {
            Some((repository, reference)) => {
                let reference = reference.rsplit('#').next().unwrap_or(reference);
                format!("https://{repository}#{reference}").into()
            }
            None => format!("https://{rest}").into(),
        }),
        "https" | "http" | "ssh" => Ok(context.into()),
        other => Err(KanikoError::Context { context: context.into(), scheme: format!("{other}://") }),
    }
}

/// Returns where the cache is: in the repository, else in one of the image's name with "/cache".
fn cache(repository: Option<&str>, destination: Option<&str>) -> Result<Location, KanikoError> {
    let name = match (repository, destination) {
        (Some(repository), _) => repository.to_owned(),
        (None, Some(destination)) => {
            let without = destination.split('@').next().unwrap_or(destination);
            let last = without.rfind('/').map_or(0, |at| at + 1);
            let end = without[last..].find(':').map_or(without.len(), |at| last + at);
            format!("{}/cache", &without[..end])
        }
        (None, None) => return Err(KanikoError::NoCacheRepo),
    };
    if let Some(dir) = name.strip_prefix("oci:") {
        return Ok(Location::OciDir { path: dir.into(), reference: Some("cache".into()) });
    }
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let text = if has_tag { name.clone() } else { format!("{name}:coracle") };
    let wrong = |error: crate::oci::ReferenceError| KanikoError::CacheRepo { name, reason: error.to_string() };
    text.parse::<Reference>().map(Location::Registry).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Verb, parse};

    fn folded(line: &str) -> (BuildArgs, DigestFiles, Vec<String>) {
        let words = std::iter::once("coracle").chain(line.split(' ')).map(Into::into);
        let Verb::Build(mut args) = parse(words).expect("a good line").verb else { panic!("a build") };
        let (files, warnings) = fold(&mut args, |path| path == Path::new("/w/app/Dockerfile")).expect("it folds");
        (*args, files, warnings)
    }

    #[test]
    fn a_job_of_kaniko() {
        let (args, files, warnings) = folded(
            "build --context dir:///w/app --dockerfile Dockerfile --destination localhost:5000/a:1 --destination \
             localhost:5000/a:2 --cache=true --digest-file /dev/termination-log --snapshot-mode=redo --use-new-run \
             --reproducible --insecure --push-retry 5",
        );
        assert_eq!(args.context, Some("/w/app".into()));
        assert_eq!(args.sources.file, Some("/w/app/Dockerfile".into()));
        assert_eq!(args.tags, ["localhost:5000/a:1", "localhost:5000/a:2"]);
        assert!(args.push);
        let cache = CacheSpec::Image(Location::Registry("localhost:5000/a/cache:coracle".parse().expect("a name")));
        assert_eq!(args.cache.cache_from, [CacheFrom(cache.clone())]);
        assert_eq!(args.cache.cache_to[0].location, Some(cache));
        assert_eq!(args.timestamp, Some(Timestamp(0)));
        assert_eq!((args.registry.tls_verify, args.registry.retry), (Some(false), Some(5)));
        assert_eq!(files.digest, Some("/dev/termination-log".into()));
        assert_eq!(warnings, ["--snapshot-mode, --use-new-run means nothing here and is ignored"]);
    }

    #[test]
    fn without_a_push() {
        let (args, ..) = folded("build -c /w -d a:1 --no-push --tar-path a.tar --cache-repo localhost:5000/c --cache");
        assert!(!args.push && args.cache.cache_to.is_empty() && args.cache.cache_from.len() == 1);
        assert_eq!(args.output, [OutputSpec::DockerArchive(Destination::File("a.tar".into()))]);
        let (args, ..) = folded("build -d a:1 --no-push");
        assert_eq!(args.context, Some(WORKSPACE.into()));
    }

    #[test]
    fn contexts() {
        for (written, meant) in [
            ("/w", "/w"),
            ("dir://w", "w"),
            ("tar:///w/a.tar.gz", "/w/a.tar.gz"),
            ("tar://stdin", "-"),
            ("git://example.org/a.git#refs/heads/main#0123", "https://example.org/a.git#0123"),
            ("git://example.org/a.git#main", "https://example.org/a.git#main"),
            ("https://example.org/a.tar.gz", "https://example.org/a.tar.gz"),
        ] {
            assert_eq!(context(written), Ok(meant.into()), "{written}");
        }
        let error = context("s3://bucket/a").expect_err("it is refused").to_string();
        assert!(error.contains("s3:// is not supported"), "{error}");
    }
}
