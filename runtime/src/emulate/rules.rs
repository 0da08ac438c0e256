//! Which calls come here, and who answers them: the families of the emulator as one table.

use std::sync::OnceLock;

use libc::sock_filter;

use super::call::{Call, Reply};
use super::{Families, caps, chown, create, dirs, exec, ids, mode, open, places, remove, signal, socket, stat, xattr};
use crate::seccomp::{self, When};
use crate::sys::peer::UNSEEN;

type Handler = fn(&Call<'_>) -> Reply;

/// A call, when it comes here, and who answers it.
type Row = (libc::c_long, When, Handler);

const ALWAYS: When = When::Always;
/// RLIMIT_LOCKS.
pub(super) const LOCKS: &[u32] = &[10];

/// Calls that later kernels have; their numbers are the same on all architectures.
const SYS_FCHMODAT2: libc::c_long = 452;
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// The calls that x86-64 has besides those of all architectures.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OWNERS_ONLY_HERE: &[Row] = &[
    (libc::SYS_stat, ALWAYS, stat::stat),
    (libc::SYS_lstat, ALWAYS, stat::lstat),
    (libc::SYS_open, ALWAYS, open::open),
    (libc::SYS_access, ALWAYS, stat::access),
    (libc::SYS_creat, ALWAYS, open::creat),
    (libc::SYS_unlink, ALWAYS, remove::unlink),
    (libc::SYS_rmdir, ALWAYS, remove::unlink),
    (libc::SYS_rename, ALWAYS, remove::rename),
    (libc::SYS_renameat, ALWAYS, remove::renameat),
    (libc::SYS_link, ALWAYS, remove::link),
    (libc::SYS_mkdir, ALWAYS, create::mkdir),
    (libc::SYS_symlink, ALWAYS, create::symlink),
    (libc::SYS_mknod, ALWAYS, create::mknod),
    (libc::SYS_chmod, ALWAYS, mode::chmod),
    (libc::SYS_chown, ALWAYS, chown::chown),
    (libc::SYS_lchown, ALWAYS, chown::lchown),
    (libc::SYS_utime, ALWAYS, mode::utime),
    (libc::SYS_utimes, ALWAYS, mode::utimes),
    (libc::SYS_futimesat, ALWAYS, mode::futimesat),
    (libc::SYS_getrlimit, When::Argument(0, LOCKS), ids::getrlimit),
    (libc::SYS_setrlimit, When::Argument(0, LOCKS), ids::setrlimit),
];

#[cfg(not(target_arch = "x86_64"))]
const OWNERS_ONLY_HERE: &[Row] = &[];

