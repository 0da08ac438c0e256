//! What a build reads: the Dockerfile, the context, and what has a name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use super::classify::{BuildProblem, FileLost};
use super::report::Failure;
use super::request::{DockerfileFrom, SourcesRequest};
use crate::build::{Agent, Given, Secret};
use crate::context::{Context, ContextOptions};
use crate::fetch::{Credentials, FetchOptions, Fetcher, GitDir, GitEnvironment, MAX_BYTES};
use crate::input::{ContextLocation, Inputs, NamedLocation, Opened};
use crate::net::Cancel;
use crate::plan::{ContextKind, CopyFrom, Op, Plan};
use crate::progress::Sink;
use crate::source::Source;
use crate::store::{Store, Workplace};
use crate::tree::TreePath;

/// Bytes of a Dockerfile on standard input at the most.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Opens what a build reads.
pub(super) struct Sources<'a> {
    pub request: &'a SourcesRequest,
    pub store: &'a Store,
    pub fetcher: &'a Fetcher,
    pub git_dir: GitDir,
    pub sink: &'a dyn Sink,
}

/// A context that is not on this machine.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Its address, without a password.
    pub uri: String,
    /// What it was: the kind of digest, and its digits.
    pub digest: Option<(&'static str, String)>,
}

/// The context without its rules yet, and the Dockerfile.
pub(super) struct Main {
    opened: Opened,
    /// Where the Dockerfile is, as the context knows it; `None` where it came from elsewhere.
    dockerfile: Option<PathBuf>,
}

/// Returns what fetches for a build.
pub(super) fn fetcher(request: &SourcesRequest, store: &Store, given: &Given, cancel: Cancel) -> Fetcher {
    // Git has a client of its own, which reads files of keys itself.
    let (build_agent, build_keys) = match given.agents.get("default") {
        Some(Agent::Socket(path)) => (Some(path.clone()), vec![]),
        Some(Agent::Keys(keys)) => (None, keys.files().map(PathBuf::from).collect()),
        None => (None, vec![]),
    };
    let text = |secret: &Secret| String::from_utf8(secret.bytes().to_vec()).ok();
    let secrets = given.secrets.iter().filter(|(name, _)| Credentials::is_one(name));
    let options = FetchOptions {
        cache: store.fetch_cache(),
        tmp: store.tmp(),
        credentials: Credentials::new(secrets.filter_map(|(name, secret)| Some((name.clone(), text(secret)?)))),
        git: GitEnvironment { build_agent, build_keys, ..request.git.clone() },
        max_bytes: MAX_BYTES,
    };
    Fetcher::new(request.network.agent(cancel), options)
}

impl Sources<'_> {
    fn inputs(&self) -> Inputs<'_> {
        Inputs { store: self.store, fetcher: self.fetcher, git_dir: self.git_dir, sink: self.sink }
    }

    /// Opens the context.
    pub fn open(&self) -> Result<Opened, Failure> {
        let mut stdin = std::io::stdin();
        Ok(self.inputs().open(&self.request.context, &self.request.below, &mut stdin)?)
    }

    /// Opens the context, and reads the Dockerfile.
    pub fn main(&self) -> Result<(Main, Source), Failure> {
        let mut opened = self.open()?;
        let from = &self.request.dockerfile;
        if let Some(text) = opened.text.take() {
            if *from != DockerfileFrom::Context {
                return Err(BuildProblem::TwoDockerfiles { context: self.request.context.to_string() }.into());
            }
            let name = match &self.request.context {
                ContextLocation::Stdin => "-".to_owned(),
                other => other.to_string(),
            };
            return Ok((Main { opened, dockerfile: None }, Source::new(name, text)));
        }
        let (path, source) = match from {
            DockerfileFrom::Stdin => (None, Source::new("-", stdin_text()?)),
            DockerfileFrom::Url(url) => (None, Source::new(crate::address::shown(url), self.inputs().dockerfile(url)?)),
            DockerfileFrom::Context => in_context(&opened, None)?,
            DockerfileFrom::File { path, .. } if opened.is_folder() => in_context(&opened, Some(path))?,
            DockerfileFrom::File { written, .. } => in_context(&opened, Some(written))?,
        };
        Ok((Main { opened, dockerfile: path }, source))
    }

    /// Opens the contexts of files whose names the plan uses, with their rules.
    pub fn named(&self, plan: &Plan) -> Result<BTreeMap<String, Named>, Failure> {
        let mut named = BTreeMap::new();
        for context in &self.request.named {
            let NamedLocation::Files(location) = &context.location else { continue };
            if !reads(plan, &CopyFrom::Named(context.name.clone())) {
                continue;
            }
            let opened = self.inputs().open(location, &TreePath::root(), &mut std::io::empty())?;
            if opened.text.is_some() {
                return Err(BuildProblem::NoFiles { name: context.name.clone(), place: location.to_string() }.into());
            }
            // Only an ignore file of its own counts, which is that of its root.
            let (context_there, keeper) = Main { opened, dockerfile: None }.with_rules(self.store, None)?;
            named.insert(context.name.clone(), Named { context: context_there, _keeper: keeper });
        }
        Ok(named)
    }
}

