use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::store::CachedStep;

/// The steps of a build that are being carried out, and what became of those that were, by their keys.
#[derive(Debug, Default)]
pub(super) struct Running {
    steps: Mutex<HashMap<String, Option<CachedStep>>>,
    bell: Condvar,
}

/// The right to carry out a step.
pub(super) struct Turn<'a> {
    running: &'a Running,
    key: String,
}

impl Running {
    /// Returns the right to carry out the step `key`; or its result, for which it waits where somebody else is at it.
    pub fn take(&self, key: &str) -> Result<Turn<'_>, CachedStep> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match steps.get(key) {
                None => {
                    steps.insert(key.into(), None);
                    return Ok(Turn { running: self, key: key.into() });
                }
                Some(Some(done)) => return Err(done.clone()),
                Some(None) => steps = self.bell.wait(steps).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    pub fn done(&self, key: String, step: CachedStep) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Some(step));
        self.bell.notify_all();
    }
}

impl Drop for Turn<'_> {
    /// Gives the right back if the step failed.
    fn drop(&mut self) {
        let mut steps = self.running.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(steps.get(&self.key), Some(None)) {
            steps.remove(&self.key);
        }
        drop(steps);
        self.running.bell.notify_all();
    }
}
