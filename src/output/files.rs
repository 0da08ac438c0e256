//! The files of an image, without the image: into a folder or an archive.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::path::Path;

use super::OutputError;
use crate::layer::{self, Contents, DiskTree, PackOptions};
use crate::store::View;
use crate::tree::{self, Entry, Kind, Meta, Mtime, Owners, Tree, TreePath};

/// Writes the files in `views` to `out` as an archive, with the owners that they have in the image: those of a view in the folder of
/// that name, where there is one. Two may be in the same if they have no files of the same name. `notes` are more files for each of
/// the views, with what is in them.
///
/// # Errors
/// [`OutputError::OverEachOther`]; and where a file cannot be read, or `out` fails.
pub fn write_tar(
    views: &[(Option<String>, View)],
    notes: &[Vec<(String, Vec<u8>)>],
    times: FileTimes,
    out: &mut dyn Write,
) -> Result<(), OutputError> {
    let placed = placed(views, notes, times)?;
    let mut open = |entry: &Entry| {
        let at = placed.binary_search_by(|placed| placed.entry.path.cmp(&entry.path));
        let placed = at.map(|at| &placed[at]).map_err(|_| std::io::ErrorKind::NotFound)?;
        if let Some(bytes) = placed.note {
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            file.rewind()?;
            return Ok(file);
        }
        views[placed.view].1.open(&placed.from).map_err(std::io::Error::other)
    };
    Ok(layer::pack(placed.iter().map(|placed| &placed.entry), &mut open, out, &PackOptions::default())?)
}

/// A file of one of several views.
struct Placed<'a> {
    /// As it is outside.
    entry: Entry,
    /// The number of its view.
    view: usize,
    /// Its path in that.
    from: TreePath,
    /// What is in it, where it is none of the view.
    note: Option<&'a [u8]>,
}

/// Returns all files of the views, sorted by path, each path once.
fn placed<'a>(
    views: &[(Option<String>, View)],
    notes: &'a [Vec<(String, Vec<u8>)>],
    times: FileTimes,
) -> Result<Vec<Placed<'a>>, OutputError> {
    let mut all: Vec<Placed<'_>> = Vec::new();
    for (number, (folder, view)) in views.iter().enumerate() {
        let folder = folder.as_ref().map_or_else(TreePath::root, |name| TreePath::root().child(name.as_bytes()));
        let mut own = flat(view)?;
        if !folder.is_root() {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            let head = Entry { path: TreePath::root(), kind: Kind::Dir, meta, implied: false };
            if !own.first().is_some_and(|entry| entry.path.is_root()) {
                own.insert(0, head);
            }
        }
        own.iter_mut().for_each(|entry| times.apply(entry));
        let place =
            |entry: Entry, note| Placed { from: entry.path.clone(), entry: below(&folder, entry), view: number, note };
        all.extend(own.into_iter().map(|entry| place(entry, None)));
        for (name, bytes) in notes.get(number).into_iter().flatten() {
            let kind = Kind::File { size: bytes.len() as u64, digest: None };
            let meta = Meta { mode: 0o644, ..Meta::default() };
            let path = TreePath::root().child(name.as_bytes());
            all.push(place(Entry { path, kind, meta, implied: false }, Some(bytes)));
        }
    }
    all.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    let both = |pair: &[Placed<'_>]| pair[0].entry.path == pair[1].entry.path;
    let is_dir = |placed: &Placed<'_>| placed.entry.kind.is_dir();
    if let Some(pair) = all.windows(2).find(|pair| both(pair) && !(is_dir(&pair[0]) && is_dir(&pair[1]))) {
        return Err(OutputError::OverEachOther { path: pair[0].entry.path.clone() });
    }
    all.dedup_by(|later, first| later.entry.path == first.entry.path);
    Ok(all)
}

/// What becomes of the times of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileTimes {
    /// They stay.
    Keep,
    /// None is later than this: seconds since 1970.
    AtMost(i64),
    /// All are this: seconds since 1970.
    All(i64),
}

impl FileTimes {
    fn apply(self, entry: &mut Entry) {
        let time = &mut entry.meta.mtime;
        match self {
            FileTimes::Keep => {}
            FileTimes::AtMost(most) => *time = Mtime::from_secs(most).min(*time),
            FileTimes::All(all) => *time = Mtime::from_secs(all),
        }
    }
}

/// Returns an entry as it is in a folder.
fn below(folder: &TreePath, entry: Entry) -> Entry {
    let kind = match entry.kind {
        Kind::Hardlink { target } => Kind::Hardlink { target: folder.join(&target) },
        kind => kind,
    };
    Entry { path: folder.join(&entry.path), kind, ..entry }
}

