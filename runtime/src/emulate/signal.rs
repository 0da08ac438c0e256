//! Signals between users: kill and its kin.

use rustix::io::Errno as E;
use rustix::process::{Pid, Signal, kill_process};

use super::call::{Answer, Call, Reply, status_of};
use super::credentials::{Cap, Credentials};
use super::proc::own_number;
use crate::error::Errno;
use crate::idmap::status_field;

/// Returns whether `user` may send a signal to `other`: kill(2).
fn may_signal(user: &Credentials, other: &Credentials) -> bool {
    let ours = [user.uid.real, user.uid.effective];
    user.may(Cap::KILL) || ours.contains(&other.uid.real) || ours.contains(&other.uid.saved)
}

pub(super) fn kill(call: &Call<'_>) -> Reply {
    let user = call.user()?;
    // Without a pid namespace the kernel would let root of a step reach all processes.
    if user.may(Cap::KILL) && call.emulator.outside.is_none() {
        return Ok(Answer::Continue);
    }
    match call.int(0) {
        // Its own group: those are of the same user, but for what setuid programs made of them.
        0 => Ok(Answer::Continue),
        -1 => kill_all(call, &user, None),
        group @ ..0 => kill_all(call, &user, group.checked_neg()),
        pid => check(call, &user, pid),
    }
}

/// tkill, and whatever has the process as its first argument.
pub(super) fn of_first(call: &Call<'_>) -> Reply {
    checked(call, 0)
}

/// tgkill, and whatever has the thread as its second argument.
pub(super) fn of_second(call: &Call<'_>) -> Reply {
    checked(call, 1)
}

fn checked(call: &Call<'_>, n: usize) -> Reply {
    let user = call.user()?;
    let is_free = user.may(Cap::KILL) && call.emulator.outside.is_none();
    if is_free { Ok(Answer::Continue) } else { check(call, &user, call.int(n)) }
}

fn check(call: &Call<'_>, user: &Credentials, number: i32) -> Reply {
    let Some(pid) = call.emulator.proc.process(call, number) else {
        // What is not there is for the kernel to tell; what is outside is not there.
        return if call.emulator.outside.is_some() { Err(E::SRCH.into()) } else { Ok(Answer::Continue) };
    };
    let Ok(other) = call.emulator.users.of(pid) else { return Ok(Answer::Continue) };
    if may_signal(user, &other) { Ok(Answer::Continue) } else { Err(E::PERM.into()) }
}

/// Sends the signal to every process that `user` may send it to, one after the other: the kernel would send it to all.
fn kill_all(call: &Call<'_>, user: &Credentials, group: Option<i32>) -> Reply {
    let signal = match call.int(1) {
        0 => None,
        number => Some(Signal::from_named_raw(number).ok_or(E::INVAL)?),
    };
    let (mut found, mut sent) = (false, false);
    for pid in call.emulator.proc.of_step(call) {
        let Ok(status) = status_of(pid) else { continue };
        let number = |field| own_number(&status, field);
        // Neither process 1 nor who asks.
        let spared = group.is_none() && (number("NSpid") == Some(1) || is_own(call, pid)?);
        if spared || group.is_some_and(|group| number("NSpgid") != Some(group)) {
            continue;
        }
        found = true;
        let may = call.emulator.users.of(pid).is_ok_and(|other| may_signal(user, &other));
        if may {
            call.still_waits()?;
            sent |= signal.is_none_or(|signal| kill_process(pid, signal).is_ok());
        }
    }
    match (found, sent) {
        (_, true) => Ok(Answer::Value(0)),
        (true, false) => Err(E::PERM.into()),
        (false, false) => Err(E::SRCH.into()),
    }
}

fn is_own(call: &Call<'_>, pid: Pid) -> Result<bool, Errno> {
    let status = call.status()?;
    let leader = status_field(&status, "Tgid").and_then(|number| number.parse().ok()).and_then(Pid::from_raw);
    Ok(leader == Some(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::credentials::Change;

    #[test]
    fn a_user_may_signal_its_own_and_root_all() {
        let user = |uid| Credentials::new(uid, 0, &[], Cap::KILL.bit() | Cap::SETUID.bit());
        assert!(may_signal(&user(0), &user(7)) && may_signal(&user(7), &user(7)));
        assert!(!may_signal(&user(7), &user(0)) && !may_signal(&user(7), &user(8)));
        let mut stepped_down = user(0);
        stepped_down.set_uid(Change::Two(super::super::credentials::KEEP, 7)).expect("may");
        assert!(may_signal(&stepped_down, &user(0)), "its real id is still root's");
    }
}
