//! Capabilities: capget, capset, and what prctl has of them. Those that a process really has never change.

use rustix::io::Errno as E;

use super::call::{Answer, Call, Reply};
use super::credentials::{Cap, Credentials, KEEP_CAPS};
use super::proc::own_number;
use crate::error::Errno;

/// Versions of the structures, and how many sets of 32 bits they hold.
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];

const PR_GET_KEEPCAPS: u32 = 7;
const PR_SET_KEEPCAPS: u32 = 8;
const PR_SET_DUMPABLE: u32 = 4;
const PR_CAPBSET_READ: u32 = 23;
const PR_CAPBSET_DROP: u32 = 24;
const PR_GET_SECUREBITS: u32 = 27;
const PR_SET_SECUREBITS: u32 = 28;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
const PR_GET_NO_NEW_PRIVS: u32 = 39;
const PR_CAP_AMBIENT: u32 = 47;
const PR_CAP_AMBIENT_IS_SET: u64 = 1;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_LOWER: u64 = 3;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;

/// The options of prctl that are looked at.
pub(super) const OPTIONS: &[u32] = &[
    PR_GET_KEEPCAPS,
    PR_SET_KEEPCAPS,
    PR_SET_DUMPABLE,
    PR_CAPBSET_READ,
    PR_CAPBSET_DROP,
    PR_GET_SECUREBITS,
    PR_SET_SECUREBITS,
    PR_SET_NO_NEW_PRIVS,
    PR_GET_NO_NEW_PRIVS,
    PR_CAP_AMBIENT,
];

/// Reads the header. Returns how many words a set has, and the process; `None` where the kernel has to answer.
fn header(call: &Call<'_>) -> Result<Option<(usize, i32)>, Errno> {
    let mut bytes = [0; 8];
    call.read(call.long(0), &mut bytes)?;
    let [version, pid] = words(&bytes);
    let known = VERSIONS.iter().find(|(number, _)| *number == version);
    Ok(known.map(|(_, count)| (*count, pid.cast_signed())))
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (chunks, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|at| chunks.get(at).map_or(0, |word| u32::from_ne_bytes(*word)))
}

pub(super) fn capget(call: &Call<'_>) -> Reply {
    let Some((count, pid)) = header(call)? else { return Ok(Answer::Continue) };
    if call.long(1) == 0 || pid < 0 {
        return Ok(Answer::Continue);
    }
    let asked = if pid == 0 { Some(call.pid()) } else { call.emulator.proc.process(call, pid) };
    let caps = call.emulator.users.of(asked.ok_or(E::SRCH)?)?.caps;
    let word = |set: u64, at: usize| ((set >> (32 * at)) & 0xffff_ffff) as u32;
    let bytes: Vec<u8> = (0..count)
        .flat_map(|at| [caps.effective, caps.permitted, caps.inheritable].map(|set| word(set, at)))
        .flat_map(u32::to_ne_bytes)
        .collect();
    call.write(call.long(1), &bytes)?;
    Ok(Answer::Value(0))
}

pub(super) fn capset(call: &Call<'_>) -> Reply {
    let Some((count, pid)) = header(call)? else { return Ok(Answer::Continue) };
    if pid != 0 && !is_caller(call, pid)? {
        return Err(E::PERM.into());
    }
    let mut bytes = [0; 24];
    call.read(call.long(1), &mut bytes[..12 * count])?;
    let sets: [u32; 6] = words(&bytes);
    let known = (1u64 << (Cap::LAST + 1)) - 1;
    let set = |at: usize| (u64::from(sets[at]) | u64::from(sets[at + 3]) << 32) & known;
    change(call, |user| user.set_caps(set(0), set(1), set(2)))
}

fn is_caller(call: &Call<'_>, pid: i32) -> Result<bool, Errno> {
    Ok(own_number(&call.status()?, "NSpid") == Some(pid))
}

fn change(call: &Call<'_>, change: impl FnOnce(&mut Credentials) -> Result<(), E>) -> Reply {
    let old = call.user()?;
    let mut user = (*old).clone();
    change(&mut user)?;
    if user != *old {
        call.become_user(user)?;
    }
    Ok(Answer::Value(0))
}

pub(super) fn prctl(call: &Call<'_>) -> Reply {
    let argument = call.long(1);
    let told = |value: u32| Ok(Answer::Value(value.into()));
    let cap = u32::try_from(argument).map_or(Cap(u32::MAX), Cap);
    match call.word(0) {
        PR_GET_KEEPCAPS => told(u32::from(call.user()?.securebits & KEEP_CAPS != 0)),
        PR_SET_KEEPCAPS => change(call, |user| user.set_keep_caps(argument)),
        // Into who can not be dumped the supervisor of a chroot could not look, because it lacks CAP_SYS_PTRACE: no call of
        // such a process could be answered. It stays as it is; its secrets are no safer from others of the step.
        PR_SET_DUMPABLE if argument == 0 && call.emulator.outside.is_some() => Ok(Answer::Value(0)),
        PR_CAPBSET_READ if cap.0 > Cap::LAST => Err(E::INVAL.into()),
        PR_CAPBSET_READ => told(u32::from(call.user()?.caps.bounding & cap.bit() != 0)),
        PR_CAPBSET_DROP => change(call, |user| user.drop_bound(cap)),
        PR_GET_SECUREBITS => told(call.user()?.securebits),
        PR_SET_SECUREBITS => change(call, |user| user.set_securebits(argument)),
        PR_SET_NO_NEW_PRIVS | PR_GET_NO_NEW_PRIVS if (2..5).any(|n| call.long(n) != 0) => Err(E::INVAL.into()),
        PR_SET_NO_NEW_PRIVS if argument != 1 => Err(E::INVAL.into()),
        PR_SET_NO_NEW_PRIVS => change(call, |user| {
            user.no_new_privs = true;
            Ok(())
        }),
        PR_GET_NO_NEW_PRIVS if argument != 0 => Err(E::INVAL.into()),
        PR_GET_NO_NEW_PRIVS => told(u32::from(call.user()?.no_new_privs)),
        PR_CAP_AMBIENT => ambient(call),
        _ => Ok(Answer::Continue),
    }
}

fn ambient(call: &Call<'_>) -> Reply {
    let (action, cap) = (call.long(1), u32::try_from(call.long(2)).map_or(Cap(u32::MAX), Cap));
    if call.long(3) != 0 || call.long(4) != 0 {
        return Err(E::INVAL.into());
    }
    match action {
        PR_CAP_AMBIENT_CLEAR_ALL if cap.0 == 0 => change(call, |user| {
            user.caps.ambient = 0;
            Ok(())
        }),
        PR_CAP_AMBIENT_CLEAR_ALL => Err(E::INVAL.into()),
        PR_CAP_AMBIENT_IS_SET..=PR_CAP_AMBIENT_LOWER if cap.0 > Cap::LAST => Err(E::INVAL.into()),
        PR_CAP_AMBIENT_IS_SET => Ok(Answer::Value((call.user()?.caps.ambient & cap.bit() != 0).into())),
        PR_CAP_AMBIENT_RAISE => change(call, |user| user.raise_ambient(cap)),
        PR_CAP_AMBIENT_LOWER => change(call, |user| {
            user.caps.ambient &= !cap.bit();
            Ok(())
        }),
        _ => Err(E::INVAL.into()),
    }
}
