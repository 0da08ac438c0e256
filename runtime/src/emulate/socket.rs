//! Sockets: who made them (bind, connect), and who is at the other end (SO_PEERCRED, SCM_CREDENTIALS).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno as E;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::access::Want;
use super::call::{Answer, At, Call, Reply, status_of};
use super::create::{Kind, Place, new_owner, own, place, stays_roots};
use super::credentials::{Cap, Credentials};
use super::peers;
use super::proc::own_number;
use super::resolve::Last;
use crate::error::Errno;
use crate::sys::peer;

/// Bytes of a `struct sockaddr_un` without its path, and of all of it.
const FAMILY: usize = 2;
const LONGEST: usize = 110;

pub(super) const SO_PEERCRED: u32 = 17;
const SO_PEERGROUPS: u32 = 59;
/// What is asked of sockets that is looked at.
pub(super) const OPTIONS: &[u32] = &[SO_PEERCRED, SO_PEERGROUPS];

/// PIDFD_THREAD: since 6.9.
const THREAD: u32 = libc::O_EXCL.cast_unsigned();

/// Returns the address in argument 1; `None` where it is not the path of a socket.
fn address(call: &Call<'_>) -> Result<Option<(Vec<u8>, At)>, Errno> {
    address_at(call, call.long(1), call.word(2) as usize)
}

