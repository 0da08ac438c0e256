//! What a step changed that worked on a tree in place → the entries of a layer. They are the same as those that
//! [`changes`](super::changes()) finds in the upper directory of an overlay after the same step: what is not the file that was
//! recorded is what overlayfs would have copied up, and from there on both are judged alike.
//!
//! Names of one file are where the two differ. Overlayfs copies up the name through which a file of a lower layer is
//! changed, and the other names keep the old file. Here they are one file all the time; but who watched them knows through
//! which names it was changed ([`Touched`]), and the others get the old file back afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::change::{Found, Ownership, changed, digest, entries, found};
use super::record::{Record, Seen};
use crate::tree::{Entry, Error, Tree, TreePath};

/// The names through which files with several names were changed.
#[derive(Debug, Default)]
pub struct Touched {
    /// Those that were seen.
    pub names: HashSet<TreePath>,
    /// Whether some may have been missed.
    pub incomplete: bool,
}

/// What a step could do or see in a tree, and could not where layers are stacked: there it may have made another layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Otherwise {
    /// This folder of the layers below got another name: on an overlay rename(2) of it is EXDEV.
    Renamed(TreePath),
    /// This file was written to, and other names of it showed the change as long as the step went on.
    Shared(TreePath),
    /// This file had several names, and got others, or was changed in a way that nobody saw: an overlay knows which of the old
    /// names became a new one, and through which a change came. Here that is not known.
    Names(TreePath),
}

/// What a step did to a tree.
#[derive(Debug)]
pub struct InPlace {
    /// The entries of the layer, sorted by path, as of [`changes`](super::changes()).
    pub entries: Vec<Entry>,
    /// Files that were looked at, because something happened to them: changed or not.
    pub looked_at: Vec<TreePath>,
    /// Names at which the tree does not hold what the layer and those below say: files to be made again, sorted by path.
    pub stale: Vec<TreePath>,
    /// What is in the tree now.
    pub now: Record,
    /// What stacked layers would not have let it do, or see.
    pub otherwise: Vec<Otherwise>,
}

/// Returns the entries of the layer that turns `below` into what is in the folder `tree`, which was as `before` says when the
/// step began. Nobody may change it any more.
///
/// # Errors
/// [`Error`] where a file cannot be read.
pub fn changes_in_place(
    tree: &Path,
    before: &Record,
    touched: &Touched,
    below: &dyn Tree,
    ownership: Ownership<'_>,
) -> Result<InPlace, Error> {
    let now = Record::of(tree)?;
    let names = Names::of(before, &now, touched);
    let mut candidates: BTreeMap<&TreePath, Option<(u64, u64)>> = BTreeMap::new();
    for (path, seen) in now.files().iter().filter(|(path, seen)| before.get(path) != Some(seen)) {
        match names.fate(path, seen) {
            Fate::Below => {}
            Fate::Copied(file) => drop(candidates.insert(path, file)),
        }
    }
    let looked_at: Vec<TreePath> = candidates.keys().map(|path| (*path).clone()).collect();
    let mut whiteouts = BTreeSet::new();
    for path in before.files().keys().filter(|path| now.get(path).is_none()) {
        let hidden = path.parent().and_then(|parent| now.get(&parent)).is_some_and(Seen::is_dir);
        if hidden && below.lookup(path)?.is_some() {
            whiteouts.insert(path.clone());
        }
    }
    // The folders that lead to a change, as overlayfs copies them up too.
    let leading: Vec<TreePath> = whiteouts.iter().chain(&looked_at).flat_map(TreePath::ancestors).collect();
    for dir in &leading {
        candidates.entry(dir).or_default();
    }
    let root = TreePath::root();
    candidates.entry(&root).or_default();
    let mut all = Vec::with_capacity(candidates.len());
    for (path, file) in candidates {
        let mut found = found(path, tree.join(path.as_os_path()), ownership)?;
        found.inode = file;
        all.push(found);
    }
    digest(&mut all)?;
    let keep = changed(&all, &whiteouts, below)?;
    let mut unclear = Vec::new();
    for file in names.files.values() {
        unclear.extend(file.unclear(&all, below)?.cloned());
    }
    unclear.sort();
    let kept: HashSet<TreePath> =
        all.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(file, _)| file.path.clone()).collect();
    let stale = names.stale(&kept);
    let files = all.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect();
    let entries = entries(files, whiteouts);
    let mut stale: BTreeSet<TreePath> = stale.into_iter().cloned().collect();
    let otherwise = renamed(tree, before, &now).map(Otherwise::Renamed);
    let otherwise = otherwise.chain(names.shared().cloned().map(Otherwise::Shared));
    let otherwise = otherwise.filter(|what| !matches!(what, Otherwise::Shared(path) if unclear.contains(path)));
    let otherwise = otherwise.chain(unclear.iter().cloned().map(Otherwise::Names)).collect();
    stale.extend(now.unfit().iter().cloned());
    Ok(InPlace { entries, looked_at, stale: stale.into_iter().collect(), now, otherwise })
}

