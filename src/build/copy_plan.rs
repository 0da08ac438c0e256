//! What a COPY means: which file goes where in the image, with which attributes. Nothing is written here.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use super::copy_select::{CopyError, Selection, Source, bad_path};
use crate::tree::{self, FileDigest, Kind, Meta, Mtime, Node, Tree, TreePath, resolve};

/// Mode of directories that a COPY makes for its destination.
const PARENT_MODE: u32 = 0o755;

/// A file that a COPY puts into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyItem {
    /// Where it is in the source tree, without links on the way.
    pub source: TreePath,
    /// Where it goes in the image, without links on the way. What is there and is no directory is replaced.
    pub target: TreePath,
    /// What it is, with its attributes as they shall be in the image; the digest of a regular file is there.
    pub node: Node,
    /// An earlier target of the same COPY that is the same file in the source tree (a hard link).
    pub hardlink: Option<TreePath>,
}

/// What a COPY does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPlan {
    /// What is put into the image: directories before what is in them, otherwise in the order of the sources. No target
    /// comes twice. A directory that exists already is no item: it keeps its attributes.
    pub items: Vec<CopyItem>,
    /// The directories to make for the destination, outermost first, before any item.
    pub parents: Vec<TreePath>,
    /// The attributes of `parents`. Their time is 0: it is for the builder to say.
    pub parent_meta: Meta,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

impl Selection {
    /// Returns what the COPY does to the image `destination`. `owner` is what `--chown` says, looked up; without it files
    /// keep the owner that they have in the source tree, and new parents belong to root.
    ///
    /// Links on the way to the destination are followed inside of the image. Each source sees what the ones before it
    /// did.
    ///
    /// # Errors
    /// [`CopyError`] where a directory meets something else at its place, or the image cannot be read.
    pub fn plan(&self, destination: &dyn Tree, owner: Option<(u32, u32)>) -> Result<CopyPlan, CopyError> {
        let (uid, gid) = owner.unwrap_or_default();
        let parent_meta = Meta {
            mode: self.chmod.as_ref().map_or(PARENT_MODE, |chmod| chmod.apply(PARENT_MODE, true)),
            uid,
            gid,
            mtime: Mtime::default(),
            xattrs: BTreeMap::new(),
        };
        let image = Image { before: destination, made: HashMap::new() };
        let mut planner = Planner { image, items: Vec::new(), parents: Vec::new(), selection: self, owner };
        for source in &self.sources {
            match source {
                Source::Dir { at, files } => planner.dir(at, files)?,
                Source::File { name, at, node } => planner.file(name, at, node)?,
            }
        }
        let Planner { image, items, parents, .. } = planner;
        // A file that a later source replaced is gone.
        let last =
            |(number, item): &(usize, CopyItem)| image.made.get(&item.target).is_some_and(|made| made.1 == *number);
        let mut items: Vec<_> = items.into_iter().enumerate().filter(last).map(|(_, item)| item).collect();
        // In the order of an archive: of several names of a file the first is the file, and the others link to it.
        items.sort_by(|a, b| a.target.cmp(&b.target));
        mark_hardlinks(&mut items);
        Ok(CopyPlan { items, parents, parent_meta, warnings: self.warnings().to_vec() })
    }
}

struct Planner<'a> {
    image: Image<'a>,
    items: Vec<CopyItem>,
    parents: Vec<TreePath>,
    selection: &'a Selection,
    owner: Option<(u32, u32)>,
}

/// The image as the COPY has it so far.
struct Image<'a> {
    before: &'a dyn Tree,
    /// What was put into it, and the number of the item.
    made: HashMap<TreePath, (Node, usize)>,
}

/// The number of what is no item: a directory for the destination.
const NO_ITEM: usize = usize::MAX;