/// Returns what the names of `--build-context` stand for, as the plan wants it.
pub(super) fn kinds(request: &SourcesRequest) -> Vec<(String, ContextKind)> {
    let kind = |location: &NamedLocation| match location {
        NamedLocation::Files(_) => ContextKind::Folder,
        NamedLocation::Image(name) => ContextKind::Image(name.clone()),
        NamedLocation::Layout { path, tag, digest } => {
            // The digest is the more exact one.
            let reference = digest.as_ref().or(tag.as_ref()).map(|name| format!(":{name}")).unwrap_or_default();
            ContextKind::Image(format!("oci:{}{reference}", path.display()))
        }
    };
    request.named.iter().map(|context| (context.name.clone(), kind(&context.location))).collect()
}

/// A context with a name.
pub(super) struct Named {
    pub context: Context,
    _keeper: Option<Workplace>,
}

/// Returns whether the plan reads files of `from`.
pub(super) fn reads(plan: &Plan, from: &CopyFrom) -> bool {
    let reads = |op: &Op| match op {
        Op::Copy(copy) => copy.from == *from,
        Op::Run(run) => run.mounts.iter().any(|mount| mount.kind.from() == Some(from)),
        _ => false,
    };
    plan.stages.iter().flat_map(|stage| &stage.steps).any(|step| reads(&step.op))
}

impl Main {
    /// Returns where the context is from, where that is not this machine.
    pub fn origin(&self, request: &SourcesRequest) -> Option<Origin> {
        match &request.context {
            ContextLocation::Path(_) | ContextLocation::Stdin => None,
            there => Some(Origin { uri: there.to_string(), digest: self.opened.digest.clone() }),
        }
    }

    /// Returns where the Dockerfile is on this machine; `None` where it came from elsewhere.
    pub fn dockerfile_here(&self) -> Option<PathBuf> {
        self.dockerfile.clone().filter(|_| self.opened.is_folder())
    }

    /// Returns the context with its rules. What it needs stays as long as the keeper that comes with it.
    pub fn with_rules(
        self,
        store: &Store,
        ignore_file: Option<PathBuf>,
    ) -> Result<(Context, Option<Workplace>), Failure> {
        let options = ContextOptions { cache_dir: Some(store.context_cache()), ignore_file };
        let (context, keeper) = self.opened.into_parts();
        Ok((context.with_rules(self.dockerfile.as_deref(), &options)?, keeper))
    }
}

fn in_context(opened: &Opened, file: Option<&PathBuf>) -> Result<(Option<PathBuf>, Source), Failure> {
    let (path, text) = opened.context.dockerfile(file.map(PathBuf::as_path))?;
    let shown = path.strip_prefix(opened.context.path()).unwrap_or(&path).display().to_string();
    Ok((Some(path), Source::new(shown, text)))
}

fn stdin_text() -> Result<String, Failure> {
    let mut text = Vec::new();
    let lost = |source| FileLost { call: "read", path: "standard input".into(), source };
    std::io::stdin().lock().take(MAX_DOCKERFILE + 1).read_to_end(&mut text).map_err(lost)?;
    match String::from_utf8(text) {
        Ok(text) if text.len() as u64 <= MAX_DOCKERFILE => Ok(text),
        Ok(_) => Err(BuildProblem::StdinTooLong.into()),
        Err(_) => Err(BuildProblem::StdinNotUtf8.into()),
    }
}
