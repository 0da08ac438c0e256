use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::{Index, LayerId};
use crate::tree::{Entry, Error, FileDigest, Kind, Node, Tree, TreePath};

/// The merged files of a stack of layers, as a container would see them, read from the layers' indexes: nothing is
/// mounted. Owners and modes are those of the image, whatever is on disk.
#[derive(Debug, Default)]
pub struct View {
    layers: Vec<ViewLayer>,
    /// For a directory: the layers whose entries are visible in it, top first. Empty: no such directory.
    stacks: Mutex<HashMap<TreePath, Arc<[usize]>>>,
}

/// One layer of a [`View`].
#[derive(Debug, Clone)]
pub struct ViewLayer {
    /// Its name in the store.
    pub id: LayerId,
    /// What is in it.
    pub index: Arc<Index>,
    /// The folder of its files on disk.
    pub dir: Arc<Path>,
}

impl View {
    /// Returns the view of `layers`, bottom first.
    pub fn new(layers: Vec<ViewLayer>) -> Self {
        View { layers, stacks: Mutex::default() }
    }

    /// Returns the layers, bottom first.
    pub fn layers(&self) -> &[ViewLayer] {
        &self.layers
    }

    /// Returns the visible entry at `path`: never a whiteout; a hard link as itself.
    pub fn entry(&self, path: &TreePath) -> Option<&Entry> {
        self.find(path).map(|(_, entry)| entry)
    }

    /// Returns where the visible file at `path` lies on disk: in the folder of its layer. `None` where there is none.
    pub fn on_disk(&self, path: &TreePath) -> Option<PathBuf> {
        self.find(path).map(|(at, _)| self.layers[at].dir.join(path.as_os_path()))
    }

    /// Calls `visit` for each visible entry, parents first, sorted by path, without the root.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub fn walk<E>(&self, visit: &mut dyn FnMut(&Entry) -> Result<(), E>) -> Result<(), E> {
        // What is still to be visited, the next on top.
        let mut todo: Vec<&Entry> = self.visible_children(&TreePath::root());
        todo.reverse();
        while let Some(entry) = todo.pop() {
            visit(entry)?;
            if entry.kind.is_dir() {
                todo.extend(self.visible_children(&entry.path).into_iter().rev());
            }
        }
        Ok(())
    }

    fn find(&self, path: &TreePath) -> Option<(usize, &Entry)> {
        let Some(parent) = path.parent() else {
            return self.layers.iter().enumerate().rev().find_map(|(at, layer)| Some((at, layer.index.get(path)?)));
        };
        for &at in self.stack(&parent).iter() {
            if let Some(entry) = self.layers[at].index.get(path) {
                return if entry.kind == Kind::Whiteout { None } else { Some((at, entry)) };
            }
        }
        None
    }

    /// The layers that show something in the directory `dir`, top first.
    fn stack(&self, dir: &TreePath) -> Arc<[usize]> {
        if let Some(known) = self.stacks.lock().unwrap_or_else(PoisonError::into_inner).get(dir) {
            return Arc::clone(known);
        }
        // The nearest directory above that is known; then down again, so that depth costs no stack.
        let mut paths: Vec<TreePath> = dir.ancestors().collect();
        paths.push(dir.clone());
        let mut stack: Arc<[usize]> = (0..self.layers.len()).rev().collect();
        if dir.is_root() {
            return stack;
        }
        let mut known = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            stack = match known.get(&path) {
                Some(known) => Arc::clone(known),
                None => {
                    let stack: Arc<[usize]> = self.narrow(&stack, &path).into();
                    known.insert(path, Arc::clone(&stack));
                    stack
                }
            };
            if stack.is_empty() {
                break;
            }
        }
        stack
    }

    /// Of the layers that are visible in the parent of `dir`, those that are in `dir`.
    fn narrow(&self, parent: &[usize], dir: &TreePath) -> Vec<usize> {
        let mut stack = Vec::new();
        for &at in parent {
            match self.layers[at].index.get(dir) {
                None => {}
                Some(entry) if entry.kind.is_dir() => stack.push(at),
                // A whiteout or another kind of file hides all below.
                Some(_) => break,
            }
        }
        stack
    }

    fn visible_children<'a>(&'a self, dir: &TreePath) -> Vec<&'a Entry> {
        let stack = self.stack(dir);
        let mut children: Vec<&Entry> = Vec::new();
        for (round, &at) in stack.iter().enumerate() {
            if round == 0 {
                children.extend(self.layers[at].index.children(dir));
                continue;
            }
            // Both are sorted: what an upper layer has counts.
            let mut merged = Vec::with_capacity(children.len());
            let mut upper = children.into_iter().peekable();
            for lower in self.layers[at].index.children(dir) {
                while let Some(entry) = upper.next_if(|entry| entry.path < lower.path) {
                    merged.push(entry);
                }
                if upper.peek().is_none_or(|entry| entry.path != lower.path) {
                    merged.push(lower);
                }
            }
            merged.extend(upper);
            children = merged;
        }
        children.retain(|entry| entry.kind != Kind::Whiteout);
        children
    }

    fn node(&self, at: usize, entry: &Entry) -> Node {
        let index = &self.layers[at].index;
        let (first, kind, meta) = match &entry.kind {
            Kind::Hardlink { target } => match index.get(target) {
                Some(first) => (target, first.kind.clone(), first.meta.clone()),
                None => (&entry.path, entry.kind.clone(), entry.meta.clone()),
            },
            kind => (&entry.path, kind.clone(), entry.meta.clone()),
        };
        // Names of one file share the place of its first name.
        let inode = match kind {
            Kind::File { .. } => index.entries().binary_search_by(|e| e.path.cmp(first)).ok(),
            _ => None,
        };
        Node { kind, meta, inode: inode.map(|place| (at as u64, place as u64)) }
    }

    fn root(&self) -> Node {
        let meta = self
            .entry(&TreePath::root())
            .map_or_else(|| crate::tree::Meta { mode: 0o755, ..Default::default() }, |entry| entry.meta.clone());
        Node { kind: Kind::Dir, meta, inode: None }
    }
}

