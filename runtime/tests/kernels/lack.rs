//! What is not there, by the version that it came with.

use std::sync::LazyLock;

use super::Kernel;
use super::call::{Call, is_in_memory};

pub(super) const ON_NOWHERE: &str = "a mount on one that is nowhere";
pub(super) const OF_NOWHERE: &str = "a copy of a mount that is nowhere";
pub(super) const LOWERDIR_PLUS: &str = "layers one by one";
pub(super) const LANDLOCK: &str = "the Landlock of now";
pub(super) const WAIT_KILLABLE: &str = "WAIT_KILLABLE_RECV";
pub(super) const SET_FLAGS: &str = "SYNC_WAKE_UP";
pub(super) const HAND_OVER: &str = "a file that is handed over as an answer";
pub(super) const IN_MEMORY: &str = "an attribute of a file in memory";
pub(super) const OF_THREADS: &str = "a handle of a thread";
pub(super) const UNKNOWN_OPTION: &str = "an option of a mount";
pub(super) const END_OF_CALLS: &str = "the news that nobody is left to make calls";
const UNKNOWN_CALL: &str = "a call that came later";

/// What an older kernel makes of a call.
pub(super) enum Answer {
    /// It returns this.
    Returns(i64),
    /// It goes on; but where it ends in a way that is new, it does not end.
    MayNotEnd,
}

/// The first of the calls that came with a version. Their numbers are the same on all architectures.
const CALLS: &[(libc::c_long, (u32, u32))] = &[
    (444, (5, 13)),
    (447, (5, 14)),
    (448, (5, 15)),
    (449, (5, 16)),
    (450, (5, 17)),
    (451, (6, 5)),
    (452, (6, 6)),
    (454, (6, 7)),
    (457, (6, 8)),
    (462, (6, 10)),
    (463, (6, 13)),
    (467, (6, 15)),
    (468, (6, 17)),
];

/// Versions of Landlock, and how many rights on files each knows.
const LANDLOCKS: &[(i64, (u32, u32), u32)] =
    &[(1, (5, 13), 13), (2, (5, 19), 14), (3, (6, 2), 15), (4, (6, 7), 15), (5, (6, 10), 16), (6, (6, 12), 16)];