impl Planner<'_> {
    /// Plans the contents of a directory.
    fn dir(&mut self, at: &TreePath, files: &[(TreePath, Node)]) -> Result<(), CopyError> {
        let (base, there) = self.destination()?;
        if let Some(node) = there.filter(|node| !node.kind.is_dir()) {
            return Err(CopyError::DirectoryOntoOther { from: at.clone(), target: base, found: node.kind.word() });
        }
        self.make_dirs(&base)?;
        for (path, node) in files {
            self.item(at.join(path), base.join(path), node)?;
        }
        Ok(())
    }

    /// Plans anything but a directory.
    fn file(&mut self, name: &[u8], at: &TreePath, node: &Node) -> Result<(), CopyError> {
        let (place, there) = self.destination()?;
        let is_dir = there.as_ref().is_some_and(|node| node.kind.is_dir());
        let wants_dir = place.is_root() || is_directory_text(&self.selection.destination);
        if let Some(node) = there.filter(|_| wants_dir && !is_dir) {
            return Err(self.not_a_directory(place, &node));
        }
        let target = if is_dir || wants_dir {
            self.make_dirs(&place)?;
            place.child(name)
        } else {
            self.make_dirs(&place.parent().unwrap_or_default())?;
            place
        };
        self.item(at.clone(), target, node)
    }

    /// Returns where the destination is in the image, links resolved, and what is there now.
    fn destination(&self) -> Result<(TreePath, Option<Node>), CopyError> {
        let written = &self.selection.destination;
        // By the text first, as BuildKit does: `link/..` is where the link is.
        let clean = TreePath::new(written).map_err(|source| bad_path(written, source))?;
        match resolve(&self.image, clean.as_bytes()) {
            Ok(found) => Ok((found.path, found.node)),
            Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => {
                Err(self.file_on_the_way(&clean).unwrap_or(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the error that names the first parent of `path` that is no directory.
    fn file_on_the_way(&self, path: &TreePath) -> Option<CopyError> {
        path.ancestors().find_map(|parent| {
            let found = resolve(&self.image, parent.as_bytes()).ok()?;
            let node = found.node.filter(|node| !node.kind.is_dir())?;
            Some(self.not_a_directory(found.path, &node))
        })
    }

    fn not_a_directory(&self, path: TreePath, node: &Node) -> CopyError {
        CopyError::NotADirectory { destination: self.selection.destination.clone(), path, found: node.kind.word() }
    }

    /// Plans the directories that are missing, `dir` included. `dir` has no links in it.
    fn make_dirs(&mut self, dir: &TreePath) -> Result<(), CopyError> {
        if dir.is_root() {
            return Ok(());
        }
        for path in dir.ancestors().chain([dir.clone()]) {
            if self.image.lookup(&path)?.is_none() {
                let node = Node { kind: Kind::Dir, meta: Meta::default(), inode: None };
                self.image.made.insert(path.clone(), (node, NO_ITEM));
                self.parents.push(path);
            }
        }
        Ok(())
    }

    /// Plans one file at its place, whose parent is there.
    fn item(&mut self, source: TreePath, target: TreePath, node: &Node) -> Result<(), CopyError> {
        match self.image.lookup(&target)? {
            Some(there) if there.kind.is_dir() && node.kind.is_dir() => return Ok(()),
            Some(there) if there.kind.is_dir() => {
                return Err(CopyError::FileOntoDirectory { from: source, target });
            }
            Some(there) if node.kind.is_dir() => {
                return Err(CopyError::DirectoryOntoOther { from: source, target, found: there.kind.word() });
            }
            _ => {}
        }
        let mut node = node.clone();
        if let Some((uid, gid)) = self.owner {
            (node.meta.uid, node.meta.gid) = (uid, gid);
        }
        if let Some(chmod) = self.selection.chmod.as_ref().filter(|_| !matches!(node.kind, Kind::Symlink { .. })) {
            node.meta.mode = chmod.apply(node.meta.mode, node.kind.is_dir());
        }
        self.image.made.insert(target.clone(), (node.clone(), self.items.len()));
        self.items.push(CopyItem { source, target, node, hardlink: None });
        Ok(())
    }
}

/// Returns whether a destination says by its text that it is a directory.
fn is_directory_text(destination: &str) -> bool {
    matches!(destination.rsplit('/').next(), None | Some("" | "." | ".."))
}

fn mark_hardlinks(items: &mut [CopyItem]) {
    let mut first: HashMap<(u64, u64), TreePath> = HashMap::new();
    for item in items {
        let (Some(inode), Kind::File { .. }) = (item.node.inode, &item.node.kind) else { continue };
        match first.get(&inode) {
            Some(target) => item.hardlink = Some(target.clone()),
            None => drop(first.insert(inode, item.target.clone())),
        }
    }
}

impl Tree for Image<'_> {
    fn lookup(&self, path: &TreePath) -> Result<Option<Node>, tree::Error> {
        match self.made.get(path) {
            Some((node, _)) => Ok(Some(node.clone())),
            None => self.before.lookup(path),
        }
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, tree::Error> {
        self.before.read_dir(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        self.before.open(path)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<FileDigest>, tree::Error> {
        self.before.digests(paths)
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
