//! Finding what a source names: globs, links, and the files of a directory.

use super::filter::Filter;
use super::{CopyError, kept};
use crate::context::Glob;
use crate::tree::{Node, Tree, TreePath, resolve};

/// A file of a directory that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Its path from the directory.
    pub path: TreePath,
    /// What it is.
    pub node: Node,
    /// A directory that is copied only because something in it is.
    pub leads: bool,
}

/// Returns the components of a path or glob, cleaned by the text alone, as filepath.Join does it, before anything is looked up.
pub(super) fn clean(written: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// Returns the paths that the glob `written` matches, sorted; `None` where it is no glob.
pub(super) fn expand(source: &dyn Tree, written: &str) -> Result<Option<Vec<TreePath>>, CopyError> {
    let parts = clean(written);
    let Some(first) = parts.iter().position(|part| Glob::is_pattern(part)) else { return Ok(None) };
    let mut patterns = Vec::new();
    for part in &parts[first..] {
        let bad = |source| CopyError::BadPattern { source_path: written.to_owned(), source };
        patterns.push(Glob::new(part).map_err(bad)?);
    }
    let start = parts[..first].join("/");
    TreePath::new(&start).map_err(|source| CopyError::bad_path(written, source))?;
    // In front of the first pattern links are followed, behind it they are not.
    let start = follow(source, start.as_bytes())?;
    let mut places: Vec<(TreePath, bool)> =
        start.map(|(path, node)| (path, node.is_some_and(|node| node.kind.is_dir()))).into_iter().collect();
    for pattern in &patterns {
        let mut next = Vec::new();
        for (dir, _) in places.into_iter().filter(|(_, is_dir)| *is_dir) {
            for (name, node) in source.read_dir(&dir)? {
                if pattern.matches(&name) {
                    next.push((dir.child(&name), node.kind.is_dir()));
                }
            }
        }
        places = next;
    }
    Ok(Some(places.into_iter().map(|(path, _)| path).collect()))
}

/// Returns where the source at `place` is, a link there followed, and what it is.
pub(super) fn found(source: &dyn Tree, written: &str, place: &TreePath) -> Result<(TreePath, Node), CopyError> {
    match follow(source, place.as_bytes())? {
        Some((at, Some(node))) => Ok((at, node)),
        found => Err(missing(source, written, place, found.map(|(at, _)| at))),
    }
}

/// Returns what `filter` takes of the directory `at`: parents first, sorted. It keeps its own stack: a context may be deeper
/// than that of a thread.
pub(super) fn walk(source: &dyn Tree, at: &TreePath, filter: &Filter) -> Result<Vec<Picked>, CopyError> {
    let mut files = Vec::new();
    // What is still to list, the next one last.
    let mut todo: Vec<(TreePath, Node)> = Vec::new();
    let list = |dir: &TreePath, todo: &mut Vec<(TreePath, Node)>| -> Result<(), CopyError> {
        let children = source.read_dir(&at.join(dir))?;
        todo.extend(children.into_iter().rev().map(|(name, node)| (dir.child(&name), kept(node))));
        Ok(())
    };
    list(&TreePath::root(), &mut todo)?;
    let mut leads_somewhere = false;
    while let Some((path, node)) = todo.pop() {
        let taken = filter.takes(&path);
        let is_dir = node.kind.is_dir();
        let descend = is_dir && (taken || filter.may_take_below(&path));
        if descend {
            list(&path, &mut todo)?;
        }
        if taken || descend {
            leads_somewhere |= !taken;
            files.push(Picked { path, node, leads: !taken });
        }
    }
    if leads_somewhere {
        drop_dead_ends(&mut files);
    }
    Ok(files)
}

/// Removes the directories that lead to nothing.
fn drop_dead_ends(files: &mut Vec<Picked>) {
    let mut keep = vec![true; files.len()];
    let mut next: Option<&TreePath> = None;
    // From the end, where all that is in a directory is known before it.
    for (at, file) in files.iter().enumerate().rev() {
        keep[at] = !file.leads || next.is_some_and(|next| next.starts_with(&file.path));
        if keep[at] {
            next = Some(&file.path);
        }
    }
    let mut keep = keep.into_iter();
    files.retain(|_| keep.next().unwrap_or(true));
}

/// Returns where `path` leads, as [`resolve`]; `None` where a file is used as a directory.
pub(super) fn follow(source: &dyn Tree, path: &[u8]) -> Result<Option<(TreePath, Option<Node>)>, CopyError> {
    match resolve(source, path) {
        Ok(found) => Ok(Some((found.path, found.node))),
        Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the error that says that nothing is at `place`; `leads` is where its links lead.
fn missing(source: &dyn Tree, written: &str, place: &TreePath, leads: Option<TreePath>) -> CopyError {
    let source_path = written.to_owned();
    if let Some(path) = leads.filter(|_| matches!(source.lookup(place), Ok(Some(_)))) {
        return CopyError::DanglingLink { source_path, path };
    }
    let similar = similar(source, place).map(|path| path.to_string());
    CopyError::NotFound { source_path, path: place.clone(), similar }
}

/// Returns the file beside `place` whose name is nearest to its name, where one is near. What cannot be read gives no
/// hint.
fn similar(source: &dyn Tree, place: &TreePath) -> Option<TreePath> {
    /// Files that are looked at: a hint is not worth more.
    const LIMIT: usize = 2000;
    let (name, parent) = (place.name()?, place.parent()?);
    let (dir, node) = follow(source, parent.as_bytes()).ok()??;
    if !node?.kind.is_dir() {
        return None;
    }
    let allowed = (name.len() / 3).clamp(1, 2);
    let names = source.read_dir(&dir).ok()?.into_iter().map(|(name, _)| name).take(LIMIT);
    let near = names.filter(|other| other.len().abs_diff(name.len()) <= allowed);
    let best = near.map(|other| (distance(&name.to_ascii_lowercase(), &other.to_ascii_lowercase()), other)).min();
    best.filter(|(distance, _)| *distance <= allowed).map(|(_, name)| parent.child(&name))
}

/// Returns how many bytes must be added, removed or changed to make `a` of `b` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