/// The most frequent ones first.
#[rustfmt::skip]
const OWNERS: &[Row] = &[
    (libc::SYS_openat, ALWAYS, open::openat),
    (libc::SYS_newfstatat, ALWAYS, stat::newfstatat),
    (libc::SYS_fstat, ALWAYS, stat::fstat),
    (libc::SYS_statx, ALWAYS, stat::statx),
    (libc::SYS_getuid, ALWAYS, ids::getuid),
    (libc::SYS_geteuid, ALWAYS, ids::geteuid),
    (libc::SYS_getgid, ALWAYS, ids::getgid),
    (libc::SYS_getegid, ALWAYS, ids::getegid),
    (libc::SYS_faccessat, ALWAYS, stat::faccessat),
    (libc::SYS_faccessat2, ALWAYS, stat::faccessat2),
    (libc::SYS_execve, ALWAYS, exec::execve),
    (libc::SYS_execveat, ALWAYS, exec::execveat),
    (libc::SYS_openat2, ALWAYS, open::openat2),
    (libc::SYS_unlinkat, ALWAYS, remove::unlinkat),
    (libc::SYS_renameat2, ALWAYS, remove::renameat2),
    (libc::SYS_linkat, ALWAYS, remove::linkat),
    (libc::SYS_mkdirat, ALWAYS, create::mkdirat),
    (libc::SYS_symlinkat, ALWAYS, create::symlinkat),
    (libc::SYS_mknodat, ALWAYS, create::mknodat),
    (libc::SYS_fchmod, ALWAYS, mode::fchmod),
    (libc::SYS_fchmodat, ALWAYS, mode::fchmodat),
    (SYS_FCHMODAT2, ALWAYS, mode::fchmodat2),
    (libc::SYS_utimensat, ALWAYS, mode::utimensat),
    (libc::SYS_truncate, ALWAYS, mode::truncate),
    (libc::SYS_fchown, ALWAYS, chown::fchown),
    (libc::SYS_fchownat, ALWAYS, chown::fchownat),
    (libc::SYS_chdir, ALWAYS, dirs::chdir),
    (libc::SYS_fchdir, ALWAYS, dirs::fchdir),
    (libc::SYS_chroot, ALWAYS, dirs::chroot),
    (libc::SYS_getresuid, ALWAYS, ids::getresuid),
    (libc::SYS_getresgid, ALWAYS, ids::getresgid),
    (libc::SYS_getgroups, ALWAYS, ids::getgroups),
    (libc::SYS_setuid, ALWAYS, ids::setuid),
    (libc::SYS_setgid, ALWAYS, ids::setgid),
    (libc::SYS_setreuid, ALWAYS, ids::setreuid),
    (libc::SYS_setregid, ALWAYS, ids::setregid),
    (libc::SYS_setresuid, ALWAYS, ids::setresuid),
    (libc::SYS_setresgid, ALWAYS, ids::setresgid),
    (libc::SYS_setfsuid, ALWAYS, ids::setfsuid),
    (libc::SYS_setfsgid, ALWAYS, ids::setfsgid),
    (libc::SYS_setgroups, ALWAYS, ids::setgroups),
    (libc::SYS_umask, ALWAYS, ids::umask),
    (libc::SYS_prlimit64, When::ArgumentOrOther(1, LOCKS, 0), ids::prlimit64),
    (libc::SYS_capget, ALWAYS, caps::capget),
    (libc::SYS_capset, ALWAYS, caps::capset),
    (libc::SYS_prctl, When::Argument(0, caps::OPTIONS), caps::prctl),
    (libc::SYS_getxattr, ALWAYS, xattr::getxattr),
    (libc::SYS_lgetxattr, ALWAYS, xattr::lgetxattr),
    (libc::SYS_fgetxattr, ALWAYS, xattr::fgetxattr),
    (SYS_GETXATTRAT, ALWAYS, xattr::getxattrat),
    (libc::SYS_listxattr, ALWAYS, xattr::listxattr),
    (libc::SYS_llistxattr, ALWAYS, xattr::llistxattr),
    (libc::SYS_flistxattr, ALWAYS, xattr::flistxattr),
    (SYS_LISTXATTRAT, ALWAYS, xattr::listxattrat),
    (libc::SYS_setxattr, ALWAYS, xattr::setxattr),
    (libc::SYS_lsetxattr, ALWAYS, xattr::lsetxattr),
    (libc::SYS_fsetxattr, ALWAYS, xattr::fsetxattr),
    (SYS_SETXATTRAT, ALWAYS, xattr::setxattrat),
    (libc::SYS_removexattr, ALWAYS, xattr::removexattr),
    (libc::SYS_lremovexattr, ALWAYS, xattr::lremovexattr),
    (libc::SYS_fremovexattr, ALWAYS, xattr::fremovexattr),
    (SYS_REMOVEXATTRAT, ALWAYS, xattr::removexattrat),
    (libc::SYS_bind, ALWAYS, socket::bind),
    (libc::SYS_connect, ALWAYS, socket::connect),
    (libc::SYS_getsockopt, When::Argument(2, socket::OPTIONS), socket::getsockopt),
    (libc::SYS_sendto, When::Unless(4, 0), socket::sendto),
    (libc::SYS_sendmsg, ALWAYS, socket::sendmsg),
    (libc::SYS_sendmmsg, When::Unless(3, UNSEEN), socket::sendmmsg),
    (libc::SYS_kill, ALWAYS, signal::kill),
    (libc::SYS_tkill, ALWAYS, signal::of_first),
    (libc::SYS_tgkill, ALWAYS, signal::of_second),
    (libc::SYS_rt_sigqueueinfo, ALWAYS, signal::of_first),
    (libc::SYS_rt_tgsigqueueinfo, ALWAYS, signal::of_second),
    (libc::SYS_pidfd_send_signal, ALWAYS, signal::by_pidfd),
];

