//! Locks, and the addresses that stand in them.

use std::path::PathBuf;

use super::{Classify, ExitStatus};
use crate::address::AddressError;
use crate::output::LocationError;

/// The lock of a Dockerfile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockProblem {
    /// The Dockerfile is not on this machine.
    #[error("the Dockerfile is not in a folder of this machine, so it has no lock")]
    NoFile,
    /// There is none.
    #[error("there is no {path:?}")]
    None {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is none.
    #[error("{path:?} is no lock")]
    Bad {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: crate::plan::PinsError,
    },
}

impl Classify for LockProblem {
    fn exit_status(&self) -> ExitStatus {
        match self {
            LockProblem::NoFile => ExitStatus::Usage,
            LockProblem::None { .. } | LockProblem::Bad { .. } => ExitStatus::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LockProblem::NoFile => None,
            LockProblem::None { .. } => Some("`coracle lock` writes it".into()),
            LockProblem::Bad { .. } => Some("remove it, and let `coracle lock` write it anew".into()),
        }
    }
}

impl Classify for AddressError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Input
    }
}

impl Classify for LocationError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Input
    }
}