const GET_AND_SET: [libc::c_long; 9] = [
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
const BY_DESCRIPTOR: [libc::c_long; 3] = [libc::SYS_fsetxattr, libc::SYS_fgetxattr, libc::SYS_fremovexattr];

const SET_STRING: u32 = 1;
const CLONE: u32 = 1;
const VERSION: u32 = 1;
/// PIDFD_THREAD.
const THREAD: u32 = libc::O_EXCL.cast_unsigned();

/// That of the kernel which there is; none where it has no Landlock.
static REAL_LANDLOCK: LazyLock<Option<i64>> = LazyLock::new(|| {
    // SAFETY: with this flag the call takes no attributes.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    (version > 0).then_some(version)
});

impl Kernel {
    fn first_missing(&self) -> Option<libc::c_long> {
        CALLS.iter().filter(|(_, since)| self.version < *since).map(|(number, _)| *number).min()
    }

    /// Returns the calls that have to be looked at.
    fn watched(&self) -> Vec<libc::c_long> {
        let mut calls: Vec<libc::c_long> = self.refused.iter().map(|(number, _)| *number).collect();
        let mut since = |version: (u32, u32), more: &[libc::c_long]| {
            if self.version < version {
                calls.extend(more);
            }
        };
        since((6, 15), &[libc::SYS_move_mount, libc::SYS_open_tree]);
        since((6, 12), &[libc::SYS_landlock_create_ruleset]);
        since((6, 9), &[libc::SYS_pidfd_open]);
        since((6, 8), &[libc::SYS_fsconfig]);
        since((6, 6), &GET_AND_SET);
        since((5, 19), &[libc::SYS_seccomp]);
        if self.unknown.is_some() {
            calls.push(libc::SYS_mount);
        }
        calls
    }
}

/// Returns the filter that stops a process at what has to be looked at.
pub(super) fn filter(kernel: &Kernel) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const JEQ: u16 = 0x15;
    const JGE: u16 = 0x35;
    const RET: u16 = 0x06;
    /// Where in `seccomp_data` the number and the low half of the second argument are.
    const NR: u32 = 0;
    const SECOND: u32 = 24;
    let op = |code, k: u32, jt, jf| libc::sock_filter { code, jt, jf, k };
    let number = |call: libc::c_long| u32::try_from(call).expect("a small number");
    let stop = op(RET, libc::SECCOMP_RET_TRACE, 0, 0);
    let mut program = vec![op(LOAD, NR, 0, 0)];
    if let Some(first) = kernel.first_missing() {
        program.extend([op(JGE, number(first), 0, 1), stop]);
    }
    for call in kernel.watched() {
        program.extend([op(JEQ, number(call), 0, 1), stop]);
    }
    // Nothing but this is left then.
    program.extend([
        op(JEQ, number(libc::SYS_ioctl), 1, 0),
        op(RET, libc::SECCOMP_RET_ALLOW, 0, 0),
        op(LOAD, SECOND, 0, 0),
    ]);
    for (since, request) in [
        ((5, 14), libc::SECCOMP_IOCTL_NOTIF_ADDFD),
        ((6, 6), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS),
        ((6, 11), libc::SECCOMP_IOCTL_NOTIF_RECV),
    ] {
        if kernel.version < since {
            program.extend([op(JEQ, request as u32, 0, 1), stop]);
        }
    }
    program.push(op(RET, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}

/// Returns what is not there, and what `call` returns therefore; `None` where it goes on.
pub(super) fn answer(kernel: &Kernel, call: &Call) -> Option<(&'static str, Answer)> {
    let fails = |what, errno: i32| Some((what, Answer::Returns(-i64::from(errno))));
    if let Some((number, errno)) = kernel.refused.iter().find(|(number, _)| *number == call.nr) {
        return fails(name_of(*number), *errno);
    }
    if kernel.first_missing().is_some_and(|first| call.nr >= first) {
        return fails(UNKNOWN_CALL, libc::ENOSYS);
    }
    match call.nr {
        libc::SYS_move_mount if call.is_nowhere(call.path_at(2, 3)) => fails(ON_NOWHERE, libc::EINVAL),
        libc::SYS_open_tree if call.word(2) & CLONE != 0 && call.is_nowhere(call.path_at(0, 1)) => {
            fails(OF_NOWHERE, libc::EINVAL)
        }
        libc::SYS_landlock_create_ruleset => {
            landlock(kernel, call).map(|(what, result)| (what, Answer::Returns(result)))
        }
        libc::SYS_pidfd_open if call.word(1) & THREAD != 0 => fails(OF_THREADS, libc::EINVAL),
        libc::SYS_fsconfig if call.word(1) == SET_STRING && call.text(2).ends_with("dir+") => {
            fails(LOWERDIR_PLUS, libc::EINVAL)
        }
        libc::SYS_mount if kernel.unknown.is_some_and(|word| call.text(4).contains(word)) => {
            fails(UNKNOWN_OPTION, libc::EINVAL)
        }
        libc::SYS_ioctl if call.word(1) == libc::SECCOMP_IOCTL_NOTIF_RECV as u32 => {
            Some((END_OF_CALLS, Answer::MayNotEnd))
        }
        libc::SYS_ioctl if call.word(1) == libc::SECCOMP_IOCTL_NOTIF_ADDFD as u32 => fails(HAND_OVER, libc::EINVAL),
        libc::SYS_ioctl => fails(SET_FLAGS, libc::EINVAL),
        libc::SYS_seccomp if call.word(1) & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32 != 0 => {
            fails(WAIT_KILLABLE, libc::EINVAL)
        }
        number if GET_AND_SET.contains(&number) && call.text(1).starts_with("user.") => {
            let file = if BY_DESCRIPTOR.contains(&number) { call.file(0) } else { call.path(0) };
            if is_in_memory(file) { fails(IN_MEMORY, libc::EOPNOTSUPP) } else { None }
        }
        _ => None,
    }
}

/// Returns what made `call` end, where it did not end for that (Linux 6.11): who waits for a call of a process waits on when there is none
/// left.
pub(super) fn never_ends(call: &Call) -> Option<&'static str> {
    (call.result() == -i64::from(libc::ENOENT) && call.is_hung_up(0)).then_some(END_OF_CALLS)
}

/// Landlock as it was.
fn landlock(kernel: &Kernel, call: &Call) -> Option<(&'static str, i64)> {
    let real = (*REAL_LANDLOCK)?;
    let &(version, _, rights) = LANDLOCKS.iter().rfind(|(_, since, _)| *since <= kernel.version)?;
    if real <= version {
        return None;
    }
    if call.word(2) != 0 {
        let result = if call.word(2) == VERSION { version } else { -i64::from(libc::EINVAL) };
        return Some((LANDLOCK, result));
    }
    let bytes = call.bytes(0, call.args[1].min(24) as usize);
    let word =
        |n: usize| bytes.get(n * 8..n * 8 + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("8")));
    if version < 4 && word(1) != 0 || version < 6 && word(2) != 0 {
        return Some((LANDLOCK, -i64::from(libc::E2BIG)));
    }
    (word(0) >> rights != 0).then_some((LANDLOCK, -i64::from(libc::EINVAL)))
}

fn name_of(call: libc::c_long) -> &'static str {
    match call {
        libc::SYS_pivot_root => "pivot_root",
        libc::SYS_openat2 => "openat2",
        libc::SYS_clone3 => "clone3",
        libc::SYS_landlock_create_ruleset => "landlock_create_ruleset",
        _ => "another call",
    }
}
