use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::UsageError;
use crate::build::{Access, Around, Volume};
use crate::cli::args::{PortSpec, RunArgs, VolumeSpec};
use crate::cli::environment::Environment;
use coracle_runtime::container::Limits;

/// `coracle run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The folder of the store, absolute.
    pub root: PathBuf,
    /// The image: a name in the store, not empty.
    pub image: String,
    /// Command and arguments as typed; empty for the image's.
    pub command: Vec<OsString>,
    /// Variables to set, in order: over the image's.
    pub env: Vec<(String, String)>,
    /// Where to start, an absolute path in the container; `None` for the image's.
    pub workdir: Option<String>,
    /// As whom, not empty; `None` for the image's.
    pub user: Option<String>,
    /// In place of the image's entry point: empty for none. The image's CMD does not count then.
    pub entrypoint: Option<Vec<String>>,
    /// What it may use.
    pub limits: Limits,
    /// What is around it.
    pub around: Around,
    /// What it sees of the host.
    pub volumes: Vec<Volume>,
    /// What the user should know about these flags, a line each.
    pub notes: Vec<String>,
}

impl RunRequest {
    pub(super) fn new(args: RunArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        // --rm: a container leaves nothing behind in any case. --interactive: the command has our standard input in any case.
        let RunArgs { rm: _, interactive: _, env, workdir, user, entrypoint, limits, around, host, image_and_command } =
            args;
        let mut command = image_and_command.into_iter();
        let image = command.next().filter(|image| !image.is_empty()).ok_or(UsageError::NoImage)?;
        let image = image.into_string().map_err(|_| UsageError::NotUtf8 { what: "the name of the image".into() })?;
        let command: Vec<OsString> = command.collect();
        if command.iter().any(|arg| arg.as_bytes().contains(&0)) {
            return Err(UsageError::Nul { what: "the command" });
        }
        let around = super::around(around)?;
        if let (Some(PortSpec(port)), Access::None) = (host.ports.first(), around.network) {
            return Err(UsageError::PortWithoutNetwork { port: *port });
        }
        let ports: Vec<String> = host.ports.iter().map(|PortSpec(port)| port.to_string()).collect();
        let notes = match ports.is_empty() {
            true => Vec::new(),
            false => vec![format!("the container uses the host's network: port {} is the host's", ports.join(", "))],
        };
        let volume = |spec: VolumeSpec| -> Result<Volume, UsageError> {
            let source = environment.absolute(&spec.source)?;
            Ok(Volume { source, target: spec.target, read_only: spec.read_only })
        };
        let volumes = host.volumes.into_iter().map(volume).collect::<Result<_, _>>()?;
        match workdir {
            Some(path) if !path.starts_with('/') => Err(UsageError::RelativeWorkdir { path }),
            workdir => Ok(RunRequest {
                root,
                image,
                command,
                env: environment.fill(env)?,
                workdir,
                user,
                entrypoint: entrypoint.map(program),
                limits: super::limits(limits)?,
                around,
                volumes,
                notes,
            }),
        }
    }
}

/// Returns the words of `--entrypoint`: a JSON array of strings, else one word, else nothing.
fn program(text: String) -> Vec<String> {
    match serde_json::from_str(&text) {
        _ if text.is_empty() => Vec::new(),
        Ok(words) => words,
        Err(_) => vec![text],
    }
}
