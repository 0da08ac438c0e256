//! Paths of a layer that lead through a symbolic link of a layer below: an archive may have `lib/x` without saying what `lib` is,
//! and where `lib` is a link to `usr/lib`, container runtimes put the file there.

use std::collections::{BTreeMap, BTreeSet};
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
    let named = |entry: Entry| match entry.kind {
        Kind::Hardlink { target } => Entry { kind: Kind::Hardlink { target: moved(&target) }, ..entry },
        _ => entry,
    };
    let mut index: BTreeMap<TreePath, Entry> =
        staying.into_iter().map(named).map(|entry| (entry.path.clone(), entry)).collect();
    for path in to.ancestors().chain([to.clone()]).filter(|path| !path.is_root()) {
        if !index.get(&path).is_some_and(|entry| entry.kind.is_dir()) {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            let entry = Entry { path: path.clone(), kind: Kind::Dir, meta, implied: true };
            tree.create(&entry, Contents::None)?;
            index.insert(path, entry);
        }
    }
    let mut touched: BTreeSet<TreePath> = from.parent().into_iter().collect();
    for old in moving.into_iter().filter(|entry| entry.path != *from) {
        let on_disk = dir.join(old.path.as_os_path());
        let entry = Entry { path: moved(&old.path), ..named(old) };
        let known = index.get(&entry.path).is_some_and(|there| there.kind.is_dir());
        if known && entry.kind.is_dir() && entry.implied {
            continue;
        }
        let contents = match entry.kind {
            Kind::File { .. } => Contents::Spare(&on_disk),
            _ => Contents::None,
        };
        tree.create(&entry, contents)?;
        touched.extend(entry.path.parent());
        index.insert(entry.path.clone(), entry);
    }
    tree.remove(from)?;
    // A name that comes or goes changes the time of the directory.
    for entry in touched.iter().filter_map(|path| index.get(path)).filter(|entry| entry.kind.is_dir()) {
        tree.create(entry, Contents::None)?;
    }
    found.entries = index.into_values().collect();
    found.opaque.iter_mut().for_each(|path| *path = moved(path));
    found.opaque.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use super::*;
    use crate::layer::{UnpackOptions, unpack};
    use crate::store::{Index, ViewLayer};
    use crate::tree::Owners;

    fn below() -> View {
        let entry = |path: &str, kind| Entry {
            path: TreePath::new(path).unwrap(),
            kind,
            meta: Meta { mode: 0o755, ..Meta::default() },
            implied: false,
        };
        let link = Kind::Symlink { target: b"usr/lib".to_vec() };
        let index = Index::new(vec![entry("lib", link), entry("usr", Kind::Dir), entry("usr/lib", Kind::Dir)]);
        let (id, dir) = (index.layer_id(), Path::new("/nonexistent").into());
        View::new(vec![ViewLayer { id, index: Arc::new(index), dir }])
    }

    #[test]
    fn what_lies_behind_a_link_below_is_moved_and_directories_keep_their_times() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, time) in [
            ("./", tar::EntryType::Directory, 4),
            ("usr/lib/", tar::EntryType::Directory, 5),
            ("lib/x", tar::EntryType::Regular, 6),
            ("lib/d/", tar::EntryType::Directory, 7),
            ("lib/d/y", tar::EntryType::Regular, 8),
            ("opt/link", tar::EntryType::Link, 6),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
            header.set_mtime(time);
            header.set_size(0);
            match kind {
                tar::EntryType::Link => tar.append_link(&mut header, name, "lib/x").unwrap(),
                _ => tar.append_data(&mut header, name, &[][..]).unwrap(),
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut tree = DiskTree::open(dir.path(), Owners::Caller).unwrap();
        let archive = tar.into_inner().unwrap();
        let mut found = unpack(&mut &archive[..], &mut tree, &UnpackOptions::default()).unwrap();
        tree.finish().unwrap();
        let mut tree = DiskTree::open(dir.path(), Owners::Caller).unwrap();
        relocate(&mut found, &below(), dir.path(), &mut tree).unwrap();
        tree.finish().unwrap();
        assert!(!dir.path().join("lib").exists());
        for (path, time) in [("", 4), ("usr/lib", 5), ("usr/lib/x", 6), ("usr/lib/d", 7), ("usr/lib/d/y", 8)] {
            let known = found.entries.iter().find(|entry| entry.path == TreePath::new(path).unwrap()).unwrap();
            assert_eq!(known.meta.mtime.secs, time, "{path}");
            assert_eq!(dir.path().join(path).metadata().unwrap().mtime(), time, "{path}, on disk");
        }
        // What stays and is a name of a file that moves is one of it yet.
        let link = found.entries.iter().find(|entry| entry.path.as_bytes() == b"opt/link").unwrap();
        assert_eq!(link.kind, Kind::Hardlink { target: TreePath::new("usr/lib/x").unwrap() });
    }
}