fn address_at(call: &Call<'_>, place: u64, length: usize) -> Result<Option<(Vec<u8>, At)>, Errno> {
    if !(FAMILY + 1..=LONGEST).contains(&length) {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    call.read(place, &mut bytes)?;
    if u16::from_ne_bytes([bytes[0], bytes[1]]) != libc::AF_UNIX as u16 || bytes[FAMILY] == 0 {
        return Ok(None);
    }
    let path = bytes[FAMILY..].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Ok(Some((bytes, At::cwd(path))))
}

/// Returns a copy of a descriptor of the process.
pub(super) fn copy_of(call: &Call<'_>, fd: i32) -> Result<OwnedFd, Errno> {
    let process = pidfd_open(call.pid(), PidfdFlags::empty())
        .or_else(|_| pidfd_open(call.pid(), PidfdFlags::from_bits_retain(THREAD)))?;
    Ok(pidfd_getfd(process.as_fd(), fd, PidfdGetfdFlags::empty())?)
}

pub(super) fn bind(call: &Call<'_>) -> Reply {
    let Some((bytes, at)) = address(call)? else { return Ok(Answer::Continue) };
    let user = call.user()?;
    let kernel_may = !call.emulator.owners.has_special() && !call.emulator.bound.is_waiting();
    if kernel_may && stays_roots(call, &user, &at) {
        return Ok(Answer::Continue);
    }
    let in_use = |errno: Errno| if errno.is(E::EXIST) { E::ADDRINUSE.into() } else { errno };
    let Some(place) = place(call, &user, &at, Kind::Special).map_err(in_use)? else { return Ok(Answer::Continue) };
    let owner = new_owner(call, &user, &place.dir);
    if kernel_may && owner.is_default() {
        return Ok(Answer::Continue);
    }
    let Ok(socket) = copy_of(call, call.int(0)) else {
        // It is none, and the kernel says so; or it is not for us.
        call.emulator.bound.expect(call.pid(), &place, owner)?;
        return Ok(Answer::Continue);
    };
    call.still_waits()?;
    let Place { dir, name } = &place;
    call.with_umask(|| bind_at(call, &socket, &place, &bytes))?;
    own(call, dir, name, Kind::Special, owner)?;
    Ok(Answer::Value(0))
}

/// Binds the socket to the path that the process said, so that its address reads so: an absolute one, or one from its
/// working directory, is found from here as well while this thread is there.
fn bind_at(call: &Call<'_>, socket: &OwnedFd, place: &Place, address: &[u8]) -> Result<(), Errno> {
    let is_ours = address[FAMILY] != b'/' || !call.has_other_root();
    if is_ours {
        let cwd = call.opened(libc::AT_FDCWD)?;
        return call.emulator.while_in(cwd.fd(), || peer::bind(socket.as_fd(), address));
    }
    let mut bytes = address[..FAMILY].to_vec();
    bytes.extend_from_slice(&place.name);
    bytes.push(0);
    call.emulator.while_in(place.dir.fd(), || peer::bind(socket.as_fd(), &bytes))
}

pub(super) fn connect(call: &Call<'_>) -> Reply {
    check_address(call, call.long(1), call.word(2) as usize)?;
    Ok(Answer::Continue)
}

pub(super) fn sendto(call: &Call<'_>) -> Reply {
    check_address(call, call.long(4), call.word(5) as usize)?;
    Ok(Answer::Continue)
}

/// Checks that the process may write to the socket at this address.
fn check_address(call: &Call<'_>, place: u64, length: usize) -> Result<(), Errno> {
    let user = call.user()?;
    if place == 0 || user.may(Cap::DAC_OVERRIDE) {
        return Ok(());
    }
    let Some((_, at)) = address_at(call, place, length)? else { return Ok(()) };
    let file = call.find(&user, &at, Last::Follow)?;
    if file.kind() == FileType::Socket { call.check(&user, &file, Want::WRITE) } else { Ok(()) }
}

pub(super) fn getsockopt(call: &Call<'_>) -> Reply {
    if call.int(1) != libc::SOL_SOCKET {
        return Ok(Answer::Continue);
    }
    // None: a socket without another end, or one whose process is not seen from here. Then the kernel answers: pid right, users
    // all root.
    let peer = match copy_of(call, call.int(0)) {
        Ok(socket) => peer::peer_of(socket.as_fd()),
        Err(_) => peers::at_other_end(call, call.int(0)),
    };
    let Some(peer) = peer else { return Ok(Answer::Continue) };
    let mut length = [0; 4];
    call.read(call.long(4), &mut length)?;
    let length = i32::from_ne_bytes(length);
    let Ok(room) = usize::try_from(length) else { return Err(E::INVAL.into()) };
    // One that has ended was whoever it was; the kernel's answer is as good as any.
    let Ok(user) = call.emulator.users.of(peer) else { return Ok(Answer::Continue) };
    match call.word(2) {
        SO_PEERCRED => {
            let number = status_of(peer).ok().and_then(|text| own_number(&text, "NSpid"));
            let bytes = credentials(number.unwrap_or(0).cast_unsigned(), &user);
            let told = bytes.len().min(room);
            call.write(call.long(3), &bytes[..told])?;
            call.write_word(call.long(4), told as u32)?;
            Ok(Answer::Value(0))
        }
        _ => {
            let bytes: Vec<u8> = user.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
            call.write_word(call.long(4), bytes.len() as u32)?;
            if room < bytes.len() {
                return Err(E::RANGE.into());
            }
            call.write(call.long(3), &bytes)?;
            Ok(Answer::Value(0))
        }
    }
}

/// A `struct ucred`.
fn credentials(pid: u32, user: &Credentials) -> [u8; 12] {
    let words = [pid, user.uid.effective, user.gid.effective].map(u32::to_ne_bytes);
    std::array::from_fn(|at| words[at / 4][at % 4])
}

/// Headers of ancillary data that are looked at, and bytes of it at the most.
const MOST_CONTROL: u64 = 4096;
const HEADER: usize = 16;

/// Bytes of a `struct msghdr`, and of a `struct mmsghdr`, of which the kernel takes so many at the most.
const MESSAGE: usize = 56;
const MESSAGES: u64 = 64;
const MOST_MESSAGES: u32 = 1024;

/// sendmsg(2) with credentials: a process that says who it is, as it may, says what the kernel does not know. What it sends
/// becomes what the kernel takes: root.
pub(super) fn sendmsg(call: &Call<'_>) -> Reply {
    let credentials = check_message(call, call.long(1))?;
    become_roots(call, &credentials)?;
    Ok(Answer::Continue)
}

/// Of several messages the kernel would send those before one that may not be sent. It does not know which one that is, and
/// how many there are can not be changed from here: so none is sent, and they stay as they are.
pub(super) fn sendmmsg(call: &Call<'_>) -> Reply {
    let mut credentials = Vec::new();
    for at in 0..u64::from(call.word(2).min(MOST_MESSAGES)) {
        match (check_message(call, call.long(1).wrapping_add(MESSAGES * at)), at) {
            (Ok(found), _) => credentials.extend(found),
            (Err(errno), 0) => return Err(errno),
            (Err(errno), _) if errno.is(E::PERM) || errno.is(E::ACCESS) => return Err(errno),
            // Those before it are sent, and the kernel finds what is wrong with this one.
            (Err(_), _) => break,
        }
    }
    become_roots(call, &credentials)?;
    Ok(Answer::Continue)
}

/// Checks that the process may send a message. Returns where in its memory are ids that the kernel does not know.
fn check_message(call: &Call<'_>, place: u64) -> Result<Vec<u64>, Errno> {
    let mut header = [0; MESSAGE];
    call.read(place, &mut header)?;
    let (words, _) = header.as_chunks::<8>();
    let word = |n: usize| u64::from_ne_bytes(words[n]);
    check_address(call, word(0), (word(1) & 0xffff_ffff) as usize)?;
    let (control, length) = (word(4), word(5));
    if control == 0 || !(HEADER as u64..=MOST_CONTROL).contains(&length) {
        return Ok(vec![]);
    }
    let mut bytes = vec![0; length as usize];
    call.read(control, &mut bytes)?;
    let mut unknown = Vec::new();
    for at in credentials_in(&bytes) {
        let word = |n: usize| u32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + 4 * n + byte]));
        let (uid, gid) = (word(1), word(2));
        let user = call.user()?;
        let is_uid = [user.uid.real, user.uid.effective, user.uid.saved].contains(&uid) || user.may(Cap::SETUID);
        let is_gid = [user.gid.real, user.gid.effective, user.gid.saved].contains(&gid) || user.may(Cap::SETGID);
        if !is_uid || !is_gid {
            return Err(E::PERM.into());
        }
        if (uid, gid) != (0, 0) {
            unknown.push(control + at as u64 + 4);
        }
    }
    Ok(unknown)
}

