//! The files of an image, without the image: into a folder or an archive.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::path::Path;

use super::OutputError;
use crate::layer::{self, Contents, DiskTree, PackOptions};
use crate::store::View;
use crate::tree::{self, Entry, Kind, Meta, Owners, Tree, TreePath};

/// Writes the files in `views` to `out` as an archive, with the owners that they have in the image: those of a view in the folder of
/// that name, where there is one. No two are in the same. `notes` are more files for each of the views, with what is in them: none of
/// them is one of its files.
///
/// # Errors
/// [`OutputError`] where a file cannot be read, or `out` fails.
pub fn write_tar(
    views: &[(Option<String>, View)],
    notes: &[Vec<(String, Vec<u8>)>],
    out: &mut dyn Write,
) -> Result<(), OutputError> {
    let (mut entries, mut folders) = (Vec::new(), Vec::new());
    let mut noted: HashMap<TreePath, &[u8]> = HashMap::new();
    for (at, (folder, view)) in views.iter().enumerate() {
        let folder = folder.as_ref().map_or_else(TreePath::root, |name| TreePath::root().child(name.as_bytes()));
        let mut own = flat(view)?;
        if !folder.is_root() {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            let head = Entry { path: TreePath::root(), kind: Kind::Dir, meta, implied: false };
            if !own.first().is_some_and(|entry| entry.path.is_root()) {
                own.insert(0, head);
            }
        }
        for (name, bytes) in notes.get(at).into_iter().flatten() {
            let path = TreePath::root().child(name.as_bytes());
            noted.insert(folder.join(&path), bytes);
            let kind = Kind::File { size: bytes.len() as u64, digest: None };
            own.push(Entry { path, kind, meta: Meta { mode: 0o644, ..Meta::default() }, implied: false });
        }
        own.sort_by(|one, other| one.path.cmp(&other.path));
        entries.extend(own.into_iter().map(|entry| below(&folder, entry)));
        folders.push((view, folder));
    }
    let view_of = |path: &TreePath| folders.iter().find(|(_, folder)| path.starts_with(folder));
    let mut open = |entry: &Entry| {
        if let Some(bytes) = noted.get(&entry.path) {
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            file.rewind()?;
            return Ok(file);
        }
        let (view, folder) = view_of(&entry.path).ok_or(std::io::ErrorKind::NotFound)?;
        let path = entry.path.strip_prefix(folder).unwrap_or_else(|| entry.path.clone());
        view.open(&path).map_err(std::io::Error::other)
    };
    Ok(layer::pack(&entries, &mut open, out, &PackOptions::default())?)
}

/// Returns an entry as it is in a folder.
fn below(folder: &TreePath, entry: Entry) -> Entry {
    let kind = match entry.kind {
        Kind::Hardlink { target } => Kind::Hardlink { target: folder.join(&target) },
        kind => kind,
    };
    Entry { path: folder.join(&entry.path), kind, ..entry }
}

/// Writes the files in `view` into the folder `dir`, which exists; all belong to the caller. Files of the same name are
/// replaced, but no folder with all that is in it. Returns warnings: what a folder cannot hold.
///
/// # Errors
/// [`OutputError::FolderInTheWay`], before anything is written; and where a file cannot be read or written.
pub fn write_dir(view: &View, dir: &Path) -> Result<Vec<String>, OutputError> {
    let entries = flat(view)?;
    let is_folder = |entry: &&Entry| {
        !entry.kind.is_dir() && dir.join(entry.path.as_os_path()).symlink_metadata().is_ok_and(|there| there.is_dir())
    };
    if let Some(entry) = entries.iter().find(is_folder) {
        return Err(OutputError::FolderInTheWay { path: dir.join(entry.path.as_os_path()), what: entry.kind.word() });
    }
    let entries: Vec<_> = entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    write_entries(view, &entries, dir)
}

