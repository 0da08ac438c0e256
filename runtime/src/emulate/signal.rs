//! Signals between users: kill and its kin; and in a chroot, what else reaches processes outside.

use rustix::io::Errno as E;
use rustix::process::Pid;

use super::call::{Answer, Call, Reply, status_of};
use super::credentials::{Cap, Credentials};
use super::proc::own_number;
use crate::error::Errno;
use crate::idmap::status_field;
use crate::seccomp::{TIOCLINUX, TIOCSTI};
use crate::sys::peer;

/// SIGRTMAX of the kernel.
const LAST_SIGNAL: i32 = 64;

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
        // Its own group: those are of the same user, but for what setuid programs made of them. Without a pid namespace it may be that
        // of who builds.
        0 if call.emulator.outside.is_none() => Ok(Answer::Continue),
        0 => kill_all(call, &user, own_number(&call.status()?, "NSpgid")),
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
    let Some(pid) = call.emulator.proc.process(call, number) else { return call.is_not_there() };
    let Ok(other) = call.emulator.users.of(pid) else { return Ok(Answer::Continue) };
    if may_signal(user, &other) { Ok(Answer::Continue) } else { Err(E::PERM.into()) }
}

/// pidfd_send_signal: the process is that behind a descriptor.
pub(super) fn by_pidfd(call: &Call<'_>) -> Reply {
    let user = call.user()?;
    let fd = call.int(0);
    // Some numbers below 0 mean who asks; the others are no descriptors.
    if fd < 0 || user.may(Cap::KILL) && call.emulator.outside.is_none() {
        return Ok(Answer::Continue);
    }
    let Some(pid) = call.process_behind(fd)? else { return call.is_not_there() };
    let Ok(other) = call.emulator.users.of(pid) else { return Ok(Answer::Continue) };
    if may_signal(&user, &other) { Ok(Answer::Continue) } else { Err(E::PERM.into()) }
}

/// In a chroot: who could not send a signal to a process has no descriptor of it either.
pub(super) fn pidfd_open(call: &Call<'_>) -> Reply {
    match call.int(0) {
        ..=0 => Ok(Answer::Continue),
        number if call.emulator.proc.process(call, number).is_some() => Ok(Answer::Continue),
        _ => call.is_not_there(),
    }
}

/// F_SETOWN, F_SETOWN_EX: to whom the kernel sends SIGIO.
pub(super) const SET_OWNER: &[u32] = &[8, 15];
/// What a terminal would be typed into by; FIOSETOWN and SIOCSPGRP, old names of F_SETOWN.
pub(super) const REFUSED_REQUESTS: &[u32] = &[TIOCSTI, TIOCLINUX, 0x8901, 0x8902];

/// In a chroot: a process names one of its step, or nobody, as who gets the signals of a file. Groups are refused, and what is named in
/// memory, which could change after it was looked at.
pub(super) fn fcntl(call: &Call<'_>) -> Reply {
    match (call.int(1), call.int(2)) {
        (libc::F_SETOWN, 0) => Ok(Answer::Continue),
        (libc::F_SETOWN, number @ 1..) if call.emulator.proc.process(call, number).is_some() => Ok(Answer::Continue),
        (libc::F_SETOWN, 1..) => call.is_not_there(),
        _ => Err(E::PERM.into()),
    }
}

pub(super) fn ioctl(_: &Call<'_>) -> Reply {
    Err(E::PERM.into())
}

impl Call<'_> {
    /// Answers a call about a process that the one that asks does not see. What is not there is for the kernel to tell; what is outside
    /// is not there.
    pub(super) fn is_not_there(&self) -> Reply {
        if self.emulator.outside.is_some() { Err(E::SRCH.into()) } else { Ok(Answer::Continue) }
    }

    /// Returns the process that a descriptor is of: a pidfd, or the folder of a process in /proc. `None` where it is outside.
    fn process_behind(&self, fd: i32) -> Result<Option<Pid>, Errno> {
        let info = std::fs::read_to_string(format!("{}/fdinfo/{fd}", self.pid().as_raw_nonzero()));
        let shown = info.ok().and_then(|info| status_field(&info, "Pid")?.parse::<i32>().ok());
        let pid = match shown {
            // In the numbers of this process. Of one that is gone it is -1.
            Some(number) => Some(number).filter(|number| *number > 0).and_then(Pid::from_raw),
            None => Some(self.process_of(&*self.opened(fd)?).ok_or(E::BADF)?),
        };
        Ok(pid.filter(|pid| self.emulator.outside.as_ref().is_none_or(|outside| outside.is_of_step(*pid))))
    }
}

/// Sends the signal to every process that `user` may send it to, one after the other: the kernel would send it to all.
fn kill_all(call: &Call<'_>, user: &Credentials, group: Option<i32>) -> Reply {
    let signal = call.int(1);
    if !(0..=LAST_SIGNAL).contains(&signal) {
        return Err(E::INVAL.into());
    }
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
            sent |= peer::send_signal(pid, signal).is_ok();
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
