//! Names of one link, or one fifo. Overlayfs copies up the name through which a file of a lower layer is changed, and the other
//! names keep the old one. Where the root is no overlay, such a name gets a file of its own here, before it is changed.
//! (Files with contents are told apart when the step is over: only these have nothing but an owner to show.)

use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use super::call::Call;
use super::owners::carries;
use super::resolve::{Handle, split};
use crate::error::Errno;

/// The name of a file until it takes its place. No other process is at work in the name of this one meanwhile.
const NEW: &str = ".coracle-apart";

impl Call<'_> {
    /// Returns the file to change in the place of `file`: itself, or a new one that has its name.
    pub(super) fn apart(&self, file: Rc<Handle>) -> Result<Rc<Handle>, Errno> {
        let Some(older) = &self.emulator.older else { return Ok(file) };
        let stat = file.stat();
        if carries(stat) || stat.st_nlink < 2 {
            return Ok(file);
        }
        let path = rustix::fs::readlink(file.name(), Vec::new())?.into_bytes();
        let Some((parent, name, _)) = split(&path) else { return Ok(file) };
        let Ok(dir) = Handle::open(parent, CWD, OFlags::DIRECTORY) else { return Ok(file) };
        let is_it = dir.child(name).is_ok_and(|found| found.is(&file));
        if !is_it || !older.has_in(&self.emulator.root, &file, &dir) {
            return Ok(file);
        }
        self.still_waits()?;
        let _ = rustix::fs::unlinkat(dir.fd(), NEW, AtFlags::empty());
        match file.kind() {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(file.fd(), "", Vec::new())?;
                rustix::fs::symlinkat(&*target, dir.fd(), NEW)?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(dir.fd(), NEW, FileType::Fifo, mode, 0)?;
            }
            _ => return Ok(file),
        }
        rustix::fs::utimensat(dir.fd(), NEW, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        self.emulator.owners.set(&dir.child(NEW.as_bytes())?, self.emulator.owners.of(&file))?;
        rustix::fs::renameat(dir.fd(), NEW, dir.fd(), name)?;
        // A copy-up does not show in the folder.
        rustix::fs::utimensat(CWD, dir.name(), &times(dir.stat()), AtFlags::empty())?;
        dir.child(name).map(Rc::new)
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, nanos: u64| Timespec { tv_sec, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
