//! What a COPY or ADD means: which file goes where in the image, with which attributes. Nothing is written here.

use std::collections::{BTreeMap, HashMap};

use rustix::io::Errno;

use super::CopyError;
use super::find::Picked;
use super::image::{Below, Image};
use super::select::{Origin, Selection, Source};
use crate::tree::{self, Kind, Meta, Mtime, Node, Tree, TreePath, resolve};

/// Mode of directories that are made for the destination, and of those that an archive does not describe.
const PARENT_MODE: u32 = 0o755;

/// A file that is put into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyItem {
    /// Which tree it comes from.
    pub from: Origin,
    /// Where it is there, without links on the way. The root for a directory that comes from nowhere.
    pub source: TreePath,
    /// Where it goes in the image, without links on the way. What is there and is no directory is replaced.
    pub target: TreePath,
    /// What it is, with its attributes as they shall be in the image; the digest of a regular file is there.
    pub node: Node,
    /// An earlier target that is the same file in the source tree (a hard link).
    pub hardlink: Option<TreePath>,
}

/// What a COPY or ADD does: what is put into the image, sorted by target. No target comes twice, and all that leads to one is
/// there before or comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyPlan {
    pub items: Vec<CopyItem>,
}

/// What a plan needs besides the selection and the image.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// What `--chown` says, looked up; without it files keep the owner that they have in the source tree, and directories that
    /// are made belong to root.
    pub owner: Option<(u32, u32)>,
    /// The time of directories that come from nowhere: seconds since 1970.
    pub now: i64,
    /// What is in the sources that are archives, by their number; parents first.
    pub archives: BTreeMap<usize, Vec<Picked>>,
}

impl Selection {
    /// Returns what the COPY or ADD does to the image `destination`.
    ///
    /// Links on the way to the destination are followed inside of the image. Each source sees what the ones before it
    /// did.
    ///
    /// # Errors
    /// [`CopyError`] where a directory meets something else at its place, or the image cannot be read.
    pub(super) fn plan(&self, destination: &dyn Tree, placing: &Placing) -> Result<CopyPlan, CopyError> {
        let mut planner = Planner { image: Image::new(destination), items: Vec::new(), selection: self, placing };
        for (number, source) in self.sources.iter().enumerate() {
            match (source, placing.archives.get(&number)) {
                (Source::Dir { from, at, files }, _) => planner.dir(*from, at, files)?,
                (Source::File { .. }, Some(files)) => planner.archive(Origin::Archive(number), files)?,
                (Source::File { from, name, at, node, .. }, None) => planner.file(*from, name, at, node)?,
            }
        }
        let Planner { image, items, .. } = planner;
        // A file that a later source replaced is gone.
        let last = |(number, item): &(usize, CopyItem)| image.is_last(&item.target, *number);
        let mut items: Vec<_> = items.into_iter().enumerate().filter(last).map(|(_, item)| item).collect();
        // In the order of an archive: of several names of a file the first is the file, and the others link to it.
        items.sort_by(|a, b| a.target.cmp(&b.target));
        mark_hardlinks(&mut items);
        Ok(CopyPlan { items })
    }
}

struct Planner<'a> {
    image: Image<'a>,
    items: Vec<CopyItem>,
    selection: &'a Selection,
    placing: &'a Placing,
}

