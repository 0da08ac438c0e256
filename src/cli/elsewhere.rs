//! What ADD names elsewhere: URLs and Git repositories, as the build wants them.

mod bundle;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use self::bundle::{Commits, FromBundle};
use super::finder;
use crate::address::{self, GitAddress};
use crate::build::{BuildError, Fetched, OtherTree, Remote};
use crate::context::{Context, Gathered};
use crate::fetch::{FetchError, Fetcher, GitDir, Trust};
use crate::net::NetError;
use crate::oci::Digest;
use crate::output::bundle::Bundle;
use crate::plan::{Add, CopySource, Pins};
use crate::progress::Sink;
use crate::store::{Store, Workplace};
use crate::tree::{self, Entry, FileDigest, Kind, Meta, Mtime, Node, Tree, TreePath};

/// The name of a file whose URL gives it none, as with BuildKit.
const UNNAMED: &[u8] = b"__unnamed__";

/// The mode of a file that was fetched.
const MODE: u32 = 0o600;

/// Gets what is elsewhere, each thing once.
pub(super) struct Elsewhere<'a> {
    fetcher: &'a Fetcher,
    store: &'a Store,
    sink: &'a dyn Sink,
    /// What URLs and repositories have to be, whatever they are now.
    pins: Option<&'a Pins>,
    /// Where it is, in place of the network.
    bundle: Option<FromBundle<'a>>,
    known: Mutex<Vec<((CopySource, Add), Fetched)>>,
    /// What it was: the kind of digest and its digits, by the name that it has in a lock.
    resolved: Mutex<BTreeMap<String, (&'static str, String)>>,
}

impl<'a> Elsewhere<'a> {
    pub fn new(fetcher: &'a Fetcher, store: &'a Store, sink: &'a dyn Sink, pins: Option<&'a Pins>) -> Self {
        Elsewhere { fetcher, store, sink, pins, bundle: None, known: Mutex::default(), resolved: Mutex::default() }
    }

    /// Returns this, with all taken out of `bundle` where there is one.
    pub fn out_of(self, bundle: Option<Arc<Bundle>>) -> Self {
        Elsewhere { bundle: bundle.map(|bundle| FromBundle::new(bundle, self.store)), ..self }
    }

