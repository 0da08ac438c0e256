//! The filter of system calls in front of every step. It closes what capabilities leave open to root of a user
//! namespace: new namespaces, mounts, keys, and subsystems with a large surface. Calls that the emulator answers go to its
//! listener. Everything else is allowed.
//!
//! The numbers of the second architecture (32-bit programs) are written out here: the C library knows only its own.

use libc::sock_filter;

/// What a system call is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// EPERM.
    Deny,
    /// ENOSYS: the caller has another way, and takes it.
    Absent,
    /// EPERM where the first argument has one of the flags of a new namespace. The mask.
    DenyFlags(u32),
    /// EPERM where the second argument is one of the two ways to type into a terminal.
    DenyTyping,
}

/// Flags of clone(2) and unshare(2): mount, cgroup, uts, ipc, user, pid, network.
const NAMESPACES: u32 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;
/// CLONE_NEWTIME: a flag for unshare only, for clone it lies in the exit signal.
const NEWTIME: u32 = 0x80;

pub(crate) const TIOCSTI: u32 = 0x5412;
pub(crate) const TIOCLINUX: u32 = 0x541C;

const ARCH_X86_64: u32 = 0xC000_003E;
const ARCH_I386: u32 = 0x4000_0003;
const ARCH_AARCH64: u32 = 0xC000_00B7;
const ARCH_ARM: u32 = 0x4000_0028;
/// The bit of x32 calls on x86-64.
const X32: u32 = 0x4000_0000;

/// Not there on this architecture.
const NONE: u32 = u32::MAX;

/// When a call goes to the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Where the low half of an argument is one of these numbers.
    Argument(u32, &'static [u32]),
    /// Where the low half of an argument is not this number.
    Unless(u32, u32),
    /// Where the low half of an argument is one of these numbers, or that of another one is not 0.
    ArgumentOrOther(u32, &'static [u32], u32),
    /// Where an argument is the mode of a device, as mknod(2) has it.
    Device(u32),
}

/// What happens to calls of the second architecture, which no listener looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// They are denied what others are denied.
    Allowed,
    /// There are none.
    Absent,
}

/// Number of a call on x86-64, i386, aarch64, arm, and what it is answered with.
type Row = ([u32; 4], Action);

#[rustfmt::skip]
const CALLS: &[Row] = &[
    ([165, 21, 40, 21], Action::Deny),                          // mount
    ([NONE, 22, NONE, NONE], Action::Deny),                     // umount
    ([166, 52, 39, 52], Action::Deny),                          // umount2
    ([155, 217, 41, 218], Action::Deny),                        // pivot_root
    ([428, 428, 428, 428], Action::Deny),                       // open_tree
    ([429, 429, 429, 429], Action::Deny),                       // move_mount
    ([430, 430, 430, 430], Action::Deny),                       // fsopen
    ([431, 431, 431, 431], Action::Deny),                       // fsconfig
    ([432, 432, 432, 432], Action::Deny),                       // fsmount
    ([433, 433, 433, 433], Action::Deny),                       // fspick
    ([442, 442, 442, 442], Action::Deny),                       // mount_setattr
    ([467, 467, 467, 467], Action::Deny),                       // open_tree_attr
    ([272, 310, 97, 337], Action::DenyFlags(NAMESPACES | NEWTIME)), // unshare
    ([56, 120, 220, 120], Action::DenyFlags(NAMESPACES)),       // clone
    // Its flags lie in memory, where a filter can not look; libraries fall back to clone.
    ([435, 435, 435, 435], Action::Absent),                     // clone3
    ([308, 346, 268, 375], Action::Deny),                       // setns
    ([248, 286, 217, 309], Action::Deny),                       // add_key
    ([249, 287, 218, 310], Action::Deny),                       // request_key
    ([250, 288, 219, 311], Action::Deny),                       // keyctl
    ([321, 357, 280, 386], Action::Deny),                       // bpf
    ([323, 374, 282, 388], Action::Deny),                       // userfaultfd
    ([425, 425, 425, 425], Action::Absent),                     // io_uring_setup
    ([426, 426, 426, 426], Action::Absent),                     // io_uring_enter
    ([427, 427, 427, 427], Action::Absent),                     // io_uring_register
    ([304, 342, 265, 371], Action::Deny),                       // open_by_handle_at
    ([298, 336, 241, 364], Action::Deny),                       // perf_event_open
    ([246, 283, 104, 347], Action::Deny),                       // kexec_load
    ([320, NONE, 294, 401], Action::Deny),                      // kexec_file_load
    ([174, 127, NONE, NONE], Action::Deny),                     // create_module
    ([175, 128, 105, 128], Action::Deny),                       // init_module
    ([313, 350, 273, 379], Action::Deny),                       // finit_module
    ([176, 129, 106, 129], Action::Deny),                       // delete_module
    ([169, 88, 142, 88], Action::Deny),                         // reboot
    ([167, 87, 224, 87], Action::Deny),                         // swapon
    ([168, 115, 225, 115], Action::Deny),                       // swapoff
    ([163, 51, 89, 51], Action::Deny),                          // acct
    ([179, 131, 60, 131], Action::Deny),                        // quotactl
    ([443, 443, 443, 443], Action::Deny),                       // quotactl_fd
    ([16, 54, 29, 54], Action::DenyTyping),                     // ioctl
];

