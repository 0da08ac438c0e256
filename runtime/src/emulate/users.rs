//! Who each process is. The same credentials are kept once; what a process carries is their number, in its soft limit of
//! file locks (RLIMIT_LOCKS): Linux has ignored that since 2.4, and hands it on with fork and execve. So there is no table
//! of processes, and nothing to go stale.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::process::Pid;

use super::credentials::Credentials;
use crate::error::Errno;
use crate::sys::peer;

/// Different credentials in one step at the most.
pub(super) const MOST: usize = 1 << 16;

/// Groups in all of those together at the most: 16 MiB. They are kept for ever, in memory that counts for no step.
const MOST_GROUPS: usize = 1 << 22;

/// The credentials that there were since the start.
#[derive(Debug)]
pub(super) struct Users {
    first: Arc<Credentials>,
    known: RwLock<Known>,
    /// Whether nobody has become anybody else yet, so that no process need be asked.
    all_are_first: AtomicBool,
}

#[derive(Debug)]
struct Known {
    list: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, usize>,
    groups: usize,
}

impl Users {
    /// Returns a table in which `first` has the number 0.
    pub(super) fn new(first: Credentials) -> Self {
        let first = Arc::new(first);
        let known = Known {
            list: vec![first.clone()],
            numbers: HashMap::from([(first.clone(), 0)]),
            groups: first.groups.len(),
        };
        Users { first, known: RwLock::new(known), all_are_first: AtomicBool::new(true) }
    }

    /// Returns who the command was at the start.
    pub(super) fn first(&self) -> &Credentials {
        &self.first
    }

    /// Returns who the process of a thread is.
    pub(super) fn of(&self, pid: Pid) -> Result<Arc<Credentials>, Errno> {
        if self.all_are_first.load(Ordering::Acquire) {
            return Ok(self.first.clone());
        }
        let (number, _) = peer::locks_limit(pid)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // A process has no other number: what it sets itself is swallowed.
        let found = usize::try_from(number).ok().and_then(|at| known.list.get(at)).unwrap_or(&self.first);
        Ok(found.clone())
    }

    /// Returns the number of `user`. EAGAIN: there are too many. ENOMEM: all in all they have too many groups.
    pub(super) fn number(&self, user: Credentials) -> Result<u64, Errno> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&user) {
            return Ok(*number as u64);
        }
        if known.list.len() >= MOST {
            return Err(Errno::from_raw(libc::EAGAIN));
        }
        if known.groups + user.groups.len() > MOST_GROUPS {
            return Err(Errno::from_raw(libc::ENOMEM));
        }
        known.groups += user.groups.len();
        let (user, number) = (Arc::new(user), known.list.len());
        known.list.push(user.clone());
        // Before any process has the number.
        self.all_are_first.store(false, Ordering::Release);
        known.numbers.insert(user, number);
        Ok(number as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_credentials_have_the_same_number() {
        let user = |uid| Credentials::new(uid, 0, &[], 0);
        let users = Users::new(user(0));
        let numbers: Vec<_> = [0, 7, 8, 7].map(|uid| users.number(user(uid)).expect("has room")).into();
        assert_eq!(numbers, [0, 1, 2, 1]);
    }

    #[test]
    fn groups_are_kept_to_a_limit() {
        let user = |first: u32| Credentials::new(0, 0, &(first..first + 65_536).collect::<Vec<_>>(), 0);
        let users = Users::new(Credentials::new(0, 0, &[], 0));
        let kept = (1..100).take_while(|first| users.number(user(*first)).is_ok()).count();
        assert_eq!(kept, MOST_GROUPS / 65_536);
        assert!(users.number(user(100)).is_err_and(|errno| errno.raw() == libc::ENOMEM));
        assert_eq!(users.number(user(7)).expect("is known"), 7);
        assert!(users.number(Credentials::new(7, 7, &[], 0)).is_ok(), "one without groups");
    }
}
