//! Who is at the other end of a socket, as far as that can be seen from outside: which socket it is, by the kernel's list of
//! them (sock_diag(7)), and who has that open, by /proc.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::process::Pid;

use super::call::Call;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// UDIAG_SHOW_PEER, and the attribute that answers it.
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;
/// Bytes of a `struct nlmsghdr`, of a `struct unix_diag_msg`, and before the data of an attribute.
const HEADER: usize = 16;
const MESSAGE: usize = 16;
const ATTRIBUTE: usize = 4;

/// Returns a process that has the other end of the socket `fd` of the caller open: the one with the lowest number.
pub(super) fn at_other_end(call: &Call<'_>, fd: i32) -> Option<Pid> {
    let own = rustix::fs::readlink(format!("{}/fd/{fd}", call.pid().as_raw_nonzero()), Vec::new()).ok()?;
    let inode = own.to_str().ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
    let name = format!("socket:[{}]", peer_of(inode)?);
    let mut processes = call.emulator.proc.of_step(call);
    processes.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    processes.into_iter().find(|pid| {
        let fds = std::fs::read_dir(format!("{}/fd", pid.as_raw_nonzero()));
        fds.into_iter().flatten().flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == *name))
    })
}

/// Returns the inode number of the socket that the one with this number is connected to; `None` also where nobody has
/// accepted the connection yet.
fn peer_of(inode: u32) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG)).ok()?;
    rustix::net::send(&socket, &request(inode), SendFlags::empty()).ok()?;
    let mut answer = [0; 1024];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty()).ok()?;
    peer_in(answer.get(..length)?)
}

/// The question for the peer of one socket of AF_UNIX: `struct nlmsghdr`, `struct unix_diag_req`.
fn request(inode: u32) -> Vec<u8> {
    const LENGTH: u32 = HEADER as u32 + 24;
    let family = u32::from_ne_bytes([libc::AF_UNIX as u8, 0, 0, 0]);
    let [any_state, any_cookie] = [u32::MAX; 2];
    let kinds = [SOCK_DIAG_BY_FAMILY.to_ne_bytes(), NLM_F_REQUEST.to_ne_bytes()].concat();
    let rest = [1, 0, family, any_state, inode, SHOW_PEER, any_cookie, any_cookie];
    [LENGTH.to_ne_bytes().to_vec(), kinds, rest.map(u32::to_ne_bytes).concat()].concat()
}

/// Returns what an answer says of the peer.
fn peer_in(answer: &[u8]) -> Option<u32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    if half(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = HEADER + MESSAGE;
    loop {
        let length = usize::from(half(at)?);
        if half(at + 2)? == PEER {
            return word(at + ATTRIBUTE).filter(|inode| *inode != 0);
        }
        at += length.max(ATTRIBUTE).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_socket_is_known_by_its_number() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = |socket| u32::try_from(rustix::fs::fstat(socket).unwrap().st_ino).unwrap();
        let found = peer_of(inode(&one));
        // Not every kernel has such a list.
        assert!(found.is_none_or(|found| found == inode(&other)), "{found:?}");
        assert_eq!(peer_of(0), None);
    }

    #[test]
    fn an_answer_may_be_an_error_or_cut() {
        let mut answer = request(7);
        answer.truncate(HEADER);
        answer.extend([0; MESSAGE]);
        assert_eq!(peer_in(&answer), None);
        answer.extend([5, 0, 6, 0, 1, 0, 0, 0]);
        answer.extend([8, 0, 2, 0, 9, 0, 0, 0]);
        assert_eq!(peer_in(&answer), Some(9));
        assert_eq!(peer_in(&answer[..answer.len() - 1]), None);
        answer[4] = 2;
        assert_eq!(peer_in(&answer), None);
    }
}
