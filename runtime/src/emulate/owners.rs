//! Whom each file belongs to. Regular files and directories carry their owner in an attribute: overlayfs copies it up,
//! rename and link keep it, and it goes when the file goes. What can not carry one is in a table by device and inode.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Stat, Uid, XattrFlags};
use rustix::io::Errno as E;

use super::credentials::Credentials;
use super::resolve::Handle;
use crate::container::InodeOwner;
use crate::error::Errno;
use crate::owner::{FileOwner, XATTR};

/// Entries of the table at the most: a step that makes more is told that there is no space.
const MOST: usize = 1 << 20;

/// The name of a file of one kind in the whole container: device and inode.
type Inode = (u64, u64);

/// Owners of files.
#[derive(Debug)]
pub(super) struct Owners {
    /// Whether files have the owner that the kernel knows, and only devices are emulated.
    real: bool,
    special: Mutex<HashMap<Inode, (u32, u32)>>,
    /// How many are in `special`.
    count: AtomicUsize,
    /// Whether the table has regular files or directories, of a file system without attributes.
    plain: AtomicBool,
    /// Held by who reads an owner to change it.
    changing: Mutex<()>,
    /// The upper directory of the overlay that is the root.
    upper: Option<OwnedFd>,
    /// The inodes below that, which were known from the start. They never get into it, but as copies.
    lower: HashSet<u64>,
    /// The device of the root.
    device: u64,
}

impl Owners {
    pub(super) fn new(real: bool, upper: Option<OwnedFd>, device: u64) -> Self {
        Owners {
            real,
            upper,
            lower: HashSet::new(),
            device,
            special: Mutex::default(),
            count: AtomicUsize::new(0),
            plain: AtomicBool::new(false),
            changing: Mutex::default(),
        }
    }