/// Returns the folders that were there before, by another name; not what is in them.
fn renamed<'a>(tree: &'a Path, before: &'a Record, now: &'a Record) -> impl Iterator<Item = TreePath> + 'a {
    let dirs = |record: &'a Record| record.files().iter().filter(|(_, seen)| seen.is_dir());
    let old: HashMap<_, _> = dirs(before).map(|(path, seen)| (seen.inode, path)).collect();
    let moved = move |path: &TreePath, seen: &Seen| {
        let was = old.get(&seen.inode).filter(|was| **was != path);
        was.is_some_and(|was| now.get(was).is_none_or(|there| there.inode != seen.inode))
    };
    let candidates: Vec<&TreePath> = dirs(now).filter(|(path, seen)| moved(path, seen)).map(|(path, _)| path).collect();
    let all: HashSet<&TreePath> = candidates.iter().copied().collect();
    let outermost = candidates.into_iter().filter(move |path| !path.parent().is_some_and(|above| all.contains(&above)));
    // A new folder may have the number of one that is gone; but it is younger.
    outermost.filter(|path| birth(&tree.join(path.as_os_path())).is_some_and(|made| made <= before.latest())).cloned()
}

/// Returns when a file was made, where its file system knows.
fn birth(path: &Path) -> Option<(i64, i64)> {
    let (follow, wanted) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME);
    let found = rustix::fs::statx(CWD, path, follow, wanted).ok()?;
    let known = found.stx_mask & wanted.bits() != 0;
    known.then_some((found.stx_btime.tv_sec, i64::from(found.stx_btime.tv_nsec)))
}

/// What becomes of a name whose file is not as it was recorded.
enum Fate {
    /// It keeps the file of the layers below.
    Below,
    /// It counts as copied up; names with the same number are one file.
    Copied(Option<(u64, u64)>),
}

/// The names of files that had several when the step began, and to which something happened.
struct Names<'a> {
    files: HashMap<(u64, u64), Linked<'a>>,
}

struct Linked<'a> {
    /// Names that it had, and still has.
    old: Vec<&'a TreePath>,
    /// Names that it got.
    new: Vec<&'a TreePath>,
    /// Old names through which it was changed; sorted.
    touched: Vec<&'a TreePath>,
    /// Whether all of its names are one file in the layer, because nobody knows better.
    together: bool,
    /// One of the names that it had.
    before: &'a TreePath,
    /// Whether it was changed, but for its names, or somebody tried to.
    changed: bool,
    /// Whether other bytes are in it, or another time.
    rewritten: bool,
    /// Whether it was changed through none of its old names: all of them keep the old file.
    by_others: bool,
}

