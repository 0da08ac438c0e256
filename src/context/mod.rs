//! What COPY reads: the build context, its ignore file, and the Dockerfile beside them.
//!
//! This room copies nothing and knows no instruction. It never follows a link on the host: all paths are opened beneath
//! the context's folder, and links are resolved by [`resolve`](crate::tree::resolve), which keeps them inside.

mod digests;
mod error;
mod files;
mod find;
mod gathered;
mod glob;
mod host_dir;
mod ignore;
mod pattern;
mod stat_cache;
mod survey;

pub use error::ContextError;
pub use gathered::Gathered;
pub use glob::Glob;
pub use ignore::{IgnoreError, IgnoreRules};
pub use pattern::PatternError;
pub use stat_cache::{FileKey, StatCache};
pub use survey::{LeftOut, Survey, Surveyed};

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::tree::{self, FileDigest, Kind, Node, Tree, TreePath};
use digests::DigestStore;
use files::Files;
use gathered::Known;
use host_dir::HostDir;

/// A build context: a folder of the host, or what was gathered from elsewhere, as COPY sees it.
///
/// Files that the ignore file leaves out are not there. All others belong to root, have whole seconds as their time and
/// no extended attributes; a socket is an empty file.
#[derive(Debug)]
pub struct Context {
    files: Files,
    path: PathBuf,
    rules: IgnoreRules,
    ignore_file: Option<PathBuf>,
    /// Lengths of the regular files that were shown, to notice when one changes before it is read.
    shown: Mutex<HashMap<TreePath, u64>>,
    /// Whether a directory that the rules leave out holds something that they take back in.
    holds: Mutex<HashMap<TreePath, bool>>,
    digests: DigestStore,
}

/// How a context is opened.
#[derive(Debug, Clone, Default)]
pub struct ContextOptions {
    /// The folder that keeps the digests of files between builds; it is made where it is missing. `None`: they are
    /// computed anew in each build.
    pub cache_dir: Option<PathBuf>,
    /// The ignore file, on the host. `None`: the one that belongs to the Dockerfile or to the context, if there is one.
    pub ignore_file: Option<PathBuf>,
}

/// Why a path is not in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignored<'a> {
    /// The ignore file.
    pub file: &'a Path,
    /// The line of the rule, from 1.
    pub line: usize,
    /// The rule, as written there.
    pub rule: &'a str,
}

impl Context {
    /// Opens the folder `dir` as a context with the rules of its ignore file: [`of_folder`](Self::of_folder) and
    /// [`with_rules`](Self::with_rules).
    ///
    /// # Errors
    /// [`ContextError`] where the folder cannot be opened, or the ignore file cannot be read or has a bad rule.
    pub fn open(dir: &Path, dockerfile: Option<&Path>, options: &ContextOptions) -> Result<Self, ContextError> {
        Context::of_folder(dir)?.with_rules(dockerfile, options)
    }

    /// Returns the folder `dir` as a context without rules.
    ///
    /// # Errors
    /// [`ContextError::Open`].
    pub fn of_folder(dir: &Path) -> Result<Self, ContextError> {
        let open = HostDir::open(dir).map_err(|source| ContextError::Open { path: dir.to_path_buf(), source })?;
        Ok(Context::plain(Files::Host(open), dir.to_path_buf()))
    }

    /// Returns what was gathered as a context without rules. `name` is what the user calls it.
    ///
    /// # Errors
    /// [`ContextError::Open`].
    pub fn of_gathered(gathered: Gathered, name: impl Into<PathBuf>) -> Result<Self, ContextError> {
        Ok(Context::plain(Files::Known(Known::new(gathered)?), name.into()))
    }

    /// Returns this context with the rules of its ignore file: the one that `options` names, else
    /// `<dockerfile>.containerignore` or `<dockerfile>.dockerignore` where one is there, else `.containerignore` or
    /// `.dockerignore` in the context. They are not merged.
    ///
    /// `dockerfile` is a path as [`dockerfile`](Self::dockerfile) returns it; `None` where the Dockerfile is not a file, or
    /// belongs to another context.
    ///
    /// # Errors
    /// [`ContextError`] where the ignore file cannot be read or has a bad rule.
    pub fn with_rules(mut self, dockerfile: Option<&Path>, options: &ContextOptions) -> Result<Self, ContextError> {
        let found = match &options.ignore_file {
            Some(file) => Some(find::named_rules(&self, file)?),
            None => find::ignore_rules(&self, dockerfile)?,
        };
        if let Some((file, rules)) = found {
            self.rules = rules;
            self.ignore_file = Some(file);
        }
        if let (Some(folder), Files::Host(dir)) = (&options.cache_dir, &self.files) {
            self.digests = DigestStore::open(folder, &self.path, dir);
        }
        Ok(self)
    }

    /// Returns the Dockerfile's path and text: `file`, or `Containerfile`, `Dockerfile` or `dockerfile` in the context. The ignore
    /// file has no say in this.
    ///
    /// For a folder, `file` is a path of the host, also outside of it; for what was gathered, a path in there. A link inside
    /// is followed there, not out of it.
    ///
    /// # Errors
    /// [`ContextError`] where there is none, or it is no regular file, larger than 16 MiB or not UTF-8.
    pub fn dockerfile(&self, file: Option<&Path>) -> Result<(PathBuf, String), ContextError> {
        find::dockerfile(self, file)
    }