    /// Returns whether any file belongs to somebody that can not say it itself.
    pub(super) fn has_special(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Returns whether there are files that could carry their owner and do not.
    pub(super) fn hides(&self) -> bool {
        self.plain.load(Ordering::Acquire)
    }

    /// Returns what the file at `name` says; `None` where it says nothing, or can not.
    pub(super) fn said_by(&self, name: &CStr, follow: bool) -> Result<Option<FileOwner>, E> {
        let mut text = [0; 64];
        let length = match follow {
            true => rustix::fs::getxattr(name, XATTR, &mut text[..]),
            false => rustix::fs::lgetxattr(name, XATTR, &mut text[..]),
        };
        match length {
            Ok(length) => Ok(FileOwner::parse(&text[..length])),
            Err(E::NODATA | E::RANGE | E::PERM | E::ACCESS | E::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Returns what is in the table about a file.
    pub(super) fn in_table(&self, stat: &Stat) -> Option<FileOwner> {
        if !self.has_special() || (carries(stat) && !self.plain.load(Ordering::Acquire)) {
            return None;
        }
        self.table().get(&inode(stat)).map(|(uid, gid)| FileOwner::new(*uid, *gid))
    }

    /// Returns the owner of a file, and the device that it stands for.
    pub(super) fn of(&self, handle: &Handle) -> FileOwner {
        let stat = handle.stat();
        let real = match self.real {
            true => FileOwner::new(stat.st_uid, stat.st_gid),
            false => FileOwner::new(or_root(stat.st_uid), or_root(stat.st_gid)),
        };
        let said = match carries(stat) {
            true => self.said_by(&handle.name(), true).ok().flatten(),
            false => None,
        };
        match said {
            Some(said) if self.real => FileOwner { device: said.device, ..real },
            Some(said) => said,
            None if self.real => real,
            None => self.in_table(stat).unwrap_or(real),
        }
    }

    /// As [`of`](Self::of), where a file that has no place in the file system belongs to `user`, who most likely made it.
    pub(super) fn seen_by(&self, user: &Credentials, handle: &Handle) -> FileOwner {
        if !self.real && handle.is_anonymous() {
            return FileOwner::new(user.uid.fs, user.gid.fs);
        }
        self.of(handle)
    }

    /// Writes down the owner of a file, which has been checked, and is not changed by anybody else meanwhile.
    pub(super) fn set(&self, handle: &Handle, owner: FileOwner) -> Result<(), Errno> {
        let stat = handle.stat();
        if self.real {
            let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
            rustix::fs::chownat(handle.fd(), "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if carries(stat) {
            let name = handle.name();
            let result = match owner.is_default() || self.real && owner.device.is_none() {
                true => rustix::fs::removexattr(&*name, XATTR),
                false => rustix::fs::setxattr(&*name, XATTR, owner.to_string().as_bytes(), XattrFlags::empty()),
            };
            match result {
                Ok(()) | Err(E::NODATA) => return Ok(()),
                // A device without its attribute would be a mere file.
                Err(E::OPNOTSUPP) if owner.device.is_none() => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.real {
            return Ok(());
        }
        self.put(stat, owner)?;
        match self.in_upper(handle) {
            Some(mut copy) if copy.st_ino != stat.st_ino => {
                copy.st_dev = stat.st_dev;
                self.put(&copy, owner)
            }
            _ => Ok(()),
        }
    }

    /// Returns the file that overlayfs has in its upper directory for a file of the root. It can not remember where that
    /// was copied from, as it does for files with attributes: as soon as the kernel forgets it, the file has the number of
    /// its copy.
    fn in_upper(&self, handle: &Handle) -> Option<Stat> {
        let upper = self.upper.as_ref().filter(|_| handle.stat().st_dev == self.device)?;
        let path = rustix::fs::readlink(handle.name(), Vec::new()).ok()?;
        let path = path.to_bytes().strip_prefix(b"/")?;
        let copy = rustix::fs::statat(upper, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(copy.st_mode) == handle.kind()).then_some(copy)
    }

    /// Writes down in the table whom a file belongs to.
    pub(super) fn put(&self, stat: &Stat, owner: FileOwner) -> Result<(), Errno> {
        let mut table = self.table();
        if (owner.uid, owner.gid) == (0, 0) {
            table.remove(&inode(stat));
        } else if table.len() >= MOST && !table.contains_key(&inode(stat)) {
            return Err(E::NOSPC.into());
        } else {
            table.insert(inode(stat), (owner.uid, owner.gid));
            if carries(stat) {
                self.plain.store(true, Ordering::Release);
            }
        }
        self.count.store(table.len(), Ordering::Release);
        Ok(())
    }

    /// Writes down whom a file of the layers belongs to, before the step begins.
    pub(super) fn know(&mut self, stat: &Stat, owner: FileOwner) -> Result<(), Errno> {
        if self.upper.is_some() && stat.st_dev == self.device {
            self.lower.insert(stat.st_ino);
        }
        self.put(stat, owner)
    }

    /// Keeps others from changing an owner until the result is dropped.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the table for what the step has made or changed in its root: inode, user, group; in order.
    pub(super) fn of_root(&self) -> Vec<(u64, u32, u32)> {
        let is_ours = |key: &Inode| key.0 == self.device && !self.lower.contains(&key.1);
        let table = self.table();
        let mut list: Vec<_> =
            table.iter().filter(|(key, _)| is_ours(key)).map(|(key, ids)| (key.1, ids.0, ids.1)).collect();
        list.sort_unstable();
        list
    }

    /// Returns the table for all else: what is mounted. Where the root is no overlay, a part of that may lie in it.
    pub(super) fn of_mounts(&self) -> Vec<InodeOwner> {
        let table = self.table();
        let files = table.iter().filter(|(key, _)| key.0 != self.device || self.upper.is_none());
        files.map(|(&(device, inode), &(uid, gid))| InodeOwner { device, inode, uid, gid }).collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Inode, (u32, u32)>> {
        self.special.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for all ids that are not in the map.
const UNMAPPED: u32 = 65_534;

/// Returns an id as the kernel says it, where others are emulated: what belongs to nobody here, as devices do, is root's.
fn or_root(id: u32) -> u32 {
    if id == UNMAPPED { 0 } else { id }
}

/// Returns whether a file can carry the attribute.
pub(super) fn carries(stat: &Stat) -> bool {
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory)
}

fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// Returns lstat(2) of a path of this process.
pub(super) fn stat_of(name: impl rustix::path::Arg) -> Result<Stat, E> {
    rustix::fs::statat(CWD, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Returns fstat(2).
pub(super) fn stat_fd(fd: impl AsFd) -> Result<Stat, E> {
    rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)
}
