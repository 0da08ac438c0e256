//! What a build is given by flags: secrets and agents, read before anything is built; and what is done when a RUN fails.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_runtime::container::Control;

use super::args::FailureAction;
use super::classify::{BuildProblem, FileLost};
use super::report::Failure;
use super::request::{GivenRequest, SecretFrom};
use crate::build::{Agent, Given, Keys, OnFailure, Secret, Terminal};
use crate::output::files;
use crate::progress::{Event, Sink};
use crate::store::View;

/// Bytes that are read of a file with a key.
const LONGEST_KEY: u64 = 100 << 10;

/// Reads the secrets, and looks for the agents.
pub(super) fn given(request: &GivenRequest) -> Result<Given, Failure> {
    let mut secrets = BTreeMap::new();
    for (id, from) in &request.secrets {
        let bytes = match from {
            SecretFrom::Value(bytes) => bytes.clone(),
            SecretFrom::File(path) => {
                let lost = |source| FileLost { call: "read the secret in", path: path.display().to_string(), source };
                let mut bytes = Vec::new();
                // A pipe is fine, as in `src=<(command)`.
                let file = File::open(path).map_err(lost)?;
                file.take(Secret::LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(lost)?;
                bytes
            }
        };
        if bytes.len() > Secret::LONGEST {
            return Err(BuildProblem::LongSecret { id: id.clone() }.into());
        }
        secrets.insert(id.clone(), Secret::new(bytes));
    }
    let mut agents = BTreeMap::new();
    for (id, paths) in &request.agents {
        agents.insert(id.clone(), agent(paths)?);
    }
    Ok(Given {
        secrets,
        agents,
        cache_dir: request.cache_dir.clone(),
        cache_namespace: request.cache_namespace.clone(),
    })
}

/// Finds the socket of an agent, or reads files of keys.
fn agent(paths: &[PathBuf]) -> Result<Agent, Failure> {
    let mut keys = Keys::default();
    for path in paths {
        let lost = |call| move |source| FileLost { call, path: path.display().to_string(), source };
        let kind = fs::metadata(path).map_err(lost("find the ssh agent or key at"))?.file_type();
        if kind.is_socket() {
            return match paths {
                [_] => Ok(Agent::Socket(path.clone())),
                _ => Err(BuildProblem::SocketAndKeys { path: path.clone() }.into()),
            };
        }
        let mut text = Vec::new();
        let file = File::open(path).map_err(lost("read the ssh key in"))?;
        file.take(LONGEST_KEY).read_to_end(&mut text).map_err(lost("read the ssh key in"))?;
        let added = keys.add(&text, path);
        added.map_err(|source| BuildProblem::SshKey { path: path.clone(), source })?;
    }
    Ok(Agent::Keys(Arc::new(keys)))
}

/// Checks that what is kept of a failed step has a place: a build may take long, and then it is too late.
pub(super) fn check_folders(request: &GivenRequest) -> Result<(), Failure> {
    for action in &request.on_failure {
        let FailureAction::Save(dir) = action else { continue };
        let is_free = fs::read_dir(dir).map_or(!dir.exists(), |mut entries| entries.next().is_none());
        if !is_free {
            return Err(BuildProblem::NotEmpty { dir: dir.clone() }.into());
        }
    }
    Ok(())
}

/// What is done on failure, as functions.
pub(super) struct Actions<'a> {
    pub actions: &'a [FailureAction],
    pub sink: &'a dyn Sink,
    pub control: &'a Control,
}

impl Actions<'_> {
    /// Tells the user whose the terminal is, and lets signals pass to the shell.
    pub fn tell(&self, terminal: Terminal) {
        self.control.attend(terminal == Terminal::OfShell);
        if terminal == Terminal::OfShell {
            super::say("the command failed: this is a shell in its place; `exit` ends it, and the build\n");
        }
    }

    /// Keeps the files that were asked for.
    pub fn keep(&self, view: &View) {
        for action in self.actions {
            match action {
                FailureAction::Shell => {}
                FailureAction::Save(dir) => self.save(view, dir),
                FailureAction::Export { from, to } => self.export(view, from, to),
            }
        }
    }

    fn save(&self, view: &View, dir: &Path) {
        let made = fs::create_dir_all(dir).map_err(|error| error.to_string());
        match made.and_then(|()| {
            files::write_dir(view, files::FileTimes::Keep, dir).map_err(|error| super::report::chain(&error))
        }) {
            Ok(warnings) => {
                warnings.into_iter().for_each(|message| self.warn(message));
                self.kept(format!("the files of the failed step, all yours, in {}", dir.display()));
            }
            Err(error) => {
                self.warn(format!("the files of the failed step could not be kept in {}: {error}", dir.display()))
            }
        }
    }

    fn export(&self, view: &View, from: &str, to: &Path) {
        match files::write_part(view, from, to) {
            Ok(Some(warnings)) => {
                warnings.into_iter().for_each(|message| self.warn(message));
                self.kept(format!("{from} of the failed step in {}", to.display()));
            }
            Ok(None) => self.warn(format!("the failed step left no {from}")),
            Err(error) => {
                self.warn(format!("{from} of the failed step could not be written: {}", super::report::chain(&error)));
            }
        }
    }

    fn kept(&self, what: String) {
        self.sink.emit(Event::Exported { what, digest: None });
    }

    fn warn(&self, message: String) {
        self.sink.emit(Event::Warning { message, line: None });
    }
}

/// Returns which of the two is wanted.
pub(super) fn on_failure<'a>(
    actions: &[FailureAction],
    tell: &'a (dyn Fn(Terminal) + Sync),
    keep: &'a (dyn Fn(&View) + Sync),
) -> OnFailure<'a> {
    match actions {
        [] => OnFailure::Nothing,
        [FailureAction::Shell] => OnFailure::Shell(tell),
        _ => OnFailure::Files(keep),
    }
}