/// Offsets in `seccomp_data`; the low half of an argument, on these little-endian machines.
const NR: u32 = 0;
const ARCH: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JGE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JGT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JSET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RET: u16 = 0x06; // BPF_RET | BPF_K
const JA: u16 = 0x05; // BPF_JMP | BPF_JA
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const EPERM: u32 = 0x0005_0000 | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

fn op(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Returns the filter for the machine that this is built for. The calls in `watched` go to the listener.
pub(crate) fn filter(watched: &[(libc::c_long, When)], foreign: Foreign) -> Vec<sock_filter> {
    // Column in the table for each architecture that the kernel may run here.
    let arches: &[(u32, usize)] = if cfg!(target_arch = "aarch64") {
        &[(ARCH_AARCH64, 2), (ARCH_ARM, 3)]
    } else {
        &[(ARCH_X86_64, 0), (ARCH_I386, 1)]
    };
    let mut program = vec![op(LOAD, ARCH, 0, 0)];
    for (&(arch, column), watched) in arches.iter().zip([watched, &[]]) {
        let calls = match (column % 2, foreign) {
            (1, Foreign::Absent) => vec![op(RET, ENOSYS, 0, 0)],
            _ => calls(arch, column, watched),
        };
        // A conditional jump reaches 255 instructions, this one all of them.
        program.push(op(JEQ, arch, 1, 0));
        program.push(op(JA, u32::try_from(calls.len()).unwrap_or(u32::MAX), 0, 0));
        program.extend(calls);
    }
    // An architecture that is not known here.
    program.push(op(RET, ENOSYS, 0, 0));
    program
}

fn calls(arch: u32, column: usize, watched: &[(libc::c_long, When)]) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, NR, 0, 0)];
    if arch == ARCH_X86_64 {
        program.extend([op(JSET, X32, 0, 1), op(RET, ENOSYS, 0, 0)]);
    }
    let number_of = |number: libc::c_long| u32::try_from(number).unwrap_or(NONE);
    let mut answers: Vec<_> = watched.iter().map(|(number, when)| (number_of(*number), watch(*when))).collect();
    for (numbers, action) in CALLS {
        let answer = match *action {
            Action::Deny => vec![op(RET, EPERM, 0, 0)],
            Action::Absent => vec![op(RET, ENOSYS, 0, 0)],
            Action::DenyFlags(mask) => {
                vec![op(LOAD, argument(0), 0, 0), op(JSET, mask, 0, 1), op(RET, EPERM, 0, 0), op(RET, ALLOW, 0, 0)]
            }
            Action::DenyTyping => vec![
                op(LOAD, argument(1), 0, 0),
                op(JEQ, TIOCSTI, 1, 0),
                op(JEQ, TIOCLINUX, 0, 1),
                op(RET, EPERM, 0, 0),
                op(RET, ALLOW, 0, 0),
            ],
        };
        answers.push((numbers[column], answer));
    }
    answers.retain(|(number, _)| *number != NONE);
    // Of two for one number the first counts.
    answers.sort_by_key(|(number, _)| *number);
    answers.dedup_by_key(|(number, _)| *number);
    let mut ranges: Vec<Range> = Vec::with_capacity(answers.len());
    for (number, answer) in answers {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == number && range.answer == answer => range.last = number,
            _ => ranges.push(Range { first: number, last: number, answer }),
        }
    }
    program.extend(search(&ranges));
    program
}