impl<'a> Linked<'a> {
    /// Returns a name of the file, where an overlay may have made something else of it. `found` are files that were looked at,
    /// sorted by path.
    fn unclear(&self, found: &[Found], below: &dyn Tree) -> Result<Option<&'a TreePath>, Error> {
        let unclear = match &self.new[..] {
            [] => self.together,
            // The only name more, of the one that was changed or of another one.
            [new] => self.changed || self.has_other_attributes(new, found, below)?,
            // On an overlay each of them may be of another old name, and then they are files of their own.
            _ => true,
        };
        Ok(self.new.first().or(self.touched.first()).or(self.old.first()).copied().filter(|_| unclear))
    }

    /// Whether the file has other attributes than it had: an owner that is emulated shows in them alone.
    fn has_other_attributes(&self, new: &TreePath, found: &[Found], below: &dyn Tree) -> Result<bool, Error> {
        let is = found.binary_search_by(|file| file.path.cmp(new)).ok().map(|at| &found[at].meta);
        let was = below.lookup(self.before)?.map(|node| node.meta);
        let (Some(is), Some(was)) = (is, was) else { return Ok(false) };
        Ok((is.mode, is.uid, is.gid, &is.xattrs) != (was.mode, was.uid, was.gid, &was.xattrs))
    }
}

impl<'a> Names<'a> {
    fn of(before: &'a Record, now: &'a Record, touched: &Touched) -> Self {
        let mut files = HashMap::new();
        let now_names = now.names();
        for (inode, all) in before.names() {
            let Some(names) = now_names.get(&inode).filter(|_| all.len() > 1) else { continue };
            let (Some(was), Some(is)) = (before.get(all[0]), now.get(names[0])) else { continue };
            if was == is {
                continue;
            }
            let (old, new): (Vec<_>, Vec<_>) =
                names.iter().copied().partition(|name| before.get(name).is_some_and(|seen| seen.inode == inode));
            let by_old: Vec<_> = old.iter().copied().filter(|name| touched.names.contains(*name)).collect();
            // Also through a name that is gone since, or leads to another file: with that name the change is gone.
            let by_others = new.iter().chain(&all).any(|name| touched.names.contains(*name));
            let by_none = by_old.is_empty() && !by_others;
            // Through a mapping of its memory, for example.
            let differs = !was.is_same_file(is);
            let changed = differs || !by_none;
            let together = differs && (by_none || touched.incomplete);
            let by_others = differs && by_old.is_empty();
            let rewritten = !was.has_same_bytes(is);
            files.insert(
                inode,
                Linked { old, new, touched: by_old, together, before: all[0], changed, rewritten, by_others },
            );
        }
        Names { files }
    }

    fn fate(&self, path: &TreePath, seen: &Seen) -> Fate {
        if seen.is_dir() {
            return Fate::Copied(None);
        }
        let Some(file) = self.files.get(&seen.inode) else { return Fate::Copied(Some(seen.inode)) };
        let is_old = file.old.binary_search(&path).is_ok();
        match file.touched.binary_search(&path) {
            _ if file.together => Fate::Copied(Some(seen.inode)),
            // On an overlay a new name is linked to the copy of the old one from which it was made: which one, nobody knows.
            _ if !is_old => Fate::Copied(Some(seen.inode)),
            Ok(_) if file.touched.len() == 1 => Fate::Copied(Some(seen.inode)),
            // Each name has a copy of its own. Real device numbers have 32 bits.
            Ok(at) => Fate::Copied(Some((u64::MAX - at as u64, seen.inode.1))),
            Err(_) => Fate::Below,
        }
    }

    /// Returns names through which a file was written to that had others, which keep the old file.
    fn shared(&self) -> impl Iterator<Item = &'a TreePath> {
        let apart = self.files.values().filter(|file| file.rewritten && !file.together);
        let by_few = apart.filter(|file| file.touched.len() < file.old.len());
        by_few.filter_map(|file| file.touched.first().or(file.new.first()).or(file.old.first()).copied())
    }

    /// Returns the names that must become files of their own, as they are in the layers, where `kept` are in the new one.
    fn stale(&self, kept: &HashSet<TreePath>) -> Vec<&'a TreePath> {
        let mut stale = Vec::new();
        for file in self.files.values().filter(|file| !file.together) {
            if file.by_others || file.old.iter().any(|name| kept.contains(*name)) {
                stale.extend(&file.old);
            }
            stale.extend(&file.new);
        }
        stale
    }
}

#[cfg(test)]
mod tests;
