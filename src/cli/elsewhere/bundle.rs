//! What ADD names elsewhere, out of a bundle. Nothing of it gets into what the store knows of URLs: there it would be taken for what a
//! server has said.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::address::GitAddress;
use crate::build::BuildError;
use crate::cli::report;
use crate::fetch::{Commit, FetchError, Fetcher};
use crate::output::OutputError;
use crate::output::bundle::{Bundle, FileRow, GitRow};
use crate::store::{Store, Workplace};
use crate::tree::{self, FileDigest, Kind, Meta, Node, Tree, TreePath};

/// A bundle in place of the network.
pub(super) struct FromBundle<'a> {
    bundle: Arc<Bundle>,
    store: &'a Store,
    commits: Mutex<Option<Arc<Commits>>>,
}

/// The commits of a bundle, where git can read them. What is there is known to this build only.
pub(super) struct Commits {
    pub fetcher: Fetcher,
    _place: Workplace,
}

impl<'a> FromBundle<'a> {
    pub fn new(bundle: Arc<Bundle>, store: &'a Store) -> Self {
        FromBundle { bundle, store, commits: Mutex::default() }
    }

    /// Returns the file with this name.
    pub fn file(&self, url: &str) -> Result<&FileRow, FetchError> {
        self.bundle.files().iter().find(|row| row.url == url).ok_or_else(|| self.missing(url))
    }

    /// Returns a tree with this file alone, and its place there. It is unpacked when it is read, so not at all where the step is in
    /// the cache.
    pub fn tree(&self, row: &FileRow, mode: u32) -> Result<(Packed, TreePath), BuildError> {
        let at = TreePath::root().child(row.digest.hex().as_bytes());
        let kind = Kind::File { size: row.size, digest: Some(FileDigest(*row.digest.raw())) };
        let mtime = tree::Mtime::from_secs(row.modified.unwrap_or_default());
        let node = Node { kind, meta: Meta { mode, mtime, ..Meta::default() }, inode: None };
        let (bundle, place) = (Arc::clone(&self.bundle), self.store.workplace()?);
        let tree = Packed { bundle, row: row.clone(), at: at.clone(), node, place, unpacked: Mutex::default() };
        Ok((tree, at))
    }

    /// Returns the commit that the bundle has for `name`, which is that of `address`.
    pub fn commit(&self, name: &str, address: &GitAddress) -> Result<Commit, FetchError> {
        let row = self.bundle.git().iter().find(|row| row.address.as_deref() == Some(name));
        let row = row.filter(|row| row.repository == address.url).ok_or_else(|| self.missing(name))?;
        let commit = commit_of(row)?;
        commit.check(address)?;
        Ok(commit)
    }

    /// Returns what has the commits of the bundle. All of them: which are submodules of which is known only then.
    pub fn commits(&self, like: &Fetcher) -> Result<Arc<Commits>, BuildError> {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commits) = commits.as_ref() {
            return Ok(Arc::clone(commits));
        }
        let place = self.store.workplace()?;
        let fetcher = like.apart(place.dir().join("fetched"));
        let file = place.dir().join("pack");
        let mut done = HashSet::new();
        for row in self.bundle.git() {
            // Of each tag it is to be verified that it is one of its commit.
            if !done.insert((&row.repository, &row.commit, &row.tag)) {
                continue;
            }
            let commit = commit_of(row)?;
            extract(&self.bundle, (&row.digest, row.size), &file).map_err(|error| FetchError::BadPack {
                url: row.repository.clone(),
                commit: row.commit.clone(),
                reason: report::chain(&error),
            })?;
            fetcher.unpack(&row.repository, &commit, &file)?;
        }
        Ok(Arc::clone(commits.insert(Arc::new(Commits { fetcher, _place: place }))))
    }

    /// Returns the failure that the bundle does not have this.
    pub fn missing(&self, name: &str) -> FetchError {
        FetchError::NotBundled { what: name.to_owned(), bundle: self.bundle.path().to_path_buf() }
    }
}

fn commit_of(row: &GitRow) -> Result<Commit, FetchError> {
    Commit::known(&row.commit, row.reference.as_deref(), row.tag.as_deref()).ok_or_else(|| FetchError::BadPack {
        url: row.repository.clone(),
        commit: row.commit.chars().take(100).collect(),
        reason: "its names are none that git has".into(),
    })
}

fn extract(bundle: &Bundle, blob: (&crate::oci::Digest, u64), to: &Path) -> Result<(), OutputError> {
    let failed = |source| OutputError::Io { call: "create", path: to.to_path_buf(), source };
    let mut file = File::create(to).map_err(failed)?;
    bundle.extract(blob.0, blob.1, &mut file, to)
}

/// A file in a bundle, as a tree.
pub(super) struct Packed {
    bundle: Arc<Bundle>,
    row: FileRow,
    at: TreePath,
    node: Node,
    place: Workplace,
    unpacked: Mutex<bool>,
}

impl Packed {
    fn failed(&self, call: &'static str, source: std::io::Error) -> tree::Error {
        tree::Error { call, path: self.row.url.clone(), source }
    }
}

impl Tree for Packed {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        if path.is_root() {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            return Ok(Some(Node { kind: Kind::Dir, meta, inode: None }));
        }
        Ok((*path == self.at).then(|| self.node.clone()))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        if !path.is_root() {
            return Err(self.failed("read directory", std::io::ErrorKind::NotADirectory.into()));
        }
        Ok(vec![(self.at.as_bytes().to_vec(), self.node.clone())])
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        if *path != self.at {
            return Err(self.failed("open", std::io::ErrorKind::NotFound.into()));
        }
        let file = self.place.root().join(self.row.digest.hex());
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*unpacked {
            extract(&self.bundle, (&self.row.digest, self.row.size), &file).map_err(|error| {
                let _ = fs::remove_file(&file);
                self.failed("read", std::io::Error::other(error))
            })?;
            *unpacked = true;
        }
        File::open(&file).map_err(|source| self.failed("open", source))
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        let digest = |path: &TreePath| match *path == self.at {
            true => Ok(FileDigest(*self.row.digest.raw())),
            false => Err(self.failed("read", std::io::ErrorKind::NotFound.into())),
        };
        paths.iter().map(digest).collect()
    }
}