    /// Returns the folder, as it was given, or what the user calls what was gathered.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether this is a folder of the host.
    pub fn is_folder(&self) -> bool {
        matches!(self.files, Files::Host(_))
    }

    /// Returns the ignore file in use.
    pub fn ignore_file(&self) -> Option<&Path> {
        self.ignore_file.as_deref()
    }

    /// Returns the rule that leaves `path` out of the context; `None` where none does.
    pub fn explain(&self, path: &TreePath) -> Option<Ignored<'_>> {
        let (line, rule) = self.rules.explain(path)?;
        Some(Ignored { file: self.ignore_file.as_deref()?, line, rule })
    }

    /// Returns the rule that leaves out what COPY calls `source`, all of it; `None` where none does, or it cannot be said
    /// without looking at files.
    pub fn explain_source(&self, source: &str) -> Option<Ignored<'_>> {
        let path = TreePath::new(source).ok()?;
        let ignored = self.explain(&path)?;
        // What a pattern matches may be taken back in, though the pattern itself reads as if it were left out.
        if source.split('/').any(Glob::is_pattern) {
            return (!self.rules.takes_back()).then_some(ignored);
        }
        matches!(self.lookup(&path), Ok(None)).then_some(ignored)
    }

    fn plain(files: Files, path: PathBuf) -> Self {
        Context {
            files,
            path,
            rules: IgnoreRules::default(),
            ignore_file: None,
            shown: Mutex::default(),
            holds: Mutex::default(),
            digests: DigestStore::default(),
        }
    }

    /// Returns the path by which the user knows the file `name` in the context's folder.
    fn named(&self, name: &str) -> PathBuf {
        match &self.files {
            Files::Host(_) => self.path.join(name),
            Files::Known(_) => name.into(),
        }
    }

    /// Returns whether the directory `dir`, which the rules leave out, is there all the same because something below it
    /// is taken back in.
    fn holds_included(&self, dir: &TreePath) -> Result<bool, tree::Error> {
        if let Some(&known) = lock(&self.holds).get(dir) {
            return Ok(known);
        }
        // Depth first, so that a directory that was left behind is done with all that is in it.
        let mut todo = vec![dir.clone()];
        let mut searched = Vec::new();
        let mut found = None;
        while let Some(next) = todo.pop() {
            if !self.rules.may_include_below(&next) {
                continue;
            }
            let parent = self.rules.matches_of(&next);
            let mut included = false;
            let directories = self.files.list(&next, |child, file_type| {
                included |= !self.rules.is_ignored_in(&parent, child);
                (!included && matches!(file_type, FileType::Directory | FileType::Unknown)).then_some(())
            })?;
            searched.push(next);
            if included {
                found = searched.last().cloned();
                break;
            }
            todo.extend(directories.into_iter().filter(|child| child.node.kind.is_dir()).map(|child| child.path));
        }
        let mut holds = lock(&self.holds);
        for path in searched {
            let leads = found.as_ref().is_some_and(|found| found.starts_with(&path));
            holds.insert(path, leads);
        }
        holds.insert(dir.clone(), found.is_some());
        Ok(found.is_some())
    }

    /// Returns whether something is at `path`, which is a directory or not, as far as the rules say.
    fn is_visible(&self, path: &TreePath, is_dir: bool) -> Result<bool, tree::Error> {
        if path.is_root() || !self.rules.is_ignored(path) {
            return Ok(true);
        }
        Ok(is_dir && self.holds_included(path)?)
    }
}

impl Tree for Context {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        let Some(node) = self.files.node(path)? else { return Ok(None) };
        if !self.is_visible(path, node.kind.is_dir())? {
            return Ok(None);
        }
        if let Kind::File { size, .. } = node.kind {
            lock(&self.shown).insert(path.clone(), size);
        }
        Ok(Some(node))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        if !self.is_visible(path, true)? {
            return Err(tree::Error::in_context("read directory", path, Errno::NOENT));
        }
        let parent = self.rules.matches_of(path);
        let listed = self.files.list(path, |child, file_type| {
            let ignored = self.rules.is_ignored_in(&parent, child);
            let may_hold = || matches!(file_type, FileType::Directory | FileType::Unknown);
            (!ignored || may_hold()).then_some(ignored)
        })?;
        let mut shown = Vec::with_capacity(listed.len());
        let mut sizes = Vec::new();
        for file in listed {
            if file.mark && !(file.node.kind.is_dir() && self.holds_included(&file.path)?) {
                continue;
            }
            let name = file.path.name().unwrap_or_default().to_vec();
            if let Kind::File { size, .. } = file.node.kind {
                sizes.push((file.path, size));
            }
            shown.push((name, file.node));
        }
        lock(&self.shown).extend(sizes);
        Ok(shown)
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        if self.rules.is_ignored(path) {
            return Err(tree::Error::in_context("open", path, Errno::NOENT));
        }
        self.files.open(path)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        digests::digests(self, paths)
    }
}

/// Returns what `mutex` holds. A thread that panicked left nothing half done behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an error that says that `path` was written while it was read.
fn changed(path: &TreePath) -> tree::Error {
    let source = io::Error::other("it changed while it was read");
    tree::Error { call: "read", path: path.to_string(), source }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