/// Numbers with one answer.
struct Range {
    first: u32,
    last: u32,
    /// Instructions that come to an end.
    answer: Vec<sock_filter>,
}

/// Returns the search for a number among `ranges`, which are sorted; what is not there is allowed. When a filter is put in place, the
/// kernel runs it for each number that there is, and translates it: so the search is by halves, and short. That each step costs.
fn search(ranges: &[Range]) -> Vec<sock_filter> {
    const FEW: usize = 6;
    if ranges.len() <= FEW {
        return few(ranges);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (pivot, low) = (high[0].first, search(low));
    let over = u32::try_from(low.len()).unwrap_or(u32::MAX);
    // A conditional jump reaches 255 instructions, the other one all of them.
    let jump = match u8::try_from(over) {
        Ok(over) => vec![op(JGE, pivot, over, 0)],
        Err(_) => vec![op(JGE, pivot, 0, 1), op(JA, over, 0, 0)],
    };
    [jump, low, search(high)].concat()
}

/// As [`search`], one look after the other, and then the answers: none of them twice.
fn few(ranges: &[Range]) -> Vec<sock_filter> {
    let looks: usize = ranges.iter().map(|range| if range.first == range.last { 1 } else { 2 }).sum();
    let mut answers = vec![op(RET, ALLOW, 0, 0)];
    let mut places: Vec<(&[sock_filter], usize)> = Vec::new();
    let mut program = Vec::with_capacity(looks);
    for Range { first, last, answer } in ranges {
        let known = places.iter().find(|(same, _)| same == answer).map(|(_, place)| *place);
        let place = known.unwrap_or_else(|| {
            places.push((answer, answers.len()));
            answers.extend(answer);
            places[places.len() - 1].1
        });
        let is_range = first != last;
        // Over the looks that follow, to the place among the answers.
        let over = looks - program.len() - 1 - usize::from(is_range) + place;
        let over = u8::try_from(over).expect("a few looks and answers of a few instructions");
        if is_range {
            program.extend([op(JGE, *first, 0, 1), op(JGT, *last, 0, over)]);
        } else {
            program.push(op(JEQ, *first, over, 0));
        }
    }
    program.extend(answers);
    program
}

/// Returns what a watched call is answered with.
fn watch(when: When) -> Vec<sock_filter> {
    let (load, values): (&[sock_filter], Vec<u32>) = match when {
        When::Always => return vec![op(RET, NOTIFY, 0, 0)],
        When::Unless(n, value) => {
            return vec![
                op(LOAD, argument(n), 0, 0),
                op(JEQ, value, 0, 1),
                op(RET, ALLOW, 0, 0),
                op(RET, NOTIFY, 0, 0),
            ];
        }
        When::ArgumentOrOther(n, values, other) => {
            let mut body = vec![op(LOAD, argument(n), 0, 0)];
            // Over the values that follow, and the look at the other one.
            let over = |at: usize| u8::try_from(values.len() - at + 2).unwrap_or(u8::MAX);
            body.extend(values.iter().enumerate().map(|(at, value)| op(JEQ, *value, over(at), 0)));
            body.extend([
                op(LOAD, argument(other), 0, 0),
                op(JEQ, 0, 0, 1),
                op(RET, ALLOW, 0, 0),
                op(RET, NOTIFY, 0, 0),
            ]);
            return body;
        }
        When::Argument(n, values) => (&[op(LOAD, argument(n), 0, 0)], values.to_vec()),
        When::Device(n) => {
            (&[op(LOAD, argument(n), 0, 0), op(AND, libc::S_IFMT, 0, 0)], vec![libc::S_IFCHR, libc::S_IFBLK])
        }
    };
    let mut body = load.to_vec();
    for (at, value) in values.iter().enumerate() {
        // Over the values that follow, and what is returned without any.
        let over = u8::try_from(values.len() - at).unwrap_or(u8::MAX);
        body.push(op(JEQ, *value, over, 0));
    }
    body.extend([op(RET, ALLOW, 0, 0), op(RET, NOTIFY, 0, 0)]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the few instructions that the filter is made of, interpreted.
    fn answer(program: &[sock_filter], arch: u32, nr: u32, arguments: [u32; 2]) -> u32 {
        let mut value = 0;
        let mut at = 0;
        loop {
            let op = &program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { op.jt } else { op.jf });
            match op.code {
                LOAD => {
                    value = match op.k {
                        NR => nr,
                        ARCH => arch,
                        16 => arguments[0],
                        24 => arguments[1],
                        other => panic!("loads {other}"),
                    }
                }
                JEQ => at += jump(value == op.k),
                JGE => at += jump(value >= op.k),
                JGT => at += jump(value > op.k),
                JSET => at += jump(value & op.k != 0),
                JA => at += op.k as usize,
                AND => value &= op.k,
                RET => return op.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_denied_and_what_is_not() {
        let filter = filter(&[], Foreign::Allowed);
        let native =
            |nr: libc::c_long, arguments| answer(&filter, ARCH_X86_64, u32::try_from(nr).expect("small"), arguments);
        for nr in [libc::SYS_mount, libc::SYS_keyctl, libc::SYS_bpf, libc::SYS_setns, libc::SYS_open_by_handle_at] {
            assert_eq!(native(nr, [0, 0]), EPERM, "{nr}");
        }
        for nr in [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_register] {
            assert_eq!(native(nr, [0, 0]), ENOSYS, "{nr}");
        }
        for nr in [libc::SYS_read, libc::SYS_ptrace, libc::SYS_chroot, libc::SYS_mknod, libc::SYS_execve] {
            assert_eq!(native(nr, [0, 0]), ALLOW, "{nr}");
        }
        let flags = |flags: i32| [flags.cast_unsigned(), 0];
        assert_eq!(native(libc::SYS_unshare, flags(libc::CLONE_FS)), ALLOW);
        assert_eq!(native(libc::SYS_unshare, flags(libc::CLONE_NEWUSER)), EPERM);
        assert_eq!(native(libc::SYS_unshare, flags(libc::CLONE_NEWTIME)), EPERM);
        assert_eq!(native(libc::SYS_clone, flags(libc::SIGCHLD)), ALLOW);
        assert_eq!(native(libc::SYS_clone, flags(libc::SIGCHLD | libc::CLONE_NEWNS)), EPERM);
        assert_eq!(native(libc::SYS_ioctl, [0, TIOCSTI]), EPERM);
        assert_eq!(native(libc::SYS_ioctl, [0, TIOCLINUX]), EPERM);
        assert_eq!(native(libc::SYS_ioctl, [0, 0x5401]), ALLOW);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_other_ways_into_the_kernel_are_watched_too() {
        let filter = filter(&[], Foreign::Allowed);
        assert_eq!(answer(&filter, ARCH_I386, 21, [0, 0]), EPERM, "mount of a 32-bit program");
        assert_eq!(answer(&filter, ARCH_I386, 165, [0, 0]), ALLOW, "its getresuid, which is mount elsewhere");
        assert_eq!(answer(&filter, ARCH_I386, 310, [0x1000_0000, 0]), EPERM, "its unshare");
        assert_eq!(answer(&filter, ARCH_X86_64, X32 | 165, [0, 0]), ENOSYS, "x32");
        assert_eq!(answer(&filter, ARCH_AARCH64, 0, [0, 0]), ENOSYS, "an architecture that is not ours");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn watched_calls_go_to_the_listener_and_no_other_way_leads_around_it() {
        let watched = [
            (libc::SYS_stat, When::Always),
            (libc::SYS_prctl, When::Argument(1, &[7, 8, 47])),
            (libc::SYS_mknod, When::Device(1)),
            (libc::SYS_sendto, When::Unless(1, 0)),
            (libc::SYS_prlimit64, When::ArgumentOrOther(1, &[10, 11], 0)),
        ];
        let filter = filter(&watched, Foreign::Absent);
        let native =
            |nr: libc::c_long, second| answer(&filter, ARCH_X86_64, u32::try_from(nr).expect("small"), [0, second]);
        assert_eq!(native(libc::SYS_stat, 0), NOTIFY);
        for (option, expected) in [(7, NOTIFY), (8, NOTIFY), (47, NOTIFY), (9, ALLOW), (0, ALLOW)] {
            assert_eq!(native(libc::SYS_prctl, option), expected, "{option}");
        }
        for (mode, expected) in [(0o020_666, NOTIFY), (0o060_000, NOTIFY), (0o010_666, ALLOW), (0o666, ALLOW)] {
            assert_eq!(native(libc::SYS_mknod, mode), expected, "{mode:o}");
        }
        assert_eq!((native(libc::SYS_sendto, 0), native(libc::SYS_sendto, 1)), (ALLOW, NOTIFY));
        for (arguments, expected) in [([0, 10], NOTIFY), ([0, 11], NOTIFY), ([0, 9], ALLOW), ([7, 9], NOTIFY)] {
            assert_eq!(answer(&filter, ARCH_X86_64, 302, arguments), expected, "{arguments:?}");
        }
        assert_eq!(native(libc::SYS_mount, 0), EPERM);
        assert_eq!(native(libc::SYS_read, 0), ALLOW);
        for nr in [1, 5, 106, 165] {
            assert_eq!(answer(&filter, ARCH_I386, nr, [0, 0]), ENOSYS, "32-bit {nr}");
        }
        assert_eq!(answer(&filter, ARCH_X86_64, X32 | 4, [0, 0]), ENOSYS);
    }

    #[test]
    fn every_number_has_its_own_answer_and_neighbours_have_theirs() {
        for (arch, column) in [(ARCH_X86_64, 0), (ARCH_I386, 1), (ARCH_AARCH64, 2), (ARCH_ARM, 3)] {
            let program = calls(arch, column, &[]);
            for nr in 0..600 {
                let expected = match CALLS.iter().find(|(numbers, _)| numbers[column] == nr) {
                    Some((_, Action::Deny)) => EPERM,
                    Some((_, Action::Absent)) => ENOSYS,
                    _ => ALLOW,
                };
                assert_eq!(answer(&program, arch, nr, [0, 0]), expected, "{arch:#x} {nr}");
            }
        }
        let watched: Vec<_> =
            (0..300).map(|nr| (nr, if nr % 3 == 0 { When::Always } else { When::Argument(1, &[7]) })).collect();
        let program = calls(ARCH_AARCH64, 2, &watched);
        for nr in 0..300 {
            let expected = if nr % 3 == 0 { NOTIFY } else { ALLOW };
            assert_eq!(answer(&program, ARCH_AARCH64, nr, [0, 0]), expected, "{nr}");
            assert_eq!(answer(&program, ARCH_AARCH64, nr, [0, 7]), NOTIFY, "{nr}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_table_agrees_with_the_c_library() {
        let ours: Vec<u32> = CALLS.iter().map(|(numbers, _)| numbers[0]).filter(|nr| *nr != NONE).collect();
        #[rustfmt::skip]
        let theirs = [
            libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_open_tree, libc::SYS_move_mount,
            libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, 467,
            libc::SYS_unshare, libc::SYS_clone, libc::SYS_clone3, libc::SYS_setns, libc::SYS_add_key,
            libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_bpf, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open, libc::SYS_kexec_load, libc::SYS_kexec_file_load, 174, libc::SYS_init_module,
            libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff,
            libc::SYS_acct, libc::SYS_quotactl, 443, libc::SYS_ioctl,
        ];
        assert_eq!(ours, theirs.map(|nr| u32::try_from(nr).expect("small")));
    }
}
