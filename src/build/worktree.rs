//! A tree that the RUN steps of a stage work on in place, where layers cannot be stacked by the kernel.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_runtime::container::Control;

use crate::layer::{self, Contents, DiskTree, InPlace, Otherwise, Ownership, Record, Touched};
use crate::store::{Active, LayerId, Store, View, ViewLayer, Workplace, open_in};
use crate::tree::{Entry, Kind, Owners, Tree, TreePath};

use super::BuildError;

/// How long the clock of a file system may take to go on. The coarsest that keeps owners counts in seconds.
const LONGEST_TICK: Duration = Duration::from_secs(5);

/// The files of a stage in a folder, and what is known of them. It is as the layers say whenever no step is under way.
pub(super) struct WorkTree {
    place: Workplace,
    owners: Owners,
    /// The layers that it holds, bottom first.
    layers: Vec<LayerId>,
    record: Record,
    /// What the last step could do here alone.
    otherwise: Vec<Otherwise>,
}

/// What it took to bring a tree up to date.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Bytes that were copied, or shared.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl WorkTree {
    /// Returns a tree without files.
    pub fn new(store: &Store, owners: Owners) -> Result<Self, BuildError> {
        Ok(WorkTree {
            place: store.workplace()?,
            owners,
            layers: Vec::new(),
            record: Record::default(),
            otherwise: Vec::new(),
        })
    }

    /// Returns whether the layers in it are the lowest ones of `view`.
    pub fn is_below(&self, view: &View) -> bool {
        let ids = view.layers().iter().map(|layer| layer.id);
        self.layers.len() <= view.layers().len() && self.layers.iter().copied().eq(ids.take(self.layers.len()))
    }

    /// Returns the folder with the files.
    pub fn root(&self) -> PathBuf {
        self.place.root()
    }

    /// Returns the folder around it, which is private to this tree.
    pub fn place(&self) -> &Workplace {
        &self.place
    }

    /// Makes the files those of `view`, of which the tree holds some layers already.
    pub fn bring(&mut self, view: &View, control: &Control) -> Result<Cost, BuildError> {
        let began = Instant::now();
        let mut bytes = 0;
        if self.layers.is_empty() || self.layers.len() < view.layers().len() {
            let mut tree = DiskTree::open(&self.root(), self.owners)?;
            match self.layers.len() {
                0 => bytes += fill(&mut tree, view, control)?,
                held => {
                    for layer in &view.layers()[held..] {
                        bytes += apply(&mut tree, layer, control)?;
                    }
                }
            }
            let root = view.lookup(&TreePath::root())?.expect("every tree has a root");
            let root = Entry { path: TreePath::root(), kind: Kind::Dir, meta: root.meta, implied: false };
            tree.create(&root, Contents::None)?;
            tree.finish()?;
            self.layers = view.layers().iter().map(|layer| layer.id).collect();
            self.record = Record::of(&self.root())?;
        }
        Ok(Cost { bytes, took: began.elapsed() })
    }

    /// Returns what is known of the files.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns what the last step could do or see here, and could not have on an overlay.
    pub fn otherwise(&self) -> &[Otherwise] {
        &self.otherwise
    }

    /// Has the files at `paths` count as made by the step that follows.
    pub fn count_as_new(&mut self, paths: &[TreePath]) {
        for path in paths {
            self.record.forget(path);
        }
    }

    /// Waits until the clock of the file system has gone on, so that whatever is changed from now on has another time of change
    /// than what is recorded.
    pub fn wait_for_tick(&self) -> Result<(), BuildError> {
        let path = self.place.dir().join("clock");
        let fail = |source| BuildError::io("write", &path, source);
        let mut file = File::create(&path).map_err(fail)?;
        let (latest, began) = (self.record.latest(), Instant::now());
        loop {
            file.write_all(b".").map_err(fail)?;
            let stat = rustix::fs::fstat(&file).map_err(|errno| fail(errno.into()))?;
            // A clock that was set back shows other times too.
            if (stat.st_ctime, stat.st_ctime_nsec as i64) != latest || began.elapsed() > LONGEST_TICK {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Finds what a step changed, puts those files into `active`, and makes the tree what the layers then say. Returns the entries
    /// of the layer; [`hold`](Self::hold) is to follow.
    pub fn collect(
        &mut self,
        touched: &Touched,
        below: &View,
        active: &Active,
        ownership: Ownership<'_>,
    ) -> Result<Vec<Entry>, BuildError> {
        let root = self.root();
        let InPlace { entries, looked_at, stale, now, otherwise } =
            layer::changes_in_place(&root, &self.record, touched, below, ownership)?;
        copy_out(&entries, &root, below, active, self.owners)?;
        self.settle(&entries, &looked_at, &stale, below, active)?;
        self.record = now;
        self.otherwise = otherwise;
        let touched_dirs: BTreeSet<TreePath> = stale.iter().filter_map(TreePath::parent).collect();
        self.record.renew(&root, looked_at.iter().chain(&stale).chain(&touched_dirs).chain([&TreePath::root()]))?;
        Ok(entries)
    }

    /// Gives files the times that they have in the layers, which count in whole seconds, and makes those again that are `stale`.
    fn settle(
        &self,
        entries: &[Entry],
        looked_at: &[TreePath],
        stale: &[TreePath],
        below: &View,
        active: &Active,
    ) -> Result<(), BuildError> {
        let own = |path: &TreePath| entries.binary_search_by(|entry| entry.path.cmp(path)).ok().map(|at| &entries[at]);
        let mut tree = DiskTree::open(&self.root(), self.owners)?;
        let mut firsts: HashMap<(u64, u64), TreePath> = HashMap::new();
        for path in stale {
            tree.remove(path)?;
        }
        for path in stale {
            match own(path) {
                Some(Entry { kind: Kind::Whiteout, .. }) => {}
                Some(entry) => drop(put(&mut tree, entry, &mut || open_in(&active.upper(), path))?),
                None => {
                    let Some(node) = below.lookup(path)? else { continue };
                    let first = node.inode.and_then(|inode| firsts.get(&inode).cloned());
                    let kind = match (first, node.inode) {
                        (Some(target), _) => Kind::Hardlink { target },
                        (None, Some(inode)) => {
                            firsts.insert(inode, path.clone());
                            node.kind
                        }
                        (None, None) => node.kind,
                    };
                    let entry = Entry { path: path.clone(), kind, meta: node.meta, implied: false };
                    put(&mut tree, &entry, &mut || below.open(path).map_err(|error| error.source))?;
                }
            }
        }
        let parents = stale.iter().filter_map(TreePath::parent).collect::<BTreeSet<_>>();
        for path in looked_at.iter().chain(&parents) {
            let mtime = match own(path) {
                Some(Entry { kind: Kind::Whiteout, .. }) => continue,
                Some(entry) => entry.meta.mtime,
                None => match below.lookup(path)? {
                    Some(node) => node.meta.mtime,
                    None => continue,
                },
            };
            tree.set_time(path, mtime)?;
        }
        tree.finish()?;
        Ok(())
    }

    /// Records that the layer of the last step is in the tree.
    pub fn hold(&mut self, layer: LayerId) {
        self.layers.push(layer);
    }
}

/// Makes all files of `view` in the empty tree. Returns how many bytes they have.
fn fill(tree: &mut DiskTree, view: &View, control: &Control) -> Result<u64, BuildError> {
    let mut bytes = 0;
    let mut firsts: HashMap<(u64, u64), TreePath> = HashMap::new();
    view.walk(&mut |entry: &Entry| {
        if control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        let node = view.lookup(&entry.path)?.expect("a view has what it shows");
        let first = node.inode.and_then(|inode| firsts.get(&inode).cloned());
        let kind = match (first, node.inode) {
            (Some(target), _) => Kind::Hardlink { target },
            (None, Some(inode)) => {
                firsts.insert(inode, entry.path.clone());
                node.kind
            }
            (None, None) => node.kind,
        };
        let entry = Entry { path: entry.path.clone(), kind, meta: node.meta, implied: false };
        bytes += put(tree, &entry, &mut || view.open(&entry.path).map_err(|error| error.source))?;
        Ok(())
    })?;
    Ok(bytes)
}

/// Makes the changes of one layer. Returns how many bytes its files have.
fn apply(tree: &mut DiskTree, layer: &ViewLayer, control: &Control) -> Result<u64, BuildError> {
    let mut bytes = 0;
    for entry in layer.index.entries().iter().filter(|entry| !entry.path.is_root()) {
        if control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        bytes += put(tree, entry, &mut || open_in(&layer.dir, &entry.path))?;
    }
    Ok(bytes)
}

/// Makes one file, or removes one. Returns its length.
fn put(tree: &mut DiskTree, entry: &Entry, open: &mut dyn FnMut() -> std::io::Result<File>) -> Result<u64, BuildError> {
    match &entry.kind {
        Kind::File { size, .. } => {
            let fail = |source| BuildError::Io { call: "open", path: entry.path.to_string(), source };
            tree.create(entry, Contents::File(&open().map_err(fail)?))?;
            return Ok(*size);
        }
        Kind::Whiteout => tree.remove(&entry.path)?,
        _ => drop(tree.create(entry, Contents::None)?),
    }
    Ok(0)
}

/// Copies the files of the layer `entries` from where a step left them.
fn copy_out(entries: &[Entry], root: &Path, below: &View, active: &Active, owners: Owners) -> Result<(), BuildError> {
    let mut layer = DiskTree::open(&active.upper(), owners)?;
    if let Some(top) = below.entry(&TreePath::root()) {
        layer.create(&Entry { kind: Kind::Dir, ..top.clone() }, Contents::None)?;
    }
    for entry in entries {
        let file = match &entry.kind {
            Kind::File { .. } => {
                let fail = |source| BuildError::Io { call: "open", path: entry.path.to_string(), source };
                Some(open_in(root, &entry.path).map_err(fail)?)
            }
            _ => None,
        };
        layer.create(entry, file.as_ref().map_or(Contents::None, Contents::File))?;
    }
    Ok(layer.finish()?)
}
