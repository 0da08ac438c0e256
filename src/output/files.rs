//! The files of an image, without the image: into a folder or an archive.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use super::OutputError;
use crate::layer::{self, Contents, DiskTree, PackOptions};
use crate::store::View;
use crate::tree::{Entry, Kind, Owners, Tree, TreePath};

/// Writes the files in `view` to `out` as an archive, with the owners that they have in the image.
///
/// # Errors
/// [`OutputError`] where a file cannot be read, or `out` fails.
pub fn write_tar(view: &View, out: &mut dyn Write) -> Result<(), OutputError> {
    let entries = flat(view)?;
    let mut open = |entry: &Entry| view.open(&entry.path).map_err(std::io::Error::other);
    Ok(layer::pack(&entries, &mut open, out, &PackOptions::default())?)
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
    let mut tree = DiskTree::open(dir, Owners::Exported)?;
    let mut warnings = Vec::new();
    for entry in entries {
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
                let file = view.open(&entry.path)?;
                tree.create(&entry, Contents::File(&file))?;
            }
            _ => {
                tree.create(&entry, Contents::None)?;
            }
        }
    }
    tree.finish()?;
    Ok(warnings)
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
