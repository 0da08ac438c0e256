//! The cache of GitHub's Actions, version 2, and of all that speak as it does. docs/cache-export.md says what lies where.
//!
//! Entries cannot be changed once they are written, so the manifest has a number in its name; the service gives the newest for a
//! beginning of a name. Entries of a branch are seen by it and those that come from it: the token says which branches we see.

mod client;
mod limit;
mod token;
mod upload;

pub use client::Actions;

use std::fmt;
use std::time::Duration;

use crate::config::Secret;
use crate::net::Url;

/// Where the cache of a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionsPlace {
    /// The URL of the service; `None` where nothing says it.
    pub url: Option<Url>,
    /// The token of the job; `None` where nothing says it.
    pub token: Option<Secret>,
    /// What keeps caches of one repository apart.
    pub scope: String,
    /// How long reading may take, and writing.
    pub timeout: Duration,
}

impl fmt::Display for ActionsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gha:{}", self.scope)
    }
}
