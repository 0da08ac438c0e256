use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{NetworkRequest, UsageError};
use crate::address::{Remote, Written, remote};
use crate::cli::args::{ContextLocation, NamedContext, NamedLocation, SourceArgs};
use crate::cli::environment::Environment;
use crate::fetch::GitEnvironment;
use crate::tree::TreePath;

/// What a build reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesRequest {
    /// The context; a path is absolute. Whether it exists is not known yet.
    pub context: ContextLocation,
    /// The directory of it that counts.
    pub below: TreePath,
    /// Where the instructions are.
    pub dockerfile: DockerfileFrom,
    /// What has a name; paths are absolute, of one name the last counts.
    pub named: Vec<NamedContext>,
    /// The ignore file, absolute.
    pub ignore_file: Option<PathBuf>,
    /// How hosts are reached.
    pub network: NetworkRequest,
    /// What the program git is given.
    pub git: GitEnvironment,
}

/// Where the instructions of a build are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileFrom {
    /// In the context: Containerfile, else Dockerfile.
    Context,
    /// In a file.
    File {
        /// Where it is on this machine, absolute: where the context is a folder.
        path: PathBuf,
        /// As written: a path in the context, where that is not a folder.
        written: PathBuf,
    },
    /// On standard input.
    Stdin,
    /// Behind a URL.
    Url(String),
}

impl SourcesRequest {
    pub(super) fn new(args: SourceArgs, context: &Path, environment: &Environment) -> Result<Self, UsageError> {
        let context = location(context, environment)?;
        let dockerfile = dockerfile(args.file, environment)?;
        if dockerfile == DockerfileFrom::Stdin && context == ContextLocation::Stdin {
            return Err(UsageError::StdinTwice);
        }
        let text = args.below.unwrap_or_default();
        let below = TreePath::new(&text).map_err(|source| UsageError::BadFolder { text, source })?;
        Ok(SourcesRequest {
            context,
            below,
            dockerfile,
            named: Vec::new(),
            ignore_file: args.ignore_file.map(|file| environment.absolute(&file)).transpose()?,
            network: NetworkRequest::new(environment),
            git: git(environment),
        })
    }

    pub(super) fn with_named(
        mut self,
        named: Vec<NamedContext>,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        for mut context in named {
            match &mut context.location {
                NamedLocation::Files(ContextLocation::Path(path)) | NamedLocation::Layout { path, .. } => {
                    *path = environment.absolute(path)?;
                }
                _ => {}
            }
            self.named.retain(|other| other.name != context.name);
            self.named.push(context);
        }
        Ok(self)
    }
}

/// Returns where the context is that `written` means.
fn location(written: &Path, environment: &Environment) -> Result<ContextLocation, UsageError> {
    // A path may be any bytes, an address not.
    let parsed = written.to_str().map_or_else(|| Ok(ContextLocation::Path(written.into())), str::parse)?;
    match parsed {
        // There may be a folder of that name.
        ContextLocation::Git(_) if written.starts_with("github.com") && environment.absolute(written)?.exists() => {
            Ok(ContextLocation::Path(environment.absolute(written)?))
        }
        ContextLocation::Path(path) => Ok(ContextLocation::Path(environment.absolute(&path)?)),
        other => Ok(other),
    }
}

fn dockerfile(file: Option<PathBuf>, environment: &Environment) -> Result<DockerfileFrom, UsageError> {
    let Some(file) = file else { return Ok(DockerfileFrom::Context) };
    if file == Path::new("-") {
        return Ok(DockerfileFrom::Stdin);
    }
    if let Some(Ok(Remote::File(url))) = file.to_str().and_then(|text| remote(text, Written::AsSource)) {
        return Ok(DockerfileFrom::Url(url));
    }
    Ok(DockerfileFrom::File { path: environment.absolute(&file)?, written: file })
}

fn git(environment: &Environment) -> GitEnvironment {
    let path = |name| environment.var(name).map(PathBuf::from);
    let value = |names: [&str; 2]| names.iter().find_map(|name| environment.var(name)).map(OsString::from);
    let proxies = [
        ("http_proxy", value(["http_proxy", "HTTP_PROXY"])),
        ("https_proxy", value(["https_proxy", "HTTPS_PROXY"])),
        ("all_proxy", value(["all_proxy", "ALL_PROXY"])),
        ("no_proxy", value(["no_proxy", "NO_PROXY"])),
    ];
    GitEnvironment {
        path: environment.var("PATH").map(OsString::from),
        proxies: proxies.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        ca_file: path("SSL_CERT_FILE"),
        known_hosts: path("HOME").map(|home| home.join(".ssh/known_hosts")),
        user_agent: path("SSH_AUTH_SOCK"),
        build_agent: None,
        build_keys: Vec::new(),
    }
}
