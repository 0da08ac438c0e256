//! `RUN --mount`: what a step sees that is in no layer.
//!
//! First all is got ready, in folders of this build ([`Work::mounts`]): copies of files of the context, folders of the cache,
//! secrets, sockets. Then each is given its place in the image ([`Mounts::placed`]). How it comes there is the affair of who
//! runs the step: it is mounted, or where nothing can be mounted, moved there and back.

mod agent;
mod gather;
mod keys;
mod mask;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_runtime::container::{self, Finished, Hidden, MountSource, RawPath, SpecialOwner};
use rustix::fs::{Gid, Mode, Uid};

use crate::plan::{self, CopyFrom, MountKind, Sharing};
use crate::progress::Event;
use crate::store::{Active, CacheMount, CacheMounts, CacheName, CacheOwner, Claim, View, note_owners};
use crate::tree::{Owners, Tree, TreePath, resolve};

use super::BuildError;
use super::caches::waiting;
use super::chain::Chain;
use super::given::{Secret, Volume};
use super::run::{self, MOUNT_POINTS};
use super::run_step::StepPlace;
use super::work::Work;

pub(super) use agent::Forwarder;
pub(super) use gather::{Gathered, gather};
pub(super) use keys::stages;
pub(super) use mask::{Mask, Masked};

/// What the mounts of one step are, ready to be shown. Locks are held and sockets answered until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    shown: Vec<Shown>,
    /// Variables of the step: secrets, and where the agent is.
    pub env: Vec<OsString>,
    /// What its output must not show.
    pub mask: Mask,
    _agents: Vec<Forwarder>,
    caches: Vec<Claimed>,
}

/// A cache of a step.
#[derive(Debug)]
struct Claimed {
    id: String,
    /// The numbers of the mounts of the step that are this one.
    mounts: Vec<usize>,
    mount: CacheMount,
    /// Owners of what cannot carry one, as the step finds it.
    given: Vec<CacheOwner>,
}

/// Owners of what cannot carry one: path, user, group.
type Special = Vec<(TreePath, u32, u32)>;

/// Something that a step sees.
#[derive(Debug)]
pub(super) struct Shown {
    /// Where, as the Dockerfile says: an absolute path.
    target: String,
    pub what: What,
    pub read_only: bool,
    /// Owners of what cannot carry one, below it.
    special: Special,
}

/// What a step sees.
#[derive(Debug)]
pub(super) enum What {
    /// This folder, which is the step's alone.
    Folder(PathBuf),
    /// This file or socket, which is the step's alone.
    File(PathBuf),
    /// This folder, which stays.
    Cache(PathBuf),
    /// An empty folder, which takes so many bytes.
    Memory(Option<u64>),
    /// A file with this text.
    Text { text: Hidden, mode: u32, uid: u32, gid: u32 },
    /// What is at this path of the host, for `coracle run`.
    Host { path: PathBuf, is_dir: bool },
    /// A part of stacked layers.
    Layers { lower: Vec<PathBuf>, changes: PathBuf, at: TreePath, is_dir: bool },
}

/// Where something is shown.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub shown: &'a Shown,
    /// The place, without links on the way.
    pub path: TreePath,
    pub spot: Spot,
}

/// What is at the place of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// A file or folder of the image.
    There,
    /// Nothing: the image has no such path.
    Missing,
    /// Something that is mounted, too.
    Covered,
}

/// Whether layers can be stacked by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stacking {
    Works,
    Fails,
}

impl Shown {
    pub fn is_dir(&self) -> bool {
        match &self.what {
            What::Folder(_) | What::Cache(_) | What::Memory(_) => true,
            What::Layers { is_dir, .. } | What::Host { is_dir, .. } => *is_dir,
            What::File(_) | What::Text { .. } => false,
        }
    }
}

