//! Paths of a layer that lead through a symbolic link of a layer below: an archive may have `lib/x` without saying what `lib` is,
//! and where `lib` is a link to `usr/lib`, container runtimes put the file there.

use std::collections::BTreeMap;
use std::path::Path;

use super::BuildError;
use crate::layer::{Contents, DiskTree, Unpacked};
use crate::store::View;
use crate::tree::{Entry, Kind, Meta, TreePath, resolve};

/// Links that are followed one after the other, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Moves what lies in directories that the archive does not describe, and that are links in `below`, to where these lead: in
/// `found` and in its tree on disk, which is in the folder `dir`.
pub(super) fn relocate(found: &mut Unpacked, below: &View, dir: &Path, tree: &mut DiskTree) -> Result<(), BuildError> {
    for _ in 0..MAX_LINKS {
        let Some((from, to)) = next(found, below)? else { return Ok(()) };
        move_all(found, &from, &to, dir, tree)?;
    }
    Ok(())
}

/// Returns a directory that is a link below, and where that leads.
fn next(found: &Unpacked, below: &View) -> Result<Option<(TreePath, TreePath)>, BuildError> {
    for entry in found.entries.iter().filter(|entry| entry.implied && !entry.path.is_root()) {
        let is_link = |old: &Entry| matches!(old.kind, Kind::Symlink { .. });
        if !below.entry(&entry.path).is_some_and(is_link) {
            continue;
        }
        // A link that leads nowhere, or to a file, is hidden by the directory.
        if let Ok(place) = resolve(below, entry.path.as_bytes())
            && place.node.is_none_or(|node| node.kind.is_dir())
            && !place.path.starts_with(&entry.path)
        {
            return Ok(Some((entry.path.clone(), place.path)));
        }
    }
    Ok(None)
}

fn move_all(
    found: &mut Unpacked,
    from: &TreePath,
    to: &TreePath,
    dir: &Path,
    tree: &mut DiskTree,
) -> Result<(), BuildError> {
    let moved = |path: &TreePath| match path.strip_prefix(from) {
        Some(rest) => to.join(&rest),
        None => path.clone(),
    };
    let entries = std::mem::take(&mut found.entries);
    let (moving, staying): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|e| e.path.starts_with(from));
    let mut index: BTreeMap<TreePath, Entry> = staying.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    for path in to.ancestors().chain([to.clone()]).filter(|path| !path.is_root()) {
        if !index.get(&path).is_some_and(|entry| entry.kind.is_dir()) {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            let entry = Entry { path: path.clone(), kind: Kind::Dir, meta, implied: true };
            tree.create(&entry, Contents::None)?;
            index.insert(path, entry);
        }
    }
    for old in moving.into_iter().filter(|entry| entry.path != *from) {
        let on_disk = dir.join(old.path.as_os_path());
        let kind = match old.kind {
            Kind::Hardlink { target } => Kind::Hardlink { target: moved(&target) },
            kind => kind,
        };
        let entry = Entry { path: moved(&old.path), kind, ..old };
        let known = index.get(&entry.path).is_some_and(|there| there.kind.is_dir());
        if known && entry.kind.is_dir() && entry.implied {
            continue;
        }
        let contents = match entry.kind {
            Kind::File { .. } => Contents::Spare(&on_disk),
            _ => Contents::None,
        };
        tree.create(&entry, contents)?;
        index.insert(entry.path.clone(), entry);
    }
    tree.remove(from)?;
    found.entries = index.into_values().collect();
    found.opaque.iter_mut().for_each(|path| *path = moved(path));
    found.opaque.sort();
    Ok(())
}