/// Writes files of `view` into a folder: each as what is behind its path.
fn write_entries(view: &View, entries: &[(TreePath, Entry)], dir: &Path) -> Result<Vec<String>, OutputError> {
    let mut tree = DiskTree::open(dir, Owners::Exported)?;
    let mut warnings = Vec::new();
    for (from, entry) in entries {
        match &entry.kind {
            Kind::Char { .. } | Kind::Block { .. } => {
                warnings.push(format!(
                    "/{} is a {}, which only root can make: left out",
                    entry.path,
                    entry.kind.word()
                ));
                continue;
            }
            Kind::File { .. } => {
                let file = view.open(from)?;
                tree.create(entry, Contents::File(&file))?;
            }
            _ => {
                tree.create(entry, Contents::None)?;
            }
        }
    }
    tree.finish()?;
    Ok(warnings)
}

/// Writes what is at `from` in `view` to `to`: a file under that name, or into the folder where `to` is one; what is in a directory
/// into the folder `to`, which is made. Links on the way to `from` are followed inside of the image. All belong to the caller. Returns
/// warnings; `None` where there is no such path.
///
/// # Errors
/// [`OutputError`] where a file cannot be read or written.
pub fn write_part(view: &View, from: &str, to: &Path) -> Result<Option<Vec<String>>, OutputError> {
    let found = tree::resolve(view, from.as_bytes())?;
    let Some(node) = found.node else { return Ok(None) };
    let into = |path: &Path, call: &'static str| {
        let path = path.display().to_string();
        move |source| OutputError::Tree(tree::Error { call, path, source })
    };
    if !node.kind.is_dir() {
        let wants_dir = to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (dir, name) = match to.file_name() {
            Some(name) if !wants_dir => (to.parent().unwrap_or(Path::new("/")), name.as_encoded_bytes()),
            _ => (to, found.path.name().unwrap_or_default()),
        };
        std::fs::create_dir_all(dir).map_err(into(dir, "create"))?;
        let path = TreePath::root().child(name);
        let mut disk = DiskTree::open(dir, Owners::Exported)?;
        let file = match node.kind {
            Kind::File { .. } => Some(view.open(&found.path)?),
            _ => None,
        };
        let entry = Entry { path, kind: node.kind, meta: node.meta, implied: false };
        disk.create(&entry, file.as_ref().map_or(Contents::None, Contents::File))?;
        // The folder keeps what it has.
        drop(disk);
        return Ok(Some(Vec::new()));
    }
    std::fs::create_dir_all(to).map_err(into(to, "create"))?;
    let below = |entry: &Entry| entry.path.strip_prefix(&found.path);
    let mut first: HashMap<TreePath, TreePath> = HashMap::new();
    let mut entries = Vec::new();
    for entry in flat(view)? {
        let Some(path) = below(&entry).filter(|path| !path.is_root()) else { continue };
        let kind = match &entry.kind {
            Kind::Hardlink { target } => match first.get(target) {
                Some(known) => Kind::Hardlink { target: known.clone() },
                // The first name of it is elsewhere.
                None => {
                    first.insert(target.clone(), path.clone());
                    view.lookup(&entry.path)?.map_or(Kind::Fifo, |node| node.kind)
                }
            },
            kind => {
                first.insert(entry.path.clone(), path.clone());
                kind.clone()
            }
        };
        entries.push((entry.path.clone(), Entry { path, kind, ..entry }));
    }
    write_entries(view, &entries, to).map(Some)
}

/// The visible files, sorted by path; of several names of one file the first is the file, the others are links to it.
fn flat(view: &View) -> Result<Vec<Entry>, OutputError> {
    let mut paths: Vec<TreePath> = Vec::new();
    view.walk(&mut |entry| {
        paths.push(entry.path.clone());
        Ok::<(), OutputError>(())
    })?;
    let mut first_names: HashMap<(u64, u64), TreePath> = HashMap::new();
    let mut entries = Vec::with_capacity(paths.len());
    for path in paths {
        let Some(node) = view.lookup(&path)? else { continue };
        let first = node.inode.map(|inode| first_names.entry(inode).or_insert_with(|| path.clone()).clone());
        let kind = match first {
            Some(target) if target != path => Kind::Hardlink { target },
            _ => node.kind,
        };
        entries.push(Entry { path, kind, meta: node.meta, implied: false });
    }
    Ok(entries)
}
