use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::UsageError;
use crate::build::Around;
use crate::cli::args::RunArgs;
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
}

impl RunRequest {
    pub(super) fn new(args: RunArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        // --rm: a container leaves nothing behind in any case.
        let RunArgs { rm: _, env, workdir, user, entrypoint, limits, around, image_and_command } = args;
        let mut command = image_and_command.into_iter();
        let image = command.next().filter(|image| !image.is_empty()).ok_or(UsageError::NoImage)?;
        let image = image.into_string().map_err(|_| UsageError::NotUtf8 { what: "the name of the image".into() })?;
        let command: Vec<OsString> = command.collect();
        if command.iter().any(|arg| arg.as_bytes().contains(&0)) {
            return Err(UsageError::Nul { what: "the command" });
        }
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
                around: super::around(around)?,
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
