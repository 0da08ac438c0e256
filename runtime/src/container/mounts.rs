//! What a step sees besides its root: directories and files of the host, memory, secrets, layers of other images.
//!
//! Each is made while the old root is in sight, by paths that the caller chose; where it goes is looked up in the new root,
//! by handle. A place that is missing is made only inside of something that was mounted before: never in the root itself,
//! where it would become part of a layer.

use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno as E;
use rustix::mount::MountAttrFlags;
use serde::{Deserialize, Serialize};

use super::detached::{clone_of, clone_tree, failed, fresh, put, read_only, shown};
use super::{ContainerSpec, overlay};
use crate::error::RuntimeError;
use crate::owner::{FileOwner, XATTR};
use crate::rootfs::Rootfs;
use crate::wire;

/// Something that is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; links in it are followed there.
    #[serde(with = "wire::raw")]
    pub target: PathBuf,
    /// What is seen there.
    pub source: MountSource,
    /// Whether it can not be changed through this path.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host, by its absolute path. What is mounted below it comes along.
    Host(#[serde(with = "wire::raw")] PathBuf),
    /// An empty directory in memory, which everybody may write to.
    Memory {
        /// Bytes at the most; `None` for what the kernel takes.
        size: Option<u64>,
    },
    /// A file in memory.
    Text {
        /// What is in it.
        text: Hidden,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Layers, stacked by overlayfs. Changes are dropped.
    Layers {
        /// Directories that are never changed, top first; at least one.
        #[serde(with = "wire::raw_list")]
        lower: Vec<PathBuf>,
        /// An empty directory for what the step changes, and another one beside it.
        changes: (RawPath, RawPath),
        /// What of it is seen: a path in the stack, links followed inside of it.
        #[serde(with = "wire::raw")]
        at: PathBuf,
    },
}

/// A path that need not be UTF-8, in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawPath(#[serde(with = "wire::raw")] pub PathBuf);

/// Bytes that must not be shown: not even where a spec is printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({} bytes)", self.0.len())
    }
}

impl Mount {
    /// Returns what is wrong with it.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let paths: Vec<&Path> = match &self.source {
            MountSource::Host(path) => vec![path],
            MountSource::Layers { lower, changes, .. } if !lower.is_empty() => {
                lower.iter().map(PathBuf::as_path).chain([changes.0.0.as_path(), changes.1.0.as_path()]).collect()
            }
            MountSource::Layers { .. } => return Some("no lower directory"),
            MountSource::Memory { .. } | MountSource::Text { .. } => vec![],
        };
        let relative = paths.iter().any(|path| !path.is_absolute()) || !self.target.is_absolute();
        relative.then_some("a path that is not absolute")
    }
}

/// A mount that is nowhere yet, and its target.
pub(super) type Taken = (OwnedFd, PathBuf);

/// Takes what `spec` has mounted of the host, as mounts that are nowhere yet; `None` for each that [`make`] makes. The working directory
/// is the scratch directory where `stacks` are made there.
pub(super) fn take(spec: &ContainerSpec, stacks: Stacks) -> Result<Vec<Option<OwnedFd>>, RuntimeError> {
    let take = |(number, mount): (usize, &Mount)| {
        Ok(match &mount.source {
            MountSource::Host(path) => {
                Some(clone_tree(path, true).map_err(failed(format!("open_tree({}, OPEN_TREE_CLONE)", shown(path))))?)
            }
            MountSource::Layers { lower, changes, at } => {
                let (upper, work) = (&changes.0.0, &changes.1.0);
                let root = match stacks {
                    Stacks::Loose => overlay::loose(lower, upper, work)?,
                    Stacks::InScratch => stacked(number, lower, upper, work)?,
                };
                Some(part_of(root, at)?)
            }
            MountSource::Memory { .. } | MountSource::Text { .. } => None,
        })
    };
    spec.mounts.iter().enumerate().map(take).collect()
}

/// How layers are stacked that are not the root.
#[derive(Clone, Copy)]
pub(super) enum Stacks {
    /// As mounts that are nowhere, which kernels before 6.15 take no part of.
    Loose,
    /// In the working directory.
    InScratch,
}

/// Makes the rest of what `spec` has mounted. The working directory is the scratch directory.
pub(super) fn make(spec: &ContainerSpec, taken: Vec<Option<OwnedFd>>) -> Result<Vec<Taken>, RuntimeError> {
    let mut made = Vec::with_capacity(taken.len());
    for (number, (mount, taken)) in spec.mounts.iter().zip(taken).enumerate() {
        let tree = match &mount.source {
            MountSource::Text { text, mode, uid, gid } => {
                let name = format!("text-{number}");
                write_text(spec, &name, text, *mode, (*uid, *gid))?;
                clone_tree(Path::new(&name), false).map_err(failed("open_tree(text, OPEN_TREE_CLONE)"))?
            }
            MountSource::Memory { size } => memory(*size)?,
            MountSource::Host(_) | MountSource::Layers { .. } => {
                taken.ok_or_else(|| RuntimeError::call(format!("open_tree({})", shown(&mount.target)), E::BADF))?
            }
        };
        if mount.read_only {
            let call = format!("mount_setattr({}, MOUNT_ATTR_RDONLY)", shown(&mount.target));
            read_only(&tree, true).map_err(|errno| RuntimeError::call(call, errno))?;
        }
        made.push((tree, mount.target.clone()));
    }
    Ok(made)
}