/// What becomes of files in a folder that are not in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Stay,
    /// They are removed.
    Go,
}

/// Writes the files in `view` into the folder `dir`, which exists; all belong to the caller. Files of the same name are
/// replaced, but no folder with all that is in it. Returns warnings: what a folder cannot hold.
///
/// # Errors
/// [`OutputError::FolderInTheWay`], before anything is written; and where a file cannot be read or written.
pub fn write_dir(view: &View, times: FileTimes, dir: &Path) -> Result<Vec<String>, OutputError> {
    let mut entries = flat(view)?;
    entries.iter_mut().for_each(|entry| times.apply(entry));
    nothing_in_the_way(entries.iter(), dir)?;
    write_entries(entries.iter().map(|entry| (view, &entry.path, entry)), dir)
}

/// As [`write_dir`], for several images: those of a view in the folder of that name, where there is one. Two may be in the same if they
/// have no files of the same name. The caller writes `notes` afterwards: more files for each of the views. With [`Others::Go`] folders are
/// replaced, too, and what is not in an image is removed first.
///
/// # Errors
/// [`OutputError::OverEachOther`] and [`OutputError::FolderInTheWay`], before anything is written; and where a file cannot be read or
/// written.
pub fn write_folder(
    views: &[(Option<String>, View)],
    notes: &[Vec<(String, Vec<u8>)>],
    (times, others): (FileTimes, Others),
    dir: &Path,
) -> Result<Vec<String>, OutputError> {
    let placed = placed(views, notes, times)?;
    match others {
        Others::Stay => nothing_in_the_way(placed.iter().map(|placed| &placed.entry), dir)?,
        Others::Go => remove_others(&placed, dir)?,
    }
    let of_views = placed.iter().filter(|placed| placed.note.is_none());
    write_entries(of_views.map(|placed| (&views[placed.view].1, &placed.from, &placed.entry)), dir)
}

fn nothing_in_the_way<'a>(entries: impl Iterator<Item = &'a Entry>, dir: &Path) -> Result<(), OutputError> {
    let is_folder = |entry: &&Entry| {
        !entry.kind.is_dir() && dir.join(entry.path.as_os_path()).symlink_metadata().is_ok_and(|there| there.is_dir())
    };
    match entries.into_iter().find(is_folder) {
        Some(entry) => {
            let path = dir.join(entry.path.as_os_path());
            Err(OutputError::FolderInTheWay { path, what: entry.kind.word() })
        }
        None => Ok(()),
    }
}

/// Removes what is in the folder and not in `placed`, and folders where that has a file. Follows no link.
fn remove_others(placed: &[Placed<'_>], dir: &Path) -> Result<(), OutputError> {
    let lost = |path: &Path, call: &'static str| {
        let path = path.display().to_string();
        move |source| OutputError::Tree(tree::Error { call, path, source })
    };
    let mut todo = vec![TreePath::root()];
    while let Some(at) = todo.pop() {
        let folder = dir.join(at.as_os_path());
        for file in std::fs::read_dir(&folder).map_err(lost(&folder, "read directory"))? {
            let file = file.map_err(lost(&folder, "read directory"))?;
            let path = at.child(file.file_name().as_encoded_bytes());
            let is_folder = file.file_type().map_err(lost(&file.path(), "stat"))?.is_dir();
            let own = placed.binary_search_by(|placed| placed.entry.path.cmp(&path)).ok().map(|at| &placed[at].entry);
            match own {
                Some(entry) if is_folder && entry.kind.is_dir() => todo.push(path),
                Some(_) if !is_folder => {}
                _ if is_folder => std::fs::remove_dir_all(file.path()).map_err(lost(&file.path(), "remove"))?,
                _ => std::fs::remove_file(file.path()).map_err(lost(&file.path(), "remove"))?,
            }
        }
    }
    Ok(())
}

/// Writes files of views into a folder: each as what is behind its path.
fn write_entries<'a>(
    entries: impl Iterator<Item = (&'a View, &'a TreePath, &'a Entry)>,
    dir: &Path,
) -> Result<Vec<String>, OutputError> {
    let mut tree = DiskTree::open(dir, Owners::Exported)?;
    let mut warnings = Vec::new();
    for (view, from, entry) in entries {
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
    if let Kind::Char { .. } | Kind::Block { .. } = node.kind {
        // Nor does it take the place of what is there.
        let source = std::io::Error::other(format!("it is a {}, which only root can make", node.kind.word()));
        return Err(tree::Error { call: "write", path: format!("/{}", found.path), source }.into());
    }
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
    write_entries(entries.iter().map(|(from, entry)| (view, from, entry)), to).map(Some)
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
