//! Several layers → one layer that does the same on what is below them.

use std::collections::btree_map::BTreeMap;
use std::io;
use std::ops::Bound;

use crate::oci::History;
use crate::plan::KeyBuilder;
use crate::store::{LayerId, Packed, View, ViewLayer, open_in};
use crate::tree::{Entry, Kind, Meta, Tree, TreePath};

use super::chain::Chain;
use super::pack::pack_entries;
use super::work::Work;
use super::{BuildError, Times};

/// Which layers of an image become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Squash {
    /// None: each step has its own.
    #[default]
    No,
    /// Those that the build adds to its base.
    Own,
    /// All.
    All,
}

impl Squash {
    /// Returns how many layers of `chain` stay below the one that is made; `None` where none is made.
    pub(super) fn below(self, chain: &Chain) -> Option<usize> {
        let of_base = chain.links().iter().filter(|link| link.origin.is_some()).count();
        let below = match self {
            Squash::No => return None,
            Squash::Own => of_base,
            Squash::All => 0,
        };
        // One layer is one already.
        (below + 1 < chain.links().len()).then_some(below)
    }
}

/// Returns the blob of the layers of `chain` from `below` on as one, if it was made before.
pub(super) fn known(work: &Work<'_>, chain: &Chain, below: usize) -> Option<Packed> {
    work.store.packed(&name(chain, below), &variant(work))
}

/// Returns the blob of the layers of `chain` from `below` on as one; makes it where it is missing.
pub(super) fn squashed(work: &Work<'_>, chain: &Chain, below: usize) -> Result<Packed, BuildError> {
    if let Some(packed) = known(work, chain, below) {
        return Ok(packed);
    }
    let view = work.view(chain)?;
    let (lower, upper) = view.layers().split_at(below);
    let (entries, places) = merge(upper, &View::new(lower.to_vec()))?;
    let making = &work.options.making;
    let mut open = |entry: &Entry| -> io::Result<std::fs::File> {
        let (layer, path) = places.get(&entry.path).ok_or(io::ErrorKind::NotFound)?;
        open_in(&upper[*layer].dir, path)
    };
    let packed = pack_entries(work.store, &entries, &mut open, (making.compression, making.times), work.control)?;
    work.store.remember_packed(&name(chain, below), &variant(work), &packed)?;
    Ok(packed)
}

/// Returns what the layers from `below` on are called as one: the same wherever they are the same.
pub(super) fn name(chain: &Chain, below: usize) -> LayerId {
    let mut key = KeyBuilder::new("squash");
    key.field("layers", chain.identity().0).field("below", below.to_string());
    LayerId::from_hex(&key.finish().to_string()).expect("a key is 64 hexadecimal digits")
}

fn variant(work: &Work<'_>) -> String {
    let making = &work.options.making;
    match making.times {
        Times::Keep | Times::Image(_) => making.compression.to_string(),
        Times::Clamp(time) => format!("{}@max{time}", making.compression),
        Times::Set(time) => format!("{}@{time}", making.compression),
    }
    .replace(':', "-")
}

/// Makes the history say that one layer stands for those above the lowest `below`: the last step that made one stands for it. `own` is
/// where the entries of this build begin.
pub(super) fn tell(history: &mut [History], own: usize, squash: Squash) {
    let from = if squash == Squash::All { 0 } else { own };
    let mut last = true;
    for step in history[from..].iter_mut().rev().filter(|step| !step.empty_layer) {
        step.empty_layer = !last;
        last = false;
    }
}

/// Where the contents of a file lie: in which layer, and under which path.
type Places = BTreeMap<TreePath, (usize, TreePath)>;

/// A file of the layer that is made.
struct Merged {
    entry: Entry,
    /// The layer it is from, and the first name that it has there: files with several names have the same.
    inode: (usize, TreePath),
    /// Whether nothing of the layers below is seen in this directory.
    opaque: bool,
}

/// Returns the entries of the layer that does on `below` what `layers`, bottom first, do one after the other, sorted by path; and where
/// the contents of its files lie.
fn merge(layers: &[ViewLayer], below: &dyn Tree) -> Result<(Vec<Entry>, Places), BuildError> {
    let mut all: BTreeMap<TreePath, Merged> = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate() {
        for entry in layer.index.entries() {
            add(&mut all, number, entry);
        }
    }
    hide(&mut all, below)?;
    Ok(finish(all, layers))
}

