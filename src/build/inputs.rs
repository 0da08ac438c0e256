use std::collections::BTreeMap;
use std::fmt;

use super::BuildError;
use super::copy::{CopyError, Fetched};
use crate::context::Context;
use crate::plan::{Add, CopyFrom, CopySource};

/// What a build reads besides the images: folders, and what lies elsewhere.
#[derive(Clone, Default)]
pub struct Inputs<'a> {
    /// The build context, where the plan copies from it.
    pub context: Option<&'a Context>,
    /// The folders that have a name (`--build-context NAME=DIR`).
    pub named: BTreeMap<String, &'a Context>,
    /// Who gets what ADD names elsewhere.
    pub remote: Option<&'a dyn Remote>,
}

/// Gets what ADD names elsewhere. It is asked in each build, before it is known whether the step is in the cache, and for the same
/// source maybe several times: it should remember.
pub trait Remote: Sync {
    /// Returns what is behind `source`, which is a URL or a git repository.
    ///
    /// # Errors
    /// [`BuildError`] where it cannot be had, or is not what `add` says it must be.
    fn fetch(&self, source: &CopySource, add: &Add) -> Result<Fetched, BuildError>;
}

impl fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").field("context", &self.context).field("named", &self.named).finish_non_exhaustive()
    }
}

impl<'a> Inputs<'a> {
    /// Returns the folder that `from` means; `None` where it means no folder, or the context of a build that has none.
    pub(super) fn folder(&self, from: &CopyFrom) -> Result<Option<&'a Context>, CopyError> {
        match from {
            CopyFrom::Context => Ok(self.context),
            CopyFrom::Named(name) => match self.named.get(name) {
                Some(context) => Ok(Some(context)),
                None => Err(CopyError::NoContext { name: name.clone() }),
            },
            CopyFrom::Stage(_) | CopyFrom::Image(_) => Ok(None),
        }
    }
}
