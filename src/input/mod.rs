//! Build contexts from wherever they are: a folder, an archive, standard input.
//!
//! What is no folder is brought into a private folder of the store, which is removed with the value that holds it. An archive goes
//! through the reader of layers, so that nothing in it reaches out of that folder; its modes and times are known from the
//! archive, so that no right or device of the host is needed for them.

mod archive;
mod error;
mod location;

pub use archive::is_archive;
pub use error::InputError;
pub use location::{ContextLocation, LocationError, NamedContext, NamedLocation};

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::address::{self, GitAddress};
use crate::context::{Context, Gathered};
use crate::fetch::{Checkout, Fetcher, GitDir, Trust};
use crate::progress::Sink;
use crate::store::{Store, Workplace};
use crate::tree::TreePath;
use archive::Content;

/// A context that was opened, without rules.
#[derive(Debug)]
pub struct Opened {
    /// The files; none where only a Dockerfile was there.
    pub context: Context,
    /// The Dockerfile, where that is all that was there.
    pub text: Option<String>,
    /// What it is, where it came from another machine: the kind of digest, and its digits.
    pub digest: Option<(&'static str, String)>,
    /// Where gathered files are.
    place: Option<Workplace>,
}

/// Brings contexts to where they can be read.
pub struct Inputs<'a> {
    /// Where gathered files are put.
    pub store: &'a Store,
    /// Gets what is not on this machine.
    pub fetcher: &'a Fetcher,
    /// Whether a repository comes with its folder `.git`, where its address does not say.
    pub git_dir: GitDir,
    /// Who hears of what happens.
    pub sink: &'a dyn Sink,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Inputs<'_> {
    /// Opens the context at `location`, of which only what is in the directory `below` counts. `stdin` is read where the location
    /// says so.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn open(
        &self,
        location: &ContextLocation,
        below: &TreePath,
        stdin: &mut (dyn Read + Send),
    ) -> Result<Opened, InputError> {
        match location {
            ContextLocation::Stdin => self.stream(stdin, below, "standard input"),
            ContextLocation::Path(path) => {
                let is_file = path.metadata().is_ok_and(|meta| meta.is_file());
                if !is_file {
                    let dir = if below.is_root() { path.clone() } else { path.join(below.as_os_path()) };
                    return Ok(Opened { context: Context::of_folder(&dir)?, text: None, digest: None, place: None });
                }
                let name = path.display().to_string();
                let mut file = File::open(path).map_err(|source| InputError::Read { name: name.clone(), source })?;
                let opened = self.stream(&mut file, below, &name)?;
                // A Dockerfile is no context of its own: it was a folder that was meant.
                if opened.text.is_some() { Err(InputError::NoArchive { name }) } else { Ok(opened) }
            }
            ContextLocation::Url(url) => {
                let name = location.to_string();
                let found = self.fetcher.download(url, None, self.sink)?;
                let mut file =
                    File::open(&found.path).map_err(|source| InputError::Read { name: name.clone(), source })?;
                let digest = Some(("sha256", found.digest.hex()));
                Ok(Opened { digest, ..self.stream(&mut file, below, &name)? })
            }
            ContextLocation::Git(address) => self.git(address, below),
        }
    }

    /// Returns a context without files, for a Dockerfile that came alone.
    ///
    /// # Errors
    /// [`InputError::Store`].
    pub fn empty(&self) -> Result<Opened, InputError> {
        let place = self.store.workplace()?;
        let gathered = Gathered { root: place.root(), entries: Vec::new() };
        Ok(Opened { context: Context::of_gathered(gathered, "")?, text: None, digest: None, place: Some(place) })
    }

    /// Returns the Dockerfile behind `url`.
    ///
    /// # Errors
    /// [`InputError`], also where it is no text.
    pub fn dockerfile(&self, url: &str) -> Result<String, InputError> {
        let name = address::shown(url);
        let file = self.fetcher.download(url, None, self.sink)?;
        let file = File::open(&file.path).map_err(|source| InputError::Read { name: name.clone(), source })?;
        archive::text(file, &name)
    }

    fn git(&self, address: &GitAddress, below: &TreePath) -> Result<Opened, InputError> {
        let mut address = address.clone();
        if !below.is_root() {
            let path = format!("{}/{below}", address.subdir.as_deref().unwrap_or_default());
            address.subdir = Some(path.trim_start_matches('/').to_owned());
        }
        let commit = self.fetcher.resolve(&address, Trust::CommandLine)?;
        let place = self.store.workplace()?;
        let git_dir = match address.keep_git_dir {
            Some(true) => GitDir::Kept,
            Some(false) => GitDir::Dropped,
            None => self.git_dir,
        };
        let Checkout { root, entries, .. } =
            self.fetcher.check_out(&address, &commit, git_dir, Trust::CommandLine, &place.root())?;
        let context = Context::of_gathered(Gathered { root, entries }, address.to_string())?;
        let kind = if commit.id.len() == 40 { "sha1" } else { "sha256" };
        Ok(Opened { context, text: None, digest: Some((kind, commit.id)), place: Some(place) })
    }

    /// Opens what `input` gives: an archive, or a Dockerfile.
    fn stream(&self, input: &mut (dyn Read + Send), below: &TreePath, name: &str) -> Result<Opened, InputError> {
        let place = self.store.workplace()?;
        let (gathered, text) = match archive::read(input, &place.root(), name)? {
            Content::Archive(entries) => {
                let entries = archive::below(entries, below);
                // On the disk a link would lead out of what was unpacked.
                if entries.iter().any(|entry| entry.path.is_root() && !entry.kind.is_dir()) {
                    return Err(InputError::NoFolder { name: name.into(), folder: below.to_string() });
                }
                (Gathered { root: inside(&place.root(), below), entries }, None)
            }
            Content::Text(text) => (Gathered { root: place.root(), entries: Vec::new() }, Some(text)),
        };
        let context = Context::of_gathered(gathered, name).map_err(|error| match below.is_root() {
            true => error.into(),
            false => InputError::NoFolder { name: name.into(), folder: below.to_string() },
        })?;
        Ok(Opened { context, text, digest: None, place: Some(place) })
    }
}

impl Opened {
    /// Returns whether the files are a folder of the host.
    pub fn is_folder(&self) -> bool {
        self.context.is_folder()
    }

    /// Returns the context, and what its files are removed with.
    pub fn into_parts(self) -> (Context, Option<Workplace>) {
        (self.context, self.place)
    }
}

fn inside(root: &Path, below: &TreePath) -> PathBuf {
    if below.is_root() { root.to_path_buf() } else { root.join(below.as_os_path()) }
}

#[cfg(test)]
mod tests;
