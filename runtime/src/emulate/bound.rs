//! Files of sockets that the kernel makes itself, where this process can not take hold of the socket: Docker's profile refuses
//! pidfd_getfd(2). Whom such a file belongs to is known before it is there, and written down as soon as it is.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType};
use rustix::process::Pid;

use super::create::Place;
use super::owners::Owners;
use crate::error::Errno;
use crate::owner::FileOwner;

/// Files that are waited for at the most. Each call of the process that makes one ends the waiting.
const MOST: usize = 256;

/// Files that are about to be made.
#[derive(Debug, Default)]
pub(super) struct Bound {
    waiting: Mutex<Vec<Waiting>>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Waiting {
    /// The thread that makes it.
    pid: Pid,
    dir: OwnedFd,
    name: Vec<u8>,
    owner: FileOwner,
}

impl Bound {
    /// Returns whether there is a file that has not been seen yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Waits for the file that `pid` makes at `place`.
    pub(super) fn expect(&self, pid: Pid, place: &Place, owner: FileOwner) -> Result<(), Errno> {
        let dir = place.dir.fd().try_clone_to_owned()?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MOST {
            waiting.remove(0);
        }
        waiting.push(Waiting { pid, dir, name: place.name.clone(), owner });
        self.count.store(waiting.len(), Ordering::Release);
        Ok(())
    }

    /// Writes down the owners of those that are there, before `pid` is answered: it waits for none any more.
    pub(super) fn settle(&self, pid: Pid, owners: &Owners) {
        if !self.is_waiting() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|Waiting { pid: maker, dir, name, owner }| {
            let found = rustix::fs::statat(dir, &**name, AtFlags::SYMLINK_NOFOLLOW);
            match found.ok().filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket) {
                Some(stat) => {
                    // Where there is no space for it, it is root's.
                    let _ = owners.put(&stat, *owner);
                    false
                }
                None => *maker != pid,
            }
        });
        self.count.store(waiting.len(), Ordering::Release);
    }
}