impl Mounts {
    /// Returns what a container sees of the host.
    pub fn of_volumes(volumes: &[Volume]) -> Result<Self, BuildError> {
        let mut mounts = Mounts::default();
        for Volume { source, target, read_only } in volumes {
            let found = std::fs::metadata(source).map_err(|error| BuildError::io("find the volume", source, error))?;
            let what = What::Host { path: source.clone(), is_dir: found.is_dir() };
            mounts.shown.push(Shown { target: target.clone(), what, read_only: *read_only, special: vec![] });
        }
        Ok(mounts)
    }

    /// Keeps whom the files of caches belong to that cannot carry it, for the next step that has them. Returns what to say where
    /// that fails: the step is done, and its layer has nothing of it.
    pub fn keep_owners(&self, finished: &Finished) -> Vec<String> {
        let now = finished.mounted.iter().map(|file| ((file.device, file.inode), (file.uid, file.gid))).collect();
        let failed = self.caches.iter().filter_map(|cache| {
            let error = cache.mount.keep_owners(&cache.given, &now).err()?;
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Some(format!("owners of links and fifos in the cache mount {:?} are not kept: {error}{cause}", cache.id))
        });
        failed.collect()
    }

    /// Returns where each is shown in an image with the files of `view`, in order.
    pub fn placed(&self, view: &View) -> Result<Vec<Placed<'_>>, BuildError> {
        let constant = |name: &str| TreePath::new(name).expect("a constant name");
        // As written, and as found.
        let mut outer: Vec<(TreePath, TreePath)> = MOUNT_POINTS.map(|name| (constant(name), constant(name))).into();
        let mut placed = Vec::with_capacity(self.shown.len());
        for shown in &self.shown {
            let refused = |found: &'static str| BuildError::BadMountTarget {
                target: shown.target.clone(),
                found,
                what: if shown.is_dir() { "a directory" } else { "a file" },
            };
            let written = TreePath::new(&shown.target).map_err(|_| refused("no path"))?;
            let around = outer.iter().rev().find_map(|(text, place)| Some(place.join(&written.strip_prefix(text)?)));
            let (path, spot) = match around {
                Some(path) => (path, Spot::Covered),
                None => {
                    let found = resolve(view, written.as_bytes())?;
                    let spot = match &found.node {
                        _ if outer.iter().any(|(_, place)| found.path.starts_with(place)) => Spot::Covered,
                        Some(node) if node.kind.is_dir() != shown.is_dir() => return Err(refused(node.kind.word())),
                        Some(_) => Spot::There,
                        None => Spot::Missing,
                    };
                    (found.path, spot)
                }
            };
            if path.is_root() {
                return Err(refused("the root of the image"));
            }
            outer.push((written, path.clone()));
            placed.push(Placed { shown, path, spot });
        }
        Ok(placed)
    }
}

impl Placed<'_> {
    /// Returns where it is in the container.
    pub fn target(&self) -> PathBuf {
        Path::new("/").join(self.path.as_os_path())
    }

    /// Returns how it is mounted.
    pub fn mount(&self) -> container::Mount {
        let source = match &self.shown.what {
            What::Folder(path) | What::File(path) | What::Cache(path) | What::Host { path, .. } => {
                MountSource::Host(path.clone())
            }
            What::Memory(size) => MountSource::Memory { size: *size },
            What::Text { text, mode, uid, gid } => {
                MountSource::Text { text: text.clone(), mode: *mode, uid: *uid, gid: *gid }
            }
            What::Layers { lower, changes, at, .. } => MountSource::Layers {
                lower: lower.clone(),
                changes: (RawPath(changes.join("upper")), RawPath(changes.join("work"))),
                at: Path::new("/").join(at.as_os_path()),
            },
        };
        container::Mount { target: self.target(), source, read_only: self.shown.read_only }
    }

    /// Returns the owners of what cannot carry one.
    pub fn special(&self) -> impl Iterator<Item = SpecialOwner> + '_ {
        let place = self.target();
        self.shown.special.iter().map(move |(path, uid, gid)| SpecialOwner {
            path: if path.is_root() { place.clone() } else { place.join(path.as_os_path()) },
            uid: *uid,
            gid: *gid,
        })
    }
}