/// Devices alone, which the kernel refuses in every user namespace; and the attribute by which a file stands for one, which a step
/// does not set.
const DEVICES: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, When::Device(1), create::mknod),
    (libc::SYS_mknodat, When::Device(2), create::mknodat),
    (libc::SYS_setxattr, ALWAYS, xattr::setxattr),
    (libc::SYS_lsetxattr, ALWAYS, xattr::lsetxattr),
    (libc::SYS_fsetxattr, ALWAYS, xattr::fsetxattr),
    (SYS_SETXATTRAT, ALWAYS, xattr::setxattrat),
];

/// Besides those of owners: what else may lead to files and processes outside.
const PLACES: &[Row] = &[
    (libc::SYS_pidfd_open, ALWAYS, signal::pidfd_open),
    (libc::SYS_fcntl, When::Argument(1, signal::SET_OWNER), signal::fcntl),
    (libc::SYS_ioctl, When::Argument(1, signal::REFUSED_REQUESTS), signal::ioctl),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, ALWAYS, places::readlink),
    (libc::SYS_readlinkat, ALWAYS, places::readlinkat),
];

/// Where files stand for devices from the beginning.
const LISTS: &[Row] = &[(libc::SYS_getdents64, ALWAYS, dirs::getdents64)];

/// Where the root is no overlay: what would be refused there.
const TREE: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, ALWAYS, remove::rename_in_tree),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, ALWAYS, remove::renameat_in_tree),
    (libc::SYS_renameat2, ALWAYS, remove::renameat2_in_tree),
];

fn rows(families: Families) -> impl Iterator<Item = &'static Row> {
    let owners: [&[Row]; 2] = match families {
        Families { owners: true, .. } => [OWNERS, OWNERS_ONLY_HERE],
        Families { tree, .. } => [DEVICES, if tree { TREE } else { &[] }],
    };
    let places: &[Row] = if families.places { PLACES } else { &[] };
    let lists: &[Row] = if families.lists { LISTS } else { &[] };
    owners.into_iter().chain([places, lists]).flatten()
}

/// Returns the filter of a step that has these families: what they answer, and what is denied in any case. It is made once, also for the
/// copies that this process makes of itself afterwards.
pub(crate) fn filter(families: Families) -> &'static [sock_filter] {
    static MADE: [OnceLock<Vec<sock_filter>>; 16] = [const { OnceLock::new() }; 16];
    let Families { owners, places, tree, lists } = families;
    let number = [owners, places, tree, lists].iter().fold(0, |number, one| number << 1 | usize::from(*one));
    MADE[number].get_or_init(|| {
        let watched: Vec<_> = rows(families).map(|(nr, when, _)| (*nr, *when)).collect();
        let foreign = if owners { seccomp::Foreign::Absent } else { seccomp::Foreign::Allowed };
        seccomp::filter(&watched, foreign)
    })
}

/// Returns whether a call is always answered within microseconds.
pub(super) fn is_quick(nr: libc::c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if matches!(nr, libc::SYS_stat | libc::SYS_lstat | libc::SYS_access) {
        return true;
    }
    matches!(
        nr,
        libc::SYS_newfstatat
            | libc::SYS_fstat
            | libc::SYS_statx
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_getuid
            | libc::SYS_geteuid
            | libc::SYS_getgid
            | libc::SYS_getegid
    )
}

/// The handlers by the numbers of their calls.
#[derive(Debug)]
pub(super) struct Table(Vec<Option<Handler>>);

impl Table {
    pub(super) fn new(families: Families) -> Self {
        let mut table = vec![None; 512];
        for (nr, _, handler) in rows(families) {
            if let Some(place) = usize::try_from(*nr).ok().and_then(|nr| table.get_mut(nr)) {
                *place = Some(*handler);
            }
        }
        Table(table)
    }

    pub(super) fn handler(&self, nr: libc::c_long) -> Option<Handler> {
        usize::try_from(nr).ok().and_then(|nr| *self.0.get(nr)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_there_once_and_has_its_handler() {
        for (owners, places, tree) in
            [(true, false, false), (false, false, false), (true, true, true), (false, false, true), (true, false, true)]
        {
            let families = Families { owners, places, tree, lists: owners };
            let mut numbers: Vec<_> = rows(families).map(|(nr, ..)| *nr).collect();
            let table = Table::new(families);
            assert!(numbers.iter().all(|nr| table.handler(*nr).is_some()));
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
            assert!(table.handler(-1).is_none() && table.handler(libc::SYS_read).is_none());
        }
    }
}