impl Planner<'_> {
    /// Plans the contents of a directory.
    fn dir(&mut self, from: Origin, at: &TreePath, files: &[Picked]) -> Result<(), CopyError> {
        let (base, there) = self.destination()?;
        if let Some(node) = there.filter(|node| !node.kind.is_dir()) {
            return Err(CopyError::DirectoryOntoOther { from: at.clone(), target: base, found: node.kind.word() });
        }
        self.make_dirs(&base, &self.parent())?;
        for file in files {
            self.item(from, at.join(&file.path), base.join(&file.path), file)?;
        }
        Ok(())
    }

    /// Plans anything but a directory.
    fn file(&mut self, from: Origin, name: &[u8], at: &TreePath, node: &Node) -> Result<(), CopyError> {
        let (place, there) = self.destination()?;
        let is_dir = there.as_ref().is_some_and(|node| node.kind.is_dir());
        let wants_dir = place.is_root() || is_directory_text(&self.selection.destination);
        if let Some(node) = there.filter(|_| wants_dir && !is_dir) {
            return Err(self.not_a_directory(place, &node));
        }
        let target = if is_dir || wants_dir {
            self.make_dirs(&place, &self.parent())?;
            place.child(name)
        } else {
            self.make_dirs(&place.parent().unwrap_or_default(), &self.parent())?;
            place
        };
        let file = Picked { path: TreePath::root(), node: node.clone(), leads: false };
        self.item(from, at.clone(), target, &file)
    }

    /// Plans what is in an archive, as tar(1) would unpack it in the destination: what is there is replaced, and a link in the
    /// place of a directory is followed, but not out of the destination. The root of the archive changes nothing.
    fn archive(&mut self, from: Origin, files: &[Picked]) -> Result<(), CopyError> {
        let (base, there) = self.destination()?;
        if let Some(node) = there.filter(|node| !node.kind.is_dir()) {
            return Err(self.not_a_directory(base, &node));
        }
        // As BuildKit does it: --chown is for it, --chmod is not.
        let mut made = self.parent();
        made.mode = PARENT_MODE;
        self.make_dirs(&base, &made)?;
        let implied = self.new_dir(PARENT_MODE, (0, 0));
        let mut places = HashMap::from([(TreePath::root(), base.clone())]);
        for Picked { path, node, leads } in files.iter().filter(|file| !file.path.is_root()) {
            let (Some(parent), Some(name)) = (path.parent().and_then(|parent| places.get(&parent)), path.name()) else {
                continue;
            };
            let mut target = parent.child(name);
            let mut node = node.clone();
            if node.kind.is_dir() {
                target = self.inside(&base, &target)?;
                self.make_dirs(&target.parent().unwrap_or_default(), &implied)?;
                places.insert(path.clone(), target.clone());
                let there = self.image.lookup(&target)?;
                if *leads && there.is_some_and(|there| there.kind.is_dir()) {
                    continue;
                }
                if *leads {
                    node.meta = implied.clone();
                }
            }
            if let Some((uid, gid)) = self.placing.owner.filter(|_| !leads) {
                (node.meta.uid, node.meta.gid) = (uid, gid);
            }
            if !node.kind.is_dir() && self.image.lookup(&target)?.is_some_and(|there| there.kind.is_dir()) {
                self.image.clear(&target);
            }
            self.put(from, path.clone(), target, node)?;
        }
        Ok(())
    }

    /// Returns where `path`, which lies in `base`, leads when links are followed inside of `base`.
    fn inside(&self, base: &TreePath, path: &TreePath) -> Result<TreePath, CopyError> {
        let relative = path.strip_prefix(base).unwrap_or_default();
        match resolve(&Below { tree: &self.image, root: base }, relative.as_bytes()) {
            Ok(found) => Ok(base.join(&found.path)),
            // The link leads through a file: the directory takes the place of the link.
            Err(error) if is_no_dir(&error) => Ok(path.clone()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns where the destination is in the image, links resolved, and what is there now.
    fn destination(&self) -> Result<(TreePath, Option<Node>), CopyError> {
        let written = &self.selection.destination;
        // By the text first, as BuildKit does: `link/..` is where the link is.
        let clean = TreePath::new(written).map_err(|source| CopyError::bad_path(written, source))?;
        match resolve(&self.image, clean.as_bytes()) {
            Ok(found) => Ok((found.path, found.node)),
            Err(error) if is_no_dir(&error) => Err(self.file_on_the_way(&clean).unwrap_or(error.into())),
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

    /// Returns the attributes of a directory that is made for the destination.
    fn parent(&self) -> Meta {
        let mode = self.selection.chmod.as_ref().map_or(PARENT_MODE, |chmod| chmod.apply(PARENT_MODE, true));
        self.new_dir(mode, self.placing.owner.unwrap_or_default())
    }

    fn new_dir(&self, mode: u32, (uid, gid): (u32, u32)) -> Meta {
        Meta { mode, uid, gid, mtime: Mtime::from_secs(self.placing.now), xattrs: BTreeMap::new() }
    }

    /// Plans the directories that are missing, `dir` included. `dir` has no links in it.
    fn make_dirs(&mut self, dir: &TreePath, meta: &Meta) -> Result<(), CopyError> {
        if dir.is_root() {
            return Ok(());
        }
        for path in dir.ancestors().chain([dir.clone()]) {
            if self.image.lookup(&path)?.is_none() {
                let node = Node { kind: Kind::Dir, meta: meta.clone(), inode: None };
                self.put(Origin::Main, TreePath::root(), path, node)?;
            }
        }
        Ok(())
    }

    /// Plans one file at its place, whose parent is there.
    fn item(&mut self, from: Origin, source: TreePath, target: TreePath, file: &Picked) -> Result<(), CopyError> {
        let mut node = file.node.clone();
        let is_dir = node.kind.is_dir();
        match self.image.lookup(&target)? {
            Some(there) if there.kind.is_dir() && is_dir && file.leads => {
                // BuildKit gives it the mode of the source (not that of --chmod), and nothing else.
                if there.meta.mode != node.meta.mode {
                    node.meta = Meta { mode: node.meta.mode, ..there.meta };
                    self.put(from, source, target, node)?;
                }
                return Ok(());
            }
            // A directory that is there already gets what a new one would get.
            Some(there) if there.kind.is_dir() && is_dir => {
                let mut xattrs = there.meta.xattrs;
                xattrs.append(&mut node.meta.xattrs);
                node.meta.xattrs = xattrs;
            }
            Some(there) if there.kind.is_dir() => {
                return Err(CopyError::FileOntoDirectory { from: source, target });
            }
            Some(there) if is_dir => {
                return Err(CopyError::DirectoryOntoOther { from: source, target, found: there.kind.word() });
            }
            _ => {}
        }
        if let Some((uid, gid)) = self.placing.owner {
            (node.meta.uid, node.meta.gid) = (uid, gid);
        }
        if let Some(chmod) = self.selection.chmod.as_ref().filter(|_| !matches!(node.kind, Kind::Symlink { .. })) {
            node.meta.mode = chmod.apply(node.meta.mode, is_dir);
        }
        self.put(from, source, target, node)
    }

    fn put(&mut self, from: Origin, source: TreePath, target: TreePath, node: Node) -> Result<(), CopyError> {
        if node.kind.is_dir() && !self.image.lookup(&target)?.is_some_and(|there| there.kind.is_dir()) {
            for name in self.image.names_to_hide(&target)? {
                let whiteout = Node { kind: Kind::Whiteout, meta: Meta::default(), inode: None };
                let path = target.child(&name);
                self.image.put(path.clone(), whiteout.clone(), self.items.len());
                let source = TreePath::root();
                self.items.push(CopyItem { from, source, target: path, node: whiteout, hardlink: None });
                self.image.hide(&target);
            }
        }
        self.image.put(target.clone(), node.clone(), self.items.len());
        self.items.push(CopyItem { from, source, target, node, hardlink: None });
        Ok(())
    }
}

fn is_no_dir(error: &tree::Error) -> bool {
    error.source.raw_os_error() == Some(Errno::NOTDIR.raw_os_error())
}

/// Returns whether a destination says by its text that it is a directory.
fn is_directory_text(destination: &str) -> bool {
    matches!(destination.rsplit('/').next(), None | Some("" | "." | ".."))
}

fn mark_hardlinks(items: &mut [CopyItem]) {
    let mut first: HashMap<(Origin, (u64, u64)), TreePath> = HashMap::new();
    for item in items {
        let (Some(inode), Kind::File { .. }) = (item.node.inode, &item.node.kind) else { continue };
        match first.get(&(item.from, inode)) {
            Some(target) => item.hardlink = Some(target.clone()),
            None => drop(first.insert((item.from, inode), item.target.clone())),
        }
    }
}