fn memory(size: Option<u64>) -> Result<OwnedFd, RuntimeError> {
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", "1777")];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fresh("tmpfs", &options, attributes).map_err(failed("fsmount(tmpfs)"))
}

/// Writes a file into the scratch directory.
fn write_text(
    spec: &ContainerSpec,
    name: &str,
    text: &Hidden,
    mode: u32,
    owner: (u32, u32),
) -> Result<(), RuntimeError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(name, flags, Mode::from_raw_mode(0o600)).map_err(failed("open(scratch/text)"))?;
    let mut file = std::fs::File::from(file);
    file.write_all(&text.0).map_err(|error| RuntimeError::call("write(scratch/text)", error))?;
    if owner == (0, 0) {
        // It is root's, who makes it.
    } else if spec.ids.are_emulated() {
        // Where memory keeps no attributes (Linux before 6.6), the caller's list of owners has it.
        let says = FileOwner::new(owner.0, owner.1);
        let _ = rustix::fs::fsetxattr(&file, XATTR, says.to_string().as_bytes(), XattrFlags::empty());
    } else {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid))
            .map_err(failed(format!("fchown(scratch/text, {}, {})", owner.0, owner.1)))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("fchmod(scratch/text)"))
}

/// Stacks layers in a directory of the scratch directory.
fn stacked(number: usize, lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, RuntimeError> {
    let dir = format!("layers-{number}");
    rustix::fs::mkdir(&dir, Mode::from_raw_mode(0o755)).map_err(failed("mkdir(scratch/layers)"))?;
    let here = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open(scratch, O_PATH)"))?;
    rustix::process::chdir(&dir).map_err(failed("chdir(scratch/layers)"))?;
    rustix::fs::mkdir("root", Mode::from_raw_mode(0o755)).map_err(failed("mkdir(scratch/layers/root)"))?;
    overlay::stack(lower, upper, work)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("root", flags, Mode::empty()).map_err(failed("open(scratch/layers/root, O_PATH)"))?;
    rustix::process::fchdir(&here).map_err(failed("fchdir(scratch)"))?;
    Ok(root)
}

/// Returns what is at `at` in the file system `root`, as a mount that is nowhere.
fn part_of(root: OwnedFd, at: &Path) -> Result<OwnedFd, RuntimeError> {
    // Which is there as long as it is open.
    let root = Rootfs::of(root);
    let found = root
        .resolve(at.as_os_str().as_bytes())
        .map_err(|error| RuntimeError::call(format!("openat2({}, RESOLVE_IN_ROOT)", shown(at)), error))?;
    clone_of(&found, false).map_err(failed(format!("open_tree({}, OPEN_TREE_CLONE)", shown(at))))
}

/// Puts `tree` where `target` is in the new root.
pub(super) fn attach(root: &Rootfs, tree: &OwnedFd, target: &Path) -> Result<(), RuntimeError> {
    let fail = |error| RuntimeError::call(format!("openat2({}, RESOLVE_IN_ROOT)", shown(target)), error);
    let place = match root.resolve(target.as_os_str().as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            make_place(root, tree, target)?.ok_or_else(|| fail(error))?
        }
        other => other.map_err(fail)?,
    };
    put(tree, &place).map_err(failed(format!("move_mount(…, {})", shown(target))))
}

/// Makes what is missing of `target`, if the part that is there is of a mount of ours; `None` where it is of the root.
fn make_place(root: &Rootfs, tree: &OwnedFd, target: &Path) -> Result<Option<OwnedFd>, RuntimeError> {
    let fail = |errno: E| RuntimeError::call(format!("mkdir({})", shown(target)), errno);
    let mount_of =
        |dir: &OwnedFd| rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id);
    let parts: Vec<&[u8]> = target.iter().map(OsStrExt::as_bytes).filter(|part| *part != b"/").collect();
    let there = (0..parts.len()).rev().find_map(|count| {
        let dir = root.resolve(&parts[..count].join(&b'/')).ok()?;
        Some((count, dir))
    });
    let Some((count, mut dir)) = there else { return Ok(None) };
    if mount_of(&dir).map_err(fail)? == mount_of(root.dir()).map_err(fail)? {
        return Ok(None);
    }
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree).map_err(fail)?.st_mode);
    for (at, part) in parts.iter().enumerate().skip(count) {
        let is_last = at + 1 == parts.len();
        if is_last && kind != FileType::Directory {
            rustix::fs::mknodat(&dir, *part, FileType::RegularFile, Mode::from_raw_mode(0o644), 0).map_err(fail)?;
        } else {
            rustix::fs::mkdirat(&dir, *part, Mode::from_raw_mode(0o755)).map_err(fail)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, *part, flags, Mode::empty()).map_err(fail)?;
    }
    Ok(Some(dir))
}
