//! Whom a file on disk belongs to, and where that is written.

use std::os::fd::{BorrowedFd, OwnedFd};

use coracle_runtime::owner::{Device, FileOwner, XATTR};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::{LayerError, PRIVATE_DIR, io_error};
use crate::tree::{Entry, Kind, Owners};

/// What may be written on a file already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it was just made.
    New,
    /// The owner that an earlier entry gave it.
    Known,
}

/// Makes the folder `root` one in which new files belong to the caller and his own group, whatever the folders around it say.
pub(super) fn take(root: &OwnedFd, owners: Owners) -> Result<(), Errno> {
    if owners != Owners::Emulated {
        return Ok(());
    }
    let inherited = rustix::fs::fstat(root)?.st_gid != rustix::process::getegid().as_raw();
    if inherited {
        rustix::fs::fchown(root, None, Some(rustix::process::getegid()))?;
        rustix::fs::fchmod(root, Mode::from_raw_mode(PRIVATE_DIR))?;
    }
    Ok(())
}

/// Gives the open file or directory to its owner.
pub(super) fn set(file: BorrowedFd<'_>, entry: &Entry, owners: Owners, before: Before) -> Result<(), LayerError> {
    let is_device = matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. });
    if owners == Owners::Native {
        let (uid, gid) = ids(entry);
        rustix::fs::fchown(file, uid, gid).map_err(|error| refused(entry, error))?;
    }
    if is_device || owners == Owners::Emulated { note(file, entry, before) } else { Ok(()) }
}

/// Gives what is no open file to its owner, without following a link.
pub(super) fn chown_at(dir: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    let (uid, gid) = ids(entry);
    let name = entry.path.name().unwrap_or_default();
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| refused(entry, error))
}

/// Writes the owner of a file or directory, and what it stands for, into its attribute.
pub(super) fn note(file: BorrowedFd<'_>, entry: &Entry, before: Before) -> Result<(), LayerError> {
    let owner = of(entry);
    let result = match (owner.is_default(), before) {
        (true, Before::New) => Ok(()),
        (true, Before::Known) => match rustix::fs::fremovexattr(file, XATTR) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            result => result,
        },
        (false, _) => rustix::fs::fsetxattr(file, XATTR, owner.to_string().as_bytes(), XattrFlags::empty()),
    };
    result.map_err(|error| match error {
        Errno::OPNOTSUPP => {
            LayerError::NoAttributes { path: entry.path.clone(), uid: owner.uid, gid: owner.gid, source: error.into() }
        }
        error => io_error("note the owner of", &entry.path, error),
    })
}

/// Returns what the attribute of `entry` says.
pub(super) fn of(entry: &Entry) -> FileOwner {
    let device = |kind: FileType, (major, minor): (u32, u32)| {
        Some(Device { mode: kind.as_raw_mode() | entry.meta.mode & 0o7777, major, minor })
    };
    let (uid, gid) = ids(entry);
    FileOwner {
        uid: uid.map_or(0, Uid::as_raw),
        gid: gid.map_or(0, Gid::as_raw),
        device: match entry.kind {
            Kind::Char { device: numbers } => device(FileType::CharacterDevice, numbers),
            Kind::Block { device: numbers } => device(FileType::BlockDevice, numbers),
            _ => None,
        },
    }
}

/// Returns the owners for chown(2); -1, which means "as it is" there, is no id that an index could have.
fn ids(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let real = |id: &u32| *id != u32::MAX;
    (Some(entry.meta.uid).filter(real).map(Uid::from_raw), Some(entry.meta.gid).filter(real).map(Gid::from_raw))
}

fn refused(Entry { path, meta, .. }: &Entry, error: Errno) -> LayerError {
    match error {
        Errno::INVAL => {
            LayerError::UnmappedOwner { path: path.clone(), uid: meta.uid, gid: meta.gid, source: error.into() }
        }
        error => io_error("change the owner of", path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, TreePath};

    #[test]
    fn an_owner_outside_of_the_id_map_is_named() {
        let meta = Meta { gid: 42, ..Meta::default() };
        let kind = Kind::File { size: 0, digest: None };
        let entry = Entry { path: TreePath::new("etc/shadow").unwrap(), kind, meta, implied: false };
        let error = refused(&entry, Errno::INVAL);
        assert_eq!(error.to_string(), "cannot give etc/shadow to 0:42: that id is not in the id map");
    }
}
