//! RUN on a tree of real files, where layers cannot be stacked by the kernel.

use coracle_runtime::RuntimeError;
use coracle_runtime::container::{ContainerSpec, Place, RawPath, RootfsSource};

use crate::layer::{Contents, DiskTree, Ownership, Touched};
use crate::store::{Active, View};
use crate::tree::{Entry, Kind, Owners, Tree, TreePath};

use super::BuildError;
use super::cover::{Attributes, Covers, Stays};
use super::mounts::{Mounts, Placed, Spot, What};
use super::run::{self, Command, Ended};
use super::stubs;
use super::watch::NameWatch;
use super::worktree::WorkTree;

/// A step that is about to work on a tree.
pub(super) struct Prepared {
    /// How it is run.
    pub spec: ContainerSpec,
    covers: Covers,
}

/// Prepares `tree`, which is up to date with `view`, for a step, and returns how it is run.
pub(super) fn prepare(
    command: &Command,
    view: &View,
    tree: &mut WorkTree,
    active: &Active,
    owners: Owners,
    place: Place,
    mounts: &Mounts,
) -> Result<Prepared, BuildError> {
    let placed = mounts.placed(view)?;
    let made = make_mount_points(view, tree, owners)?;
    tree.count_as_new(&made);
    let mut covers = Covers::new(tree.place());
    let mut shown = Vec::new();
    for (target, contents) in stubs::host_files(&command.around) {
        let Some(file) = stubs::place_of_file(view, target) else { continue };
        match place {
            Place::Namespaces => {
                // Something to mount it on.
                if file.node.is_none() {
                    covers.file(&file.path, b"")?;
                }
                shown.push(stubs::text(std::path::Path::new("/").join(file.path.as_os_path()), contents));
            }
            Place::Chroot { .. } => covers.file(&file.path, &contents)?,
        }
    }
    if let Place::Chroot { .. } = place {
        for name in run::MOUNT_POINTS {
            covers.folder(&TreePath::new(name).expect("a constant name"), 0o755)?;
        }
    }
    for mount in &placed {
        match place {
            Place::Namespaces if mount.spot == Spot::Missing && mount.shown.is_dir() => {
                covers.folder(&mount.path, 0o755)?
            }
            Place::Namespaces if mount.spot == Spot::Missing => covers.file(&mount.path, b"")?,
            Place::Namespaces => {}
            Place::Chroot { .. } => bring(&mut covers, mount, owners)?,
        }
    }
    covers.ready()?;
    tree.count_as_new(covers.made());
    let rootfs = RootfsSource::Dir(tree.root());
    let spec = run::spec(command, view, owners, (rootfs, shown), active.work())?;
    let brought = placed.iter().filter(|mount| mount.shown.is_dir());
    let brought = brought.map(|mount| RawPath(mount.target())).collect();
    let mut spec = ContainerSpec { place, brought, ..spec };
    run::set(&mut spec.env, &mounts.env);
    match place {
        Place::Namespaces => run::mount(&mut spec, &placed),
        Place::Chroot { .. } => run::own(&mut spec, &placed),
    }
    Ok(Prepared { spec, covers })
}

/// Puts what would be mounted where nothing can be mounted. What must not be changed is safe all the same: it is a copy.
fn bring(covers: &mut Covers, mount: &Placed<'_>, owners: Owners) -> Result<(), BuildError> {
    match &mount.shown.what {
        What::Folder(source) | What::File(source) => covers.bring(&mount.path, source, Stays::No),
        What::Cache(source) => covers.bring(&mount.path, source, Stays::Yes),
        What::Memory(_) => covers.folder(&mount.path, 0o1777),
        What::Text { text, mode, uid, gid } => {
            let attributes = Attributes { mode: *mode, uid: *uid, gid: *gid };
            covers.text(&mount.path, &text.0, attributes, owners)
        }
        What::Host { .. } => Err(BuildError::NoVolumes),
        What::Layers { .. } => unreachable!("nothing is stacked where nothing can be mounted"),
    }
}

fn make_mount_points(view: &View, tree: &WorkTree, owners: Owners) -> Result<Vec<TreePath>, BuildError> {
    let mut disk = DiskTree::open(&tree.root(), owners)?;
    let made = run::make_mount_points(view, &mut disk)?;
    if !made.is_empty() {
        let root = view.lookup(&TreePath::root())?.expect("every tree has a root");
        let root = Entry { path: TreePath::root(), kind: Kind::Dir, meta: root.meta, implied: false };
        disk.create(&root, Contents::None)?;
    }
    disk.finish()?;
    Ok(made)
}

impl Prepared {
    /// Calls `step`, which runs the command, and puts what it changed into `active`. Returns the entries of the layer, which the
    /// tree then holds.
    pub fn during(
        self,
        tree: &mut WorkTree,
        view: &View,
        active: &Active,
        owners: Owners,
        step: impl FnOnce(&ContainerSpec) -> Result<Ended, BuildError>,
    ) -> Result<(Vec<Entry>, Ended), BuildError> {
        tree.wait_for_tick()?;
        let (ended, touched) = match NameWatch::new(&tree.root(), tree.record()) {
            Some(watch) => watch.during(|| step(&self.spec)),
            None => (step(&self.spec), Touched::default()),
        };
        // Also after a failure: a cache goes back.
        let restored = self.covers.restore();
        let ended = ended?;
        restored?;
        let special = ended.finished.special.iter().map(|&(inode, uid, gid)| (inode, (uid, gid))).collect();
        let ownership = match owners {
            // What a step changes here keeps its inode.
            Owners::Emulated => Ownership::Emulated { special: &special, lower_inode: &|_| None },
            _ => Ownership::Native,
        };
        let entries = tree.collect(&touched, view, active, ownership)?;
        Ok((entries, ended))
    }
}

/// Whether this is the kernel's word that it cannot stack layers here, which a tree of real files makes up for.
pub(super) fn cannot_stack(error: &BuildError) -> Option<&RuntimeError> {
    use rustix::io::Errno;
    let refused = [Errno::INVAL, Errno::PERM, Errno::NODEV, Errno::NOSYS, Errno::OPNOTSUPP];
    match error {
        BuildError::Runtime(error @ RuntimeError::Overlay { source, .. })
            if refused.iter().any(|errno| errno.raw_os_error() == source.raw()) =>
        {
            Some(error)
        }
        _ => None,
    }
}