    /// Returns what that was which has this name in a lock and was fetched: the kind of digest, and its digits.
    pub fn resolved(&self, key: &str) -> Option<(&'static str, String)> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn note(&self, key: String, kind: &'static str, digits: &str) {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (kind, digits.to_owned()));
    }

    fn url(&self, url: &str, add: &Add) -> Result<Fetched, BuildError> {
        let bad = |_| FetchError::WrongDigest {
            what: address::shown(url),
            expected: add.checksum.clone().unwrap_or_default(),
            found: "of another kind".into(),
        };
        let checksum = add.checksum.as_deref().map(str::parse).transpose().map_err(bad)?;
        let pin = self.pins.and_then(|pins| pins.urls.get(&finder::url_key(url)));
        if let (Some(pin), Some(said)) = (pin, checksum.as_ref().filter(|said| Some(*said) != pin)) {
            let (expected, found) = (pin.to_string(), said.to_string());
            return Err(FetchError::WrongDigest { what: address::shown(url), expected, found }.into());
        }
        let checksum: Option<Digest> = checksum.or(pin.copied());
        let name = address::file_name(url).unwrap_or_else(|| UNNAMED.to_vec());
        if let Some(bundle) = &self.bundle {
            let row = bundle.file(&finder::url_key(url))?;
            if let Some(expected) = checksum.filter(|expected| *expected != row.digest) {
                let (expected, found) = (expected.to_string(), row.digest.to_string());
                return Err(FetchError::WrongDigest { what: address::shown(url), expected, found }.into());
            }
            self.note(finder::url_key(url), "sha256", &row.digest.hex());
            let (tree, at) = bundle.tree(row, MODE)?;
            return Ok(Fetched { tree: OtherTree::new(tree), at, name });
        }
        let file = self.fetcher.download(url, checksum.as_ref(), self.sink)?;
        self.note(finder::url_key(url), "sha256", &file.digest.hex());
        let at = TreePath::root().child(file.path.file_name().unwrap_or_default().as_encoded_bytes());
        let kind = Kind::File { size: file.size, digest: Some(FileDigest(*file.digest.raw())) };
        // BuildKit has it so: where the server tells no time, it is 1970.
        let meta = Meta { mode: MODE, mtime: Mtime::from_secs(file.modified.unwrap_or_default()), ..Meta::default() };
        let entries = vec![Entry { path: at.clone(), kind, meta, implied: false }];
        let root = file.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let context = Context::of_gathered(Gathered { root, entries }, address::shown(url))?;
        Ok(Fetched { tree: OtherTree::new(Held { context, _place: None }), at, name })
    }

    fn git(&self, text: &str, add: &Add) -> Result<Fetched, BuildError> {
        let mut address = GitAddress::parse(text)?;
        if let Some(checksum) = &add.checksum {
            address = address.with_checksum(checksum)?;
        }
        let written = address.to_string();
        if let Some(commit) = self.pins.and_then(|pins| pins.git.get(&written)) {
            address.reference = Some(commit.clone());
        }
        let git_dir = if address.keeps_git_dir(add.keep_git_dir)? { GitDir::Kept } else { GitDir::Dropped };
        let commits: Option<Arc<Commits>>;
        let (commit, fetcher) = match &self.bundle {
            Some(bundle) => {
                let commit = bundle.commit(&written, &address)?;
                commits = Some(bundle.commits(self.fetcher)?);
                (commit, commits.as_deref().map_or(self.fetcher, |commits| &commits.fetcher))
            }
            None => (self.fetcher.resolve(&address, Trust::Dockerfile)?, self.fetcher),
        };
        self.note(
            GitAddress::parse(text)?.to_string(),
            if commit.id.len() == 40 { "sha1" } else { "sha256" },
            &commit.id,
        );
        let place = self.store.workplace()?;
        let files = fetcher.check_out(&address, &commit, git_dir, Trust::Dockerfile, &place.root());
        let files = files.map_err(|error| match (error, &self.bundle) {
            // A submodule.
            (FetchError::NotHere { what }, Some(bundle)) => bundle.missing(&what),
            (error, _) => error,
        })?;
        let gathered = Gathered { root: files.root, entries: files.entries };
        let context = Context::of_gathered(gathered, address.to_string())?;
        let name = address.name().as_bytes().to_vec();
        Ok(Fetched { tree: OtherTree::new(Held { context, _place: Some(place) }), at: TreePath::root(), name })
    }
}

impl Remote for Elsewhere<'_> {
    fn fetch(&self, source: &CopySource, add: &Add) -> Result<Fetched, BuildError> {
        // Held while it is fetched: who wants the same thing waits for it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, fetched)) = known.iter().find(|((what, how), _)| what == source && how == add) {
            return Ok(fetched.clone());
        }
        let fetched = match source {
            CopySource::Url(url) => self.url(url, add),
            CopySource::Git(text) => self.git(text, add),
            CopySource::Path(_) | CopySource::Inline { .. } => Err(BuildError::Unbuilt { what: "this source" }),
        };
        let fetched = fetched.map_err(|error| match error {
            BuildError::Fetch(FetchError::Net(NetError::Cancelled)) => BuildError::Interrupted,
            other => other,
        })?;
        known.push(((source.clone(), add.clone()), fetched.clone()));
        Ok(fetched)
    }
}

/// Gathered files, with what removes them from the disk.
struct Held {
    context: Context,
    _place: Option<Workplace>,
}

impl Tree for Held {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        self.context.lookup(path)
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        self.context.read_dir(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        self.context.open(path)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        self.context.digests(paths)
    }
}
