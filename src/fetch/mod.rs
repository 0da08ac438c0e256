//! Brings what lies elsewhere onto the disk: files over HTTP, trees from Git repositories.
//!
//! This room unpacks nothing, and knows neither Dockerfiles nor images. What it fetched is kept in a folder, so that what has not
//! changed is not fetched again; `docs/fetch.md` says what lies there and what is asked of the peers.

mod credentials;
mod download;
mod error;
mod git;
mod lock;

pub use credentials::Credentials;
pub use download::Download;
pub use error::FetchError;
pub use git::{Checkout, Commit, CommitPack, GitDir, GitEnvironment, Trust};

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::address::GitAddress;
use crate::net::Agent;
use crate::progress::Sink;

/// The largest file that is fetched, in bytes, unless another limit is set.
pub const MAX_BYTES: u64 = 128 << 30;

/// Where things are kept, and how they are got.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The folder for what was fetched; it is made where it is missing.
    pub cache: PathBuf,
    /// A folder on the same file system for what is being made: whoever makes something there holds a lock on it.
    pub tmp: PathBuf,
    /// Tokens and headers for hosts.
    pub credentials: Credentials,
    /// What the program git is given.
    pub git: GitEnvironment,
    /// The largest file, in bytes.
    pub max_bytes: u64,
}

/// Fetches things, each at most once as long as it lives.
pub struct Fetcher {
    agent: Agent,
    reach: Reach,
    options: FetchOptions,
    downloads: Mutex<HashMap<String, Slot<Download>>>,
    commits: Mutex<HashMap<Revision, Slot<Commit>>>,
}

/// How far a [`Fetcher`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To whoever has it.
    Network,
    /// To what it has itself.
    Disk,
}

/// A repository, and what is asked for in it.
type Revision = (String, Option<String>);

/// A result that is waited for by all who want it.
type Slot<T> = Arc<Mutex<Option<T>>>;

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Returns a fetcher that asks by way of `agent`.
    pub fn new(agent: Agent, options: FetchOptions) -> Self {
        let (downloads, commits) = (Mutex::default(), Mutex::default());
        Fetcher { agent, reach: Reach::Network, options, downloads, commits }
    }

    /// Returns one that asks nobody: for what was fetched before and cannot have changed since, by its digest or the id of its commit. For
    /// all else it has the error [`FetchError::NotHere`].
    #[must_use]
    pub fn without_network(self) -> Self {
        Fetcher { reach: Reach::Disk, ..self }
    }

    /// Checks that somebody may be asked for `what`.
    fn may_ask(&self, what: impl Fn() -> String) -> Result<(), FetchError> {
        match self.reach {
            Reach::Network => Ok(()),
            Reach::Disk => Err(FetchError::NotHere { what: what() }),
        }
    }

    /// Returns another one that asks nobody: it has the commits that [`unpack`](Self::unpack) puts into the folder `cache`, which is its
    /// own, and nothing else.
    pub fn apart(&self, cache: PathBuf) -> Self {
        let options = FetchOptions { cache, ..self.options.clone() };
        Fetcher { reach: Reach::Disk, ..Fetcher::new(self.agent.clone(), options) }
    }

    /// Returns the file behind `url`, which has the digest `checksum` if one is given: one that is known already is not
    /// fetched at all.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn download(
        &self,
        url: &str,
        checksum: Option<&crate::oci::Digest>,
        sink: &dyn Sink,
    ) -> Result<Download, FetchError> {
        let slot = slot(&self.downloads, url.to_owned());
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match known.as_ref() {
            Some(found) => found.clone(),
            None => {
                let found = download::download(self, url, checksum, sink)?;
                // What was found by its digest need not be what the URL leads to now.
                if !found.by_digest {
                    *known = Some(found.clone());
                }
                found
            }
        };
        match checksum {
            Some(expected) if *expected != found.digest => Err(FetchError::WrongDigest {
                what: crate::address::shown(url),
                expected: expected.to_string(),
                found: found.digest.to_string(),
            }),
            _ => Ok(found),
        }
    }

    /// Returns the commit that `address` names now.
    ///
    /// # Errors
    /// [`FetchError`], also where it is not the commit that the address demands.
    pub fn resolve(&self, address: &GitAddress, trust: Trust) -> Result<Commit, FetchError> {
        let slot = slot(&self.commits, (address.url.clone(), address.reference.clone()));
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = match known.as_ref() {
            Some(commit) => commit.clone(),
            None => known.insert(git::resolve(self, address, trust)?).clone(),
        };
        commit.check(address)?;
        Ok(commit)
    }

    /// Puts the files of `commit`, which [`resolve`](Self::resolve) gave for `address`, into the empty folder `into`.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn check_out(
        &self,
        address: &GitAddress,
        commit: &Commit,
        git_dir: GitDir,
        trust: Trust,
        into: &std::path::Path,
    ) -> Result<Checkout, FetchError> {
        git::check_out(self, address, commit, git_dir, trust, into)
    }

    /// Writes the objects of `commit`, which [`resolve`](Self::resolve) gave for `address`, and of its submodules into files in the
    /// folder `into`, and returns these, each commit once. The same objects give the same bytes.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn pack(
        &self,
        address: &GitAddress,
        commit: &Commit,
        trust: Trust,
        into: &std::path::Path,
    ) -> Result<Vec<CommitPack>, FetchError> {
        git::pack(self, address, commit, trust, into)
    }

    /// Takes the file `pack`, which [`pack`](Self::pack) wrote, into what is known of the repository `url`. That it has all of
    /// `commit` is verified; the file is moved.
    ///
    /// # Errors
    /// [`FetchError::BadPack`] where it is damaged.
    pub fn unpack(&self, url: &str, commit: &Commit, pack: &std::path::Path) -> Result<(), FetchError> {
        git::unpack(self, url, commit, pack)
    }
}

fn slot<K: std::hash::Hash + Eq, T>(slots: &Mutex<HashMap<K, Slot<T>>>, key: K) -> Slot<T> {
    Arc::clone(slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
}

/// Notes that what lies at `path` is used now: by that time a prune of the store chooses. A folder that is only read stays as it is.
fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}
