//! Files of the host that a container sees in place of the image's, and the places to mount them on.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_runtime::container::{Hidden, Mount, MountSource};
use rustix::fs::XattrFlags;

use crate::layer::{Contents, DiskTree, OPAQUE};
use crate::store::{Active, Store, View};
use crate::tree::{self, Entry, Kind, Meta, Owners, TreePath};

use super::BuildError;
use super::given::{Around, HostsFile};
use super::mounts::{Placed, Spot};
use super::run::MOUNT_POINTS;

/// The layers of mount points that the steps of a build need, nearly always one for all.
///
/// Where an image lacks a file to mount another one on, it is made in a layer of its own right below the changes of the step: so
/// nothing of it can come into the image. Nothing is ever written to such a layer, so steps share it.
pub(super) struct Stubs<'a> {
    store: &'a Store,
    made: Mutex<Vec<Arc<StubLayer>>>,
}

/// Some mount points, on disk.
pub(super) struct StubLayer {
    entries: Vec<Entry>,
    active: Active,
}

impl StubLayer {
    /// Returns its folder.
    pub fn layer(&self) -> PathBuf {
        self.active.upper()
    }

    /// Returns an empty folder to mount things on.
    pub fn scratch(&self) -> PathBuf {
        self.active.work()
    }
}

impl<'a> Stubs<'a> {
    pub fn new(store: &'a Store) -> Self {
        Stubs { store, made: Mutex::default() }
    }

    /// Returns the files of the host for a step, and the layer that has the places for them in `view`.
    pub fn cover(
        &self,
        view: &View,
        owners: Owners,
        around: &Around,
        mounts: &[Placed<'_>],
    ) -> Result<(Arc<StubLayer>, Vec<Mount>), BuildError> {
        // The topmost layer decides on the attributes of the root.
        let root = view.entry(&TreePath::root()).map_or_else(directory, |root| root.meta.clone());
        let mut entries = vec![Entry { path: TreePath::root(), kind: Kind::Dir, meta: root, implied: false }];
        let mut shown = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.spot == Spot::Missing) {
            let kind = if mount.shown.is_dir() { Kind::Dir } else { Kind::File { size: 0, digest: None } };
            if !make_place(view, &mount.path, kind, &mut entries) {
                return Err(BuildError::NotADirectory { path: format!("/{}", mount.path), what: "file on the way" });
            }
        }
        for name in MOUNT_POINTS {
            let path = TreePath::new(name).expect("a constant name");
            if !entries.iter().any(|known| known.path == path) {
                entries.push(Entry { path, kind: Kind::Dir, meta: directory(), implied: false });
            }
        }
        for (path, contents) in host_files(around) {
            let Some(target) = place(view, path, &mut entries) else { continue };
            shown.push(text(target, contents));
        }
        Ok((self.layer(entries, owners)?, shown))
    }

    fn layer(&self, entries: Vec<Entry>, owners: Owners) -> Result<Arc<StubLayer>, BuildError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = made.iter().find(|layer| layer.entries == entries) {
            return Ok(Arc::clone(layer));
        }
        let active = self.store.prepare()?;
        let mut tree = DiskTree::open(&active.upper(), owners)?;
        for entry in &entries {
            match entry.kind {
                Kind::Dir => tree.create(entry, Contents::None)?,
                _ => tree.create(entry, Contents::Reader(&mut std::io::empty()))?,
            };
        }
        tree.finish()?;
        for name in MOUNT_POINTS {
            // What is below is covered: it need not be looked for in each layer. Some file systems can not say so.
            let _ = rustix::fs::setxattr(active.upper().join(name), OPAQUE, b"y", XattrFlags::empty());
        }
        let layer = Arc::new(StubLayer { entries, active });
        made.push(Arc::clone(&layer));
        Ok(layer)
    }
}

/// Files of the host that are shown to every step: where, and what is in them.
pub(super) fn host_files(around: &Around) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    if !around.resolver.of_image {
        files.push(("etc/resolv.conf", around.resolver.file(&read_host("/etc/resolv.conf"))));
    }
    if around.hosts_file == HostsFile::Made {
        files.push(("etc/hosts", hosts(around)));
    }
    files
}

fn hosts(around: &Around) -> Vec<u8> {
    let mut hosts = read_host("/etc/hosts");
    if !hosts.is_empty() && !hosts.ends_with(b"\n") {
        hosts.push(b'\n');
    }
    hosts.extend_from_slice(format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost\n", around.hostname()).as_bytes());
    // Where a step keeps the host name of the machine, sudo and mail look it up.
    let machine = rustix::system::uname().nodename().to_bytes().to_vec();
    let is_known = hosts.split(u8::is_ascii_whitespace).any(|word| word == machine);
    if !is_known && !machine.is_empty() {
        hosts.extend_from_slice(&[b"127.0.1.1\t", &*machine, b"\n"].concat());
    }
    for (name, address) in &around.hosts {
        hosts.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
    }
    hosts
}

/// Returns where in the image the file `target` is, or would be: through links of the image, but never out of it. `None`
/// where no file can be.
pub(super) fn place_of_file(view: &View, target: &str) -> Option<tree::Resolved> {
    let place = tree::resolve(view, target.as_bytes()).ok()?;
    let is_file = place.node.as_ref().is_none_or(|node| matches!(node.kind, Kind::File { .. }));
    is_file.then_some(place)
}

/// Returns a file in memory, which a step may change, for the path `target` in the container.
pub(super) fn text(target: PathBuf, contents: Vec<u8>) -> Mount {
    let source = MountSource::Text { text: Hidden(contents), mode: 0o644, uid: 0, gid: 0 };
    Mount { target, source, read_only: false }
}

/// Returns the path in the container that a file is mounted on to be seen at `target`, and adds to `entries` what `view` lacks of
/// it. Where no file can be, none is.
fn place(view: &View, target: &str, entries: &mut Vec<Entry>) -> Option<PathBuf> {
    let place = place_of_file(view, target)?;
    if place.node.is_none() && !make_place(view, &place.path, Kind::File { size: 0, digest: None }, entries) {
        return None;
    }
    Some(PathBuf::from("/").join(place.path.as_os_path()))
}

/// Adds to `entries` what `view` lacks so that something can be mounted at `path`: a `kind` of file, and the folders that lead to
/// it. Returns false where something else is in the way.
fn make_place(view: &View, path: &TreePath, kind: Kind, entries: &mut Vec<Entry>) -> bool {
    let mut missing = Vec::new();
    for dir in path.ancestors() {
        let meta = match view.entry(&dir) {
            Some(old) if old.kind.is_dir() => old.meta.clone(),
            Some(_) => return false,
            None => directory(),
        };
        missing.push(Entry { path: dir, kind: Kind::Dir, meta, implied: false });
    }
    let meta = if kind.is_dir() { directory() } else { Meta { mode: 0o644, ..Meta::default() } };
    missing.push(Entry { path: path.clone(), kind, meta, implied: false });
    missing.retain(|entry| !entries.iter().any(|known| known.path == entry.path));
    entries.extend(missing);
    true
}

fn directory() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}

fn read_host(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}