/// Adds an entry of the next layer.
fn add(all: &mut BTreeMap<TreePath, Merged>, number: usize, entry: &Entry) {
    let old = all.get(&entry.path);
    let first = match &entry.kind {
        Kind::Hardlink { target } => target.clone(),
        _ => entry.path.clone(),
    };
    let opaque = match old {
        // A directory where something else was, or was removed: nothing of the layers below comes back.
        Some(old) if entry.kind.is_dir() => old.opaque || !old.entry.kind.is_dir(),
        _ => false,
    };
    if !entry.kind.is_dir() {
        remove_below(all, &entry.path);
    }
    if entry.implied && all.get(&entry.path).is_some_and(|old| old.entry.kind.is_dir()) {
        return;
    }
    all.insert(entry.path.clone(), Merged { entry: entry.clone(), inode: (number, first), opaque });
}

fn remove_below(all: &mut BTreeMap<TreePath, Merged>, dir: &TreePath) {
    let inside = (Bound::Excluded(dir.clone()), Bound::Unbounded);
    let gone: Vec<TreePath> =
        all.range(inside).map(|(path, _)| path).take_while(|path| path.starts_with(dir)).cloned().collect();
    for path in gone {
        all.remove(&path);
    }
}

/// Drops whiteouts of what is not there, and adds those that opaque directories stand for.
fn hide(all: &mut BTreeMap<TreePath, Merged>, below: &dyn Tree) -> Result<(), BuildError> {
    let mut gone = Vec::new();
    let mut new = Vec::new();
    for (path, merged) in all.iter() {
        if merged.entry.kind == Kind::Whiteout && below.lookup(path)?.is_none() {
            gone.push(path.clone());
        }
        if merged.opaque {
            hide_in(path, all, below, &mut new)?;
        }
    }
    for path in gone {
        all.remove(&path);
    }
    for path in new {
        let entry = Entry { path: path.clone(), kind: Kind::Whiteout, meta: Meta::default(), implied: false };
        let whiteout = Merged { entry, inode: (0, path.clone()), opaque: false };
        all.entry(path).or_insert(whiteout);
    }
    Ok(())
}

/// Adds to `new` what `below` has in the directory `dir` and `all` does not.
fn hide_in(
    dir: &TreePath,
    all: &BTreeMap<TreePath, Merged>,
    below: &dyn Tree,
    new: &mut Vec<TreePath>,
) -> Result<(), BuildError> {
    let mut todo = vec![dir.clone()];
    while let Some(dir) = todo.pop() {
        if !dir.is_root() && !below.lookup(&dir)?.is_some_and(|node| node.kind.is_dir()) {
            continue;
        }
        for (name, node) in below.read_dir(&dir)? {
            let path = dir.child(&name);
            match all.get(&path) {
                None => new.push(path),
                Some(own) if own.entry.kind.is_dir() && node.kind.is_dir() => todo.push(path),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Gives each file with several names its contents under the first of those that are left.
fn finish(all: BTreeMap<TreePath, Merged>, layers: &[ViewLayer]) -> (Vec<Entry>, Places) {
    let (mut entries, mut places) = (Vec::with_capacity(all.len()), Places::new());
    let mut names: BTreeMap<(usize, TreePath), TreePath> = BTreeMap::new();
    for (path, Merged { mut entry, inode, opaque }) in all {
        // What is below it is another directory.
        entry.implied &= !opaque;
        if matches!(entry.kind, Kind::Dir | Kind::Whiteout) {
            entries.push(entry);
            continue;
        }
        if let Some(first) = names.get(&inode) {
            entry.kind = Kind::Hardlink { target: first.clone() };
            entries.push(entry);
            continue;
        }
        if let Kind::Hardlink { .. } = entry.kind
            && let Some(first) = layers[inode.0].index.get(&inode.1)
        {
            entry.kind = first.kind.clone();
            entry.meta = first.meta.clone();
        }
        places.insert(path.clone(), inode.clone());
        names.insert(inode, path);
        entries.push(entry);
    }
    (entries, places)
}

#[cfg(test)]
mod tests;
