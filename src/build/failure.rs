//! What is done with the files of a step that failed, before they go.

use std::fmt;
use std::sync::Arc;

use coracle_runtime::container::{self, ContainerSpec, Io, MountSource, RawPath, RootfsSource, Stdin};

use crate::store::{Active, Index, View, ViewLayer};

use super::BuildError;
use super::work::Work;

/// What is done when the command of a RUN step fails. The build fails in any case.
#[derive(Clone, Copy, Default)]
pub enum OnFailure<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// A shell is run in the place of the command, on the terminal of this process. This is told when it begins and ends.
    Shell(&'a (dyn Fn(Terminal) + Sync)),
    /// This sees the files as the command left them, without what was mounted.
    Files(&'a (dyn Fn(&View) + Sync)),
}

/// Whose the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// That of the shell, from now on.
    OfShell,
    /// Ours again.
    Ours,
}

impl fmt::Debug for OnFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnFailure::Nothing => "Nothing",
            OnFailure::Shell(_) => "Shell",
            OnFailure::Files(_) => "Files",
        })
    }
}

impl BuildError {
    /// Returns whether this is an end of the command of a RUN itself, and not of what is around it: [`OnFailure`] is for these.
    pub fn is_of_command(&self) -> bool {
        matches!(
            self,
            BuildError::ExitStatus { .. }
                | BuildError::Killed { .. }
                | BuildError::OutOfMemory { .. }
                | BuildError::NotStarted { .. }
                | BuildError::NoWorkingDirectory { .. }
                | BuildError::DiskFull { .. }
        )
    }
}

impl Work<'_> {
    /// Runs a shell where the command of `spec` has failed, if that is wanted.
    pub fn open_shell(&self, spec: &ContainerSpec, active: &Active) -> Result<(), BuildError> {
        let OnFailure::Shell(tell) = self.on_failure else { return Ok(()) };
        // Overlayfs wants a new folder for each mount.
        let fresh = |name: &str| {
            let path = active.dir().join(name);
            std::fs::create_dir(&path).map_err(|source| BuildError::io("create", &path, source)).map(|()| path)
        };
        let mut spec = spec.clone();
        if let RootfsSource::Overlay { work, .. } = &mut spec.rootfs {
            *work = fresh("shell")?;
        }
        for (number, mount) in spec.mounts.iter_mut().enumerate() {
            if let MountSource::Layers { changes, .. } = &mut mount.source {
                changes.1 = RawPath(fresh(&format!("shell-{number}"))?);
            }
        }
        spec.args = vec!["/bin/sh".into()];
        spec.stdin = Stdin::Inherit;
        spec.new_session = false;
        tell(Terminal::OfShell);
        let ran = container::run(&spec, Io::Inherit, self.control);
        tell(Terminal::Ours);
        ran.map(drop).map_err(BuildError::from)
    }

    /// Returns whether somebody wants to see the files of a failed step.
    pub fn keeps_failed(&self) -> bool {
        matches!(self.on_failure, OnFailure::Files(_))
    }

    /// Shows the files that a failed command left, if that is wanted: `index` are those of `active`, upon `below`.
    pub fn show_files(&self, index: Index, below: &View, active: &Active) {
        let OnFailure::Files(show) = self.on_failure else { return };
        let mut layers = below.layers().to_vec();
        layers.push(ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: active.upper().into() });
        show(&View::new(layers));
    }
}