/// Puts the ids that the kernel knows in these places.
fn become_roots(call: &Call<'_>, places: &[u64]) -> Result<(), Errno> {
    places.iter().try_for_each(|place| call.write(*place, &[0; 8]))
}

/// Returns where in ancillary data the credentials start.
fn credentials_in(control: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = control.get(at..at + HEADER) {
        let (words, _) = header.as_chunks::<4>();
        let word = |n: usize| i32::from_ne_bytes(words[n]);
        let length = (u64::from(word(0).cast_unsigned()) | u64::from(word(1).cast_unsigned()) << 32) as usize;
        if length < HEADER || control.len() - at < length {
            break;
        }
        if (word(2), word(3)) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) && length >= HEADER + 12 {
            found.push(at + HEADER);
        }
        let Some(next) = length.checked_next_multiple_of(8).and_then(|length| at.checked_add(length)) else { break };
        at = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u64, level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn credentials_are_found_among_other_data_and_nonsense_ends_the_search() {
        let rights = message(20, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 4]);
        let creds = message(28, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12]);
        assert_eq!(credentials_in(&[rights.clone(), creds.clone(), creds.clone()].concat()), [40, 72]);
        assert_eq!(credentials_in(&message(20, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 4])), [] as [usize; 0]);
        for length in [0, 15, 1 << 40, u64::MAX] {
            let broken = message(length, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12]);
            assert_eq!(credentials_in(&[rights.clone(), broken].concat()), [] as [usize; 0]);
        }
        assert_eq!(credentials_in(&creds[..20]), [] as [usize; 0]);
        assert_eq!(credentials_in(&[]), [] as [usize; 0]);
    }
}
