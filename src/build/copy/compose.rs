use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use coracle_runtime::container::Control;

use super::archive::Archive;
use super::inline::OtherTree;
use super::plan::CopyItem;
use super::select::Origin;
use super::{Main, Trust};
use crate::build::BuildError;
use crate::build::guard::Guarded;
use crate::layer::{Contents, DiskTree};
use crate::store::{Active, Index, View};
use crate::tree::{Entry, Kind, Meta, Mtime, Owners, TreePath};

/// A layer that is made entry by entry, with the directories that lead to each.
pub(in crate::build) struct Composer<'a> {
    below: &'a View,
    tree: DiskTree,
    entries: BTreeMap<TreePath, Entry>,
    control: &'a Control,
    now: i64,
}

impl<'a> Composer<'a> {
    /// Returns a composer of the layer `active`, which lies upon `below`.
    pub fn new(active: &Active, owners: Owners, below: &'a View, control: &'a Control) -> Result<Self, BuildError> {
        let tree = DiskTree::open(&active.upper(), owners)?;
        Ok(Composer { below, tree, entries: BTreeMap::new(), control, now: crate::build::now() })
    }

    /// Makes the directory `path` and those that lead to it: as they are below, or else new ones with `owner` and `mode`.
    pub fn directory(&mut self, path: &TreePath, owner: (u32, u32), mode: u32) -> Result<(), BuildError> {
        let missing: Vec<TreePath> = path
            .ancestors()
            .chain(std::iter::once(path.clone()))
            .filter(|dir| !dir.is_root() && !self.entries.get(dir).is_some_and(|entry| entry.kind.is_dir()))
            .collect();
        for dir in missing {
            let meta = match self.below.entry(&dir) {
                Some(old) if old.kind.is_dir() => old.meta.clone(),
                Some(old) => {
                    return Err(BuildError::NotADirectory { path: format!("/{dir}"), what: old.kind.word() });
                }
                None => Meta { mode, uid: owner.0, gid: owner.1, mtime: Mtime::from_secs(self.now), ..Meta::default() },
            };
            self.put(Entry { path: dir, kind: Kind::Dir, meta, implied: false }, Contents::None)?;
        }
        Ok(())
    }

    fn put(&mut self, entry: Entry, contents: Contents<'_>) -> Result<(), BuildError> {
        match self.entries.get(&entry.path) {
            Some(old) if old.kind.is_dir() && entry.kind.is_dir() => {}
            Some(_) => self.tree.remove(&entry.path)?,
            None => {}
        }
        let written = self.tree.create(&entry, contents)?;
        if let (Some(written), Kind::File { digest: Some(digest), .. }) = (written, &entry.kind)
            && written != *digest
        {
            return Err(BuildError::ChangedMeanwhile { path: entry.path.to_string() });
        }
        self.entries.insert(entry.path.clone(), entry);
        Ok(())
    }

    /// Puts `item` into the layer.
    pub(super) fn item(
        &mut self,
        item: &CopyItem,
        main: &Main<'_>,
        others: &[OtherTree],
        archives: &BTreeMap<usize, Archive>,
    ) -> Result<(), BuildError> {
        if self.control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        let kind = match &item.hardlink {
            Some(target) if self.entries.contains_key(target) => Kind::Hardlink { target: target.clone() },
            _ => item.node.kind.clone(),
        };
        let entry = Entry { path: item.target.clone(), kind, meta: item.node.meta.clone(), implied: false };
        // What is there already, just so, is no change; but a name of a file that is linked must be in the layer.
        if item.hardlink.is_none() && item.node.inode.is_none() && self.below.entry(&entry.path) == Some(&entry) {
            return Ok(());
        }
        if let Some(parent) = entry.path.parent() {
            self.directory(&parent, (0, 0), 0o755)?;
        }
        if !matches!(entry.kind, Kind::File { .. }) {
            return self.put(entry, Contents::None);
        }
        match item.from {
            Origin::Archive(number) => {
                let on_disk = archives.get(&number).and_then(|archive| archive.view.on_disk(&item.source));
                let spare = on_disk.expect("what is planned is in the archive");
                self.put(entry, Contents::Spare(&spare))
            }
            Origin::Main if main.trust == Trust::MayChange => {
                // The context may change under our hands: what is copied must be what the cache key says.
                let file = BufReader::with_capacity(256 << 10, main.tree.open(&item.source)?);
                let mut input = Guarded::new(file, self.control);
                self.put(entry, Contents::Reader(&mut input as &mut dyn Read)).map_err(|error| match error {
                    BuildError::ChangedMeanwhile { .. } => {
                        BuildError::ChangedMeanwhile { path: item.source.to_string() }
                    }
                    other => other,
                })
            }
            Origin::Main => self.put(entry, Contents::File(&main.tree.open(&item.source)?)),
            Origin::Other(number) => self.put(entry, Contents::File(&others[number].open(&item.source)?)),
        }
    }

    /// Finishes the files on disk and returns their index.
    pub fn finish(self) -> Result<Index, BuildError> {
        self.tree.finish()?;
        Ok(Index::new(self.entries.into_values().collect()))
    }
}