/// Returns where the mounts of `run` have their files from, with the path there.
pub(super) fn sources(run: &plan::Run) -> impl Iterator<Item = (&CopyFrom, &str)> {
    run.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { from, source, .. } | MountKind::Cache { from: Some(from), source, .. } => {
            Some((from, source.as_str()))
        }
        _ => None,
    })
}

impl Work<'_> {
    /// Refuses a step that requires a secret or an agent that was not given.
    pub fn check_given(&self, run: &plan::Run) -> Result<(), BuildError> {
        let given = &self.options.given;
        let missing = run.mounts.iter().find_map(|mount| match &mount.kind {
            MountKind::Secret { id, required: true, .. } if !given.secrets.contains_key(id) => {
                Some(BuildError::NoSecret { id: id.clone() })
            }
            MountKind::Ssh { id, required: true, .. } if !given.agents.contains_key(id) => {
                Some(BuildError::NoAgent { id: id.clone() })
            }
            _ => None,
        });
        missing.map_or(Ok(()), Err)
    }

    /// Gets ready what the step `run` has mounted, in the folder of `active`.
    pub fn mounts(&self, run: &plan::Run, active: &Active, stacking: Stacking) -> Result<Mounts, BuildError> {
        self.check_given(run)?;
        let of_host = Mounts::of_volumes(&self.options.around.volumes)?;
        let mut mounts = Mounts { caches: self.claim_caches(run)?, ..of_host };
        let mut shown = BTreeMap::new();
        let mut agents = 0;
        for (number, mount) in run.mounts.iter().enumerate() {
            let folder = active.dir().join(format!("mount-{number}"));
            let target = mount.target.clone();
            match &mount.kind {
                MountKind::Bind { from, source, writable } => {
                    let (what, special) = self.bind((from, source), &folder, stacking)?;
                    shown.insert(number, Shown { target, what, read_only: !writable, special });
                }
                MountKind::Cache { read_only, .. } => {
                    let taken = mounts.caches.iter().find(|cache| cache.mounts.contains(&number));
                    let cache = taken.expect("each cache of the step was claimed");
                    let what = What::Cache(cache.mount.dir().to_path_buf());
                    let special = cache.given.iter().map(|owner| (owner.path.clone(), owner.uid, owner.gid)).collect();
                    shown.insert(number, Shown { target, what, read_only: *read_only, special });
                }
                MountKind::Tmpfs { size } => {
                    if size.is_some() && self.place == StepPlace::Chroot {
                        let message = format!("{target} is a folder on disk in a chroot, and its size has no limit");
                        self.sink.emit(Event::Warning { message, line: None });
                    }
                    shown
                        .insert(number, Shown { target, what: What::Memory(*size), read_only: false, special: vec![] });
                }
                MountKind::Secret { id, env, file, mode, uid, gid, .. } => {
                    let Some(secret) = self.options.given.secrets.get(id) else { continue };
                    mounts.mask.add(secret.bytes());
                    if let Some(name) = env {
                        mounts.env.push(variable(name, secret)?);
                    }
                    if *file {
                        let text = Hidden(secret.bytes().to_vec());
                        let what = What::Text { text, mode: *mode, uid: *uid, gid: *gid };
                        shown.insert(number, Shown { target, what, read_only: true, special: owner(*uid, *gid) });
                    }
                }
                MountKind::Ssh { id, mode, uid, gid, .. } => {
                    let Some(agent) = self.options.given.agents.get(id) else { continue };
                    let target = match target.is_empty() {
                        true => format!("/run/buildkit/ssh_agent.{agents}"),
                        false => target,
                    };
                    let is_set = run.env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK="));
                    if agents == 0 && !is_set {
                        mounts.env.push(format!("SSH_AUTH_SOCK={target}").into());
                    }
                    agents += 1;
                    let name = format!("agent-{number}");
                    let forwarder = Forwarder::start(agent, active.dir(), &name)
                        .map_err(|source| BuildError::Agent { id: id.clone(), source })?;
                    self.own_socket(forwarder.path(), *mode, (*uid, *gid))?;
                    let what = What::File(forwarder.path().to_path_buf());
                    shown.insert(number, Shown { target, what, read_only: false, special: owner(*uid, *gid) });
                    mounts._agents.push(forwarder);
                }
            }
        }
        mounts.shown.extend(run.mount_order().into_iter().filter_map(|number| shown.remove(&number)));
        if let Some(script) = &run.script {
            let path = active.dir().join("script");
            let fail = |source| BuildError::io("write", &path, source);
            std::fs::write(&path, &script.text).map_err(fail)?;
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o755)).map_err(|errno| fail(errno.into()))?;
            let (what, target) = (What::File(path), script.path());
            mounts.shown.push(Shown { target, what, read_only: true, special: vec![] });
        }
        Ok(mounts)
    }

    /// Gets the files of a bind mount ready in `folder`, which is not there yet.
    fn bind(
        &self,
        (from, source): (&CopyFrom, &str),
        folder: &Path,
        stacking: Stacking,
    ) -> Result<(What, Special), BuildError> {
        let make = |path: &Path| std::fs::create_dir(path).map_err(|source| BuildError::io("create", path, source));
        let special_of = |found: &Gathered| found.special().map(|(path, uid, gid)| (path.clone(), uid, gid)).collect();
        make(folder)?;
        let view = self.source_chain(from)?.map(|chain| self.view(&chain)).transpose()?;
        if let (Some(view), Stacking::Works) = (&view, stacking)
            && !view.layers().is_empty()
        {
            // The files are there already.
            let found = resolve(view, source.as_bytes())?;
            let Some(node) = found.node else { return Err(BuildError::NoMountSource { path: source.into() }) };
            make(&folder.join("upper"))?;
            make(&folder.join("work"))?;
            let special = run::special_owners(view).into_iter().filter_map(|owner| {
                let path = TreePath::new(owner.path.as_os_str().as_encoded_bytes()).ok()?;
                Some((path.strip_prefix(&found.path)?, owner.uid, owner.gid))
            });
            let special = special.collect();
            let (lower, is_dir) = (run::stacked(view), node.kind.is_dir());
            return Ok((What::Layers { lower, changes: folder.to_path_buf(), at: found.path, is_dir }, special));
        }
        let found = match &view {
            Some(view) => Arc::new(gather(view, source, self.control)?),
            None => self.gathered(from, source)?,
        };
        let tree: &dyn Tree = match &view {
            Some(view) => view,
            None => self.folder(from)?,
        };
        found.copy_to(tree, folder, self.on_disk.owners, None, self.control)?;
        let what = match found.is_dir() {
            true => What::Folder(folder.to_path_buf()),
            false => What::File(folder.join(gather::NAME)),
        };
        Ok((what, special_of(&found)))
    }

    /// Returns what is at a path of the context, or of a folder with a name: looked at once in a build.
    pub fn gathered(&self, from: &CopyFrom, source: &str) -> Result<Arc<Gathered>, BuildError> {
        let lock = || self.gathered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = (format!("{from:?}"), source.to_owned());
        if let Some(known) = lock().get(&name) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(gather(self.folder(from)?, source, self.control)?);
        lock().insert(name, Arc::clone(&found));
        Ok(found)
    }

    /// Returns what a cache mount begins with, in words of `RUN --mount`: "" for an empty folder of root's. It names a cache besides
    /// its id, as with BuildKit: what begins with other files, or has another owner, is another one.
    fn variant(&self, cache: &MountKind) -> Result<String, BuildError> {
        Ok(match cache {
            MountKind::Cache { from: Some(from), source, .. } => {
                let digest = self.content(from, source)?;
                let content: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                format!("source={source},content={content}")
            }
            MountKind::Cache { mode, uid, gid, .. } if (*mode, *uid, *gid) != (0o755, 0, 0) => {
                format!("uid={uid},gid={gid},mode={mode:04o}")
            }
            _ => String::new(),
        })
    }

    /// Returns the folder of the cache mounts of this build.
    pub fn cache_mounts(&self) -> CacheMounts {
        match &self.options.given.cache_dir {
            Some(dir) => CacheMounts::at(dir),
            None => self.store.cache_mounts(),
        }
    }

    /// Takes the caches of a step: in the order of their names, so that no two steps wait for each other.
    fn claim_caches(&self, run: &plan::Run) -> Result<Vec<Claimed>, BuildError> {
        let caches = self.cache_mounts();
        // Two mounts of one cache in a step are the same folder.
        let mut wanted: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (number, mount) in run.mounts.iter().enumerate() {
            if let MountKind::Cache { id, .. } = &mount.kind {
                let id = format!("{}{id}", self.options.given.cache_namespace);
                wanted.entry((id, self.variant(&mount.kind)?)).or_default().push(number);
            }
        }
        let mut taken = Vec::with_capacity(wanted.len());
        for ((id, variant), mounts) in wanted {
            let MountKind::Cache { sharing, from, source, mode, uid, gid, .. } = &run.mounts[mounts[0]].kind else {
                continue;
            };
            let claim = match (sharing, self.place) {
                (Sharing::Private, _) => Claim::Own,
                // What is moved into the tree of one step is in no other one's.
                (Sharing::Locked, _) | (Sharing::Shared, StepPlace::Chroot) => Claim::Alone,
                (Sharing::Shared, StepPlace::Namespaces) => Claim::Shared,
            };
            let mut fill = |dir: &Path| match from {
                None => gather::own(dir, self.on_disk.owners, &gather::attributes(*mode, *uid, *gid)),
                Some(from) => self.fill_cache((from, source), dir),
            };
            let name = CacheName { realm: &self.on_disk.realm, id: &id, variant: &variant };
            let mount = caches.take(name, claim, &mut fill, &mut waiting(self.control, self.sink, &id))?;
            let given = if self.on_disk.owners == Owners::Emulated { mount.owners() } else { vec![] };
            taken.push(Claimed { id, mounts, mount, given });
        }
        Ok(taken)
    }

    fn fill_cache(&self, (from, source): (&CopyFrom, &str), dir: &Path) -> Result<(), BuildError> {
        let view = self.source_chain(from)?.map(|chain: Chain| self.view(&chain)).transpose()?;
        let tree: &dyn Tree = match &view {
            Some(view) => view,
            None => self.folder(from)?,
        };
        let found = match &view {
            Some(view) => Arc::new(gather(view, source, self.control)?),
            None => self.gathered(from, source)?,
        };
        if !found.is_dir() {
            return Err(BuildError::NotADirectory { path: format!("/{}", found.at()), what: found.word() });
        }
        found.copy_to(tree, dir, self.on_disk.owners, None, self.control)?;
        if self.on_disk.owners == Owners::Emulated {
            note_owners(dir, found.special())?;
        }
        Ok(())
    }

    /// Gives a socket its owner and mode.
    fn own_socket(&self, path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<(), BuildError> {
        let fail = |call: &'static str| move |errno: rustix::io::Errno| BuildError::io(call, path, errno.into());
        rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(fail("chmod"))?;
        if self.on_disk.owners == Owners::Native {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chown(path, Some(uid), Some(gid)).map_err(fail("chown"))?;
        }
        Ok(())
    }
}

fn owner(uid: u32, gid: u32) -> Special {
    if (uid, gid) == (0, 0) { vec![] } else { vec![(TreePath::root(), uid, gid)] }
}

/// Returns the variable `name` with a secret as its value.
fn variable(name: &str, secret: &Secret) -> Result<OsString, BuildError> {
    let bytes = secret.bytes();
    if bytes.contains(&0) {
        return Err(BuildError::SecretNotText { name: name.into() });
    }
    Ok(OsString::from_vec([name.as_bytes(), b"=", bytes].concat()))
}
