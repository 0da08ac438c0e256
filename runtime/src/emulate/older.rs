//! Files that were there when the step began, in a root that is no overlay. There, directories could be renamed; on an overlay,
//! rename(2) of a directory of a lower layer is EXDEV, and programs copy it. So it is here, that a step does the same
//! everywhere.

use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, Timespec};
use rustix::time::ClockId;

use super::owners::stat_of;
use super::resolve::{Handle, Root};

/// What tells an older directory from one that the step has made.
#[derive(Debug)]
pub(super) struct Older {
    /// When the step began, by the clock of file systems: seconds and nanoseconds.
    since: (i64, i64),
    /// Folders that lie in the root but would be mounted elsewhere: there, directories can be renamed.
    mounted: Vec<(u64, u64)>,
}

impl Older {
    /// Begins now. `mounted` are absolute paths in the root of the step, which this process has.
    pub(super) fn begin(mounted: &[PathBuf]) -> Self {
        let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        let found = mounted.iter().filter_map(|path| stat_of(path).ok());
        Older { since: (tv_sec, tv_nsec), mounted: found.map(|stat| (stat.st_dev, stat.st_ino)).collect() }
    }

    /// Returns whether `file` is a directory that would be mounted: it can not be moved at all.
    pub(super) fn is_mounted(&self, file: &Handle) -> bool {
        self.mounted.contains(&(file.stat().st_dev, file.stat().st_ino))
    }

    /// Returns whether `file` is a directory of a lower layer, so to speak. Where the file system does not know when a file
    /// was made, none is.
    pub(super) fn has(&self, root: &Root, file: &Handle) -> bool {
        file.is_dir()
            && file.stat().st_dev == root.stat().st_dev
            && self.was_made_before(root, file)
            && !way_up(file).any(|above| self.is_mounted(&above))
    }

    /// Returns whether `file`, which is in the directory `dir`, is a file of a lower layer, so to speak.
    pub(super) fn has_in(&self, root: &Root, file: &Handle, dir: &Handle) -> bool {
        file.stat().st_dev == root.stat().st_dev
            && self.was_made_before(root, file)
            && !way_up(dir).any(|above| self.is_mounted(&above))
    }

    fn was_made_before(&self, root: &Root, file: &Handle) -> bool {
        let Some((made, mount)) = birth(file) else { return false };
        // What is mounted from the same file system.
        let is_mounted = root.mount().is_some_and(|of_root| mount != Some(of_root));
        !is_mounted && made < self.since
    }
}

/// Returns when a file was made, and the number of the mount that it was found by.
fn birth(file: &Handle) -> Option<((i64, i64), Option<u64>)> {
    let wanted = StatxFlags::BTIME | StatxFlags::MNT_ID;
    let found = rustix::fs::statx(file.fd(), "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let has = |flag: StatxFlags| found.stx_mask & flag.bits() != 0;
    let made = has(StatxFlags::BTIME).then_some((found.stx_btime.tv_sec, i64::from(found.stx_btime.tv_nsec)))?;
    Some((made, has(StatxFlags::MNT_ID).then_some(found.stx_mnt_id)))
}

/// Returns the number of the mount that a file was found by, where the kernel tells it.
pub(super) fn mount_of(file: &Handle) -> Option<u64> {
    birth(file)?.1
}

/// A directory, and those above it up to the root.
fn way_up(dir: &Handle) -> impl Iterator<Item = Handle> {
    std::iter::successors(dir.again().ok(), |below| below.child(b"..").ok().filter(|above| !above.is(below)))
}

/// Returns whether `dir` is `file` or below it.
pub(super) fn is_below(dir: &Handle, file: &Handle) -> bool {
    way_up(dir).any(|above| above.is(file))
}