impl Tree for View {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, Error> {
        if path.is_root() {
            return Ok(Some(self.root()));
        }
        Ok(self.find(path).map(|(at, entry)| self.node(at, entry)))
    }

    fn has_other_names(&self, path: &TreePath) -> Result<bool, Error> {
        let Some((at, entry)) = self.find(path) else { return Ok(false) };
        let first = match &entry.kind {
            Kind::Hardlink { target } => target,
            _ => &entry.path,
        };
        let is_name = |other: &&Entry| match &other.kind {
            Kind::Hardlink { target } => target == first,
            _ => other.path == *first,
        };
        let mut names = self.layers[at].index.entries().iter().filter(is_name).filter(|other| other.path != *path);
        Ok(names.any(|other| self.find(&other.path).is_some_and(|(from, _)| from == at)))
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        if !path.is_root() && !self.entry(path).is_some_and(|entry| entry.kind.is_dir()) {
            return Err(Error::in_image("read directory", path, io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let mut children = Vec::new();
        for entry in self.visible_children(path) {
            if let (Some(name), Some((at, entry))) = (entry.path.name(), self.find(&entry.path)) {
                children.push((name.to_vec(), self.node(at, entry)));
            }
        }
        Ok(children)
    }

    fn open(&self, path: &TreePath) -> Result<File, Error> {
        let missing = || Error::in_image("open", path, io::Error::from(io::ErrorKind::NotFound));
        let (at, entry) = self.find(path).ok_or_else(missing)?;
        let on_disk = match &entry.kind {
            Kind::File { .. } => path,
            Kind::Hardlink { target } => target,
            _ => return Err(Error::in_image("open", path, io::Error::other("not a regular file"))),
        };
        open_in(&self.layers[at].dir, on_disk).map_err(|source| Error::in_image("open", path, source))
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, Error> {
        paths
            .iter()
            .map(|path| match self.lookup(path)? {
                Some(Node { kind: Kind::File { digest: Some(digest), .. }, .. }) => Ok(digest),
                _ => Err(Error::in_image("digest", path, io::Error::other("not a regular file"))),
            })
            .collect()
    }
}

/// Opens the regular file `path` in the layer directory `dir`; a link anywhere in `path` is refused.
pub(crate) fn open_in(dir: &std::path::Path, path: &TreePath) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    open_with(dir, path, flags).map(File::from)
}

/// As [`open_in`], for a directory.
pub(crate) fn open_dir_in(dir: &std::path::Path, path: &TreePath) -> io::Result<OwnedFd> {
    open_with(dir, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW)
}

fn open_with(dir: &std::path::Path, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
    let base = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&base, path.as_os_path(), flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(fd),
        // Sandboxes older than the call say so, or EPERM: component by component.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            let mut at = openat(&base, ".", flags & !OFlags::NONBLOCK | OFlags::DIRECTORY, Mode::empty())?;
            let mut parts = path.components().peekable();
            while let Some(part) = parts.next() {
                let last = parts.peek().is_none();
                let step = if last { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW };
                at = openat(&at, part, step | OFlags::CLOEXEC, Mode::empty())?;
            }
            Ok(at)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    fn layer(entries: &[(&str, Kind)]) -> ViewLayer {
        let entries = entries
            .iter()
            .map(|(path, kind)| Entry {
                path: TreePath::new(path).unwrap(),
                kind: kind.clone(),
                meta: Meta::default(),
                implied: false,
            })
            .collect();
        let index = Index::new(entries);
        ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: Path::new("/nonexistent").into() }
    }

    fn file(size: u64) -> Kind {
        Kind::File { size, digest: Some(FileDigest([size as u8; 32])) }
    }

    fn listing(view: &View) -> Vec<String> {
        let mut paths = Vec::new();
        view.walk(&mut |entry| {
            paths.push(entry.path.to_string());
            Ok::<(), ()>(())
        })
        .unwrap();
        paths
    }

    #[test]
    fn a_whiteout_hides_what_lies_below_and_all_in_it() {
        let view = View::new(vec![
            layer(&[("a", Kind::Dir), ("a/b", Kind::Dir), ("a/b/c", file(1)), ("z", file(1))]),
            layer(&[("a", Kind::Dir), ("a/b", Kind::Whiteout)]),
        ]);
        assert_eq!(listing(&view), ["a", "z"]);
        assert!(view.entry(&TreePath::new("a/b/c").unwrap()).is_none());
    }

    #[test]
    fn a_directory_made_again_does_not_show_the_old_contents() {
        let view = View::new(vec![
            layer(&[("a", Kind::Dir), ("a/old", file(1))]),
            layer(&[("a", Kind::Whiteout)]),
            layer(&[("a", Kind::Dir), ("a/new", file(2))]),
        ]);
        assert_eq!(listing(&view), ["a", "a/new"]);
    }

    #[test]
    fn a_file_in_place_of_a_directory_hides_it() {
        let view = View::new(vec![layer(&[("a", Kind::Dir), ("a/b", file(1))]), layer(&[("a", file(2))])]);
        assert_eq!(listing(&view), ["a"]);
        assert!(view.lookup(&TreePath::new("a/b").unwrap()).unwrap().is_none());
    }

    #[test]
    fn directories_merge_and_the_upper_layer_counts() {
        let view = View::new(vec![
            layer(&[("a", Kind::Dir), ("a/1", file(1)), ("a/3", file(3))]),
            layer(&[("a", Kind::Dir), ("a/2", file(2)), ("a/3", file(33))]),
        ]);
        assert_eq!(listing(&view), ["a", "a/1", "a/2", "a/3"]);
        let node = view.lookup(&TreePath::new("a/3").unwrap()).unwrap().unwrap();
        assert_eq!(node.kind, file(33));
        let names: Vec<_> = view.read_dir(&TreePath::new("a").unwrap()).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, [b"1", b"2", b"3"]);
    }

    #[test]
    fn hard_links_show_as_the_file_they_name() {
        let target = TreePath::new("a").unwrap();
        let view = View::new(vec![layer(&[("a", file(7)), ("b", Kind::Hardlink { target: target.clone() })])]);
        let (a, b) =
            (view.lookup(&target).unwrap().unwrap(), view.lookup(&TreePath::new("b").unwrap()).unwrap().unwrap());
        assert_eq!(a, b);
        assert!(a.inode.is_some());
    }
}
