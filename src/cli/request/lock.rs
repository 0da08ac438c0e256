use std::path::{Path, PathBuf};

use super::{GivenRequest, RegistryRequest, SourcesRequest, UsageError, given};
use crate::cli::args::{DoorArgs, GivenArgs, LockArgs, NamedArgs, RegistryArgs, SourceArgs};
use crate::cli::environment::Environment;
use crate::oci::Platform;

/// What a Dockerfile is read for, apart from building it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsRequest {
    /// The folder of the store, absolute.
    pub root: PathBuf,
    /// What is read.
    pub sources: SourcesRequest,
    /// The stage; `None` for the last.
    pub target: Option<String>,
    /// Values of ARGs.
    pub build_args: Vec<(String, String)>,
    /// How registries are talked to.
    pub registry: RegistryRequest,
    /// What servers are shown.
    pub given: GivenRequest,
}

impl NeedsRequest {
    pub(super) fn new(
        root: PathBuf,
        (file, context): (Option<PathBuf>, &Path),
        (target, build_args): (Option<String>, Vec<crate::cli::args::Assignment>),
        (named, registry, doors): (NamedArgs, RegistryArgs, DoorArgs),
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let args = SourceArgs { file, ..SourceArgs::default() };
        let registry = RegistryRequest::new(registry, environment)?;
        let mut sources = SourcesRequest::new(args, context, environment)?.with_named(named.contexts, environment)?;
        sources.network.retry = registry.network.retry.clone();
        let build_args = environment.fill(build_args)?;
        let DoorArgs { secrets, ssh } = doors;
        let given = GivenArgs { secrets, ssh, cache_dir: None, on_failure: Vec::new() };
        let given = self::given(given, &build_args, environment)?;
        Ok(NeedsRequest { root, sources, target, build_args, registry, given })
    }
}

/// `coracle lock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// The Dockerfile.
    pub needs: NeedsRequest,
    /// For which platforms, none twice; none for this machine's.
    pub platforms: Vec<Platform>,
    /// Whether what is locked is looked for again.
    pub update: bool,
}

impl LockRequest {
    pub(super) fn new(args: LockArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let LockArgs { file, update, target, build_args, platforms, context, named, doors, registry } = args;
        let needs =
            NeedsRequest::new(root, (file, &context), (target, build_args), (named, registry, doors), environment)?;
        let mut each: Vec<Platform> = Vec::new();
        for platform in platforms {
            if !each.contains(&platform) {
                each.push(platform);
            }
        }
        Ok(LockRequest { needs, platforms: each, update })
    }
}
