//! Who is at the other end of a socket.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred};

use super::{Inside, as_user, owner, spawn, wait};

pub const INSIDE: &[Inside] = &[("sockets", sockets), ("messages", many_messages), ("sockets of threads", of_threads)];

fn sockets() {
    let server = rustix::process::getpid();
    let listener = UnixListener::bind("socket").expect("bind");
    super::give("socket", 0, 0, 0o666);
    let client = spawn(1000, 1001, &[], || {
        let stream = UnixStream::connect("socket").expect("connect");
        let root = rustix::net::sockopt::socket_peercred(&stream).expect("SO_PEERCRED");
        assert_eq!(
            (root.uid.as_raw(), root.gid.as_raw(), root.pid.as_raw_nonzero().get()),
            (0, 0, server.as_raw_nonzero().get())
        );
        send_credentials(&stream);
        // Until the other side has looked.
        let _ = std::io::Read::read(&mut &stream, &mut [0]);
    });
    let (stream, _) = listener.accept().expect("accept");
    let peer = rustix::net::sockopt::socket_peercred(&stream).expect("SO_PEERCRED");
    assert_eq!((peer.uid.as_raw(), peer.gid.as_raw(), peer.pid.as_raw_nonzero().get()), (1000, 1001, client));
    // One byte each, so that the other side may send both.
    receive(&stream);
    receive(&stream);
    drop(stream);
    assert_eq!(wait(client), 0);
    let mail = UnixDatagram::bind("mail").expect("bind");
    super::give("mail", 0, 0, 0o600);
    as_user(1000, 1001, &[], || {
        let sender = UnixDatagram::unbound().expect("socket");
        let refused = sender.send_to(b"x", "mail").expect_err("is closed");
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    });
    drop(mail);
    as_user(1000, 1001, &[], || {
        let own = UnixListener::bind("theirs").expect("bind");
        assert_eq!(owner("theirs"), (1000, 1001));
        let address = own.local_addr().expect("an address");
        assert_eq!(address.as_pathname(), Some(std::path::Path::new("theirs")));
        let absolute = UnixListener::bind("/tmp/calls/absolute").expect("bind");
        let address = absolute.local_addr().expect("an address");
        assert_eq!(address.as_pathname(), Some(std::path::Path::new("/tmp/calls/absolute")));
        assert_eq!(UnixListener::bind("theirs").expect_err("taken").raw_os_error(), Some(libc::EADDRINUSE));
        assert_eq!(UnixListener::bind("/opt/x").expect_err("closed").raw_os_error(), Some(libc::EACCES));
    });
    by_root();
}

/// Whom a socket belongs to that root makes, where there are files whose owners are in a table.
fn by_root() {
    std::os::unix::fs::symlink("x", "link").expect("symlink");
    std::os::unix::fs::lchown("link", Some(5), Some(6)).expect("lchown");
    let first = UnixListener::bind("roots").expect("bind");
    assert_eq!(UnixListener::bind("roots").expect_err("taken").raw_os_error(), Some(libc::EADDRINUSE));
    assert_eq!((owner("roots"), owner("link")), ((0, 0), (5, 6)));
    super::give("roots", 7, 8, 0o600);
    assert_eq!(owner("roots"), (7, 8));
    drop(first);
    for _ in 0..5 {
        std::fs::remove_file("roots").expect("unlink");
        let _again = UnixListener::bind("roots").expect("bind");
        assert_eq!(owner("roots"), (0, 0));
    }
    as_user(1000, 1001, &[], || {
        // One that fails leaves nothing that the next file of this name would get.
        let bound = UnixDatagram::bind("first").expect("bind");
        assert!(rustix::net::bind(&bound, &rustix::net::SocketAddrUnix::new("second").expect("short")).is_err());
        assert_eq!(owner("first"), (1000, 1001));
    });
    std::fs::write("second", "").expect("open");
    assert_eq!(owner("second"), (0, 0));
}

/// Threads that are not the first of their process: before Linux 6.9 there are no handles of them.
fn of_threads() {
    as_user(1000, 1001, &[], || {
        let in_thread = |act: fn()| std::thread::scope(|scope| scope.spawn(act).join().expect("ends"));
        in_thread(|| {
            let listener = UnixListener::bind("socket").expect("bind");
            assert_eq!(owner("socket"), (1000, 1001));
            let address = listener.local_addr().expect("an address");
            assert_eq!(address.as_pathname(), Some(std::path::Path::new("socket")));
            assert_eq!(UnixListener::bind("socket").expect_err("taken").raw_os_error(), Some(libc::EADDRINUSE));
            let stream = UnixStream::connect("socket").expect("connect");
            let (other, _) = listener.accept().expect("accept");
            for end in [&stream, &other] {
                let peer = rustix::net::sockopt::socket_peercred(end).expect("SO_PEERCRED");
                assert_eq!((peer.uid.as_raw(), peer.gid.as_raw()), (1000, 1001));
                assert_eq!(peer.pid, rustix::process::getpid());
            }
        });
        // What another one sees that is asked next.
        in_thread(|| assert_eq!(owner("socket"), (1000, 1001)));
        let mine = UnixListener::bind("mine").expect("bind");
        assert_eq!(owner("mine"), (1000, 1001));
        drop(mine);
    });
    assert_eq!(owner("socket"), (1000, 1001));
}

/// A process may say who it is, and nothing else.
fn send_credentials(stream: &UnixStream) {
    let own = UCred {
        pid: rustix::process::getpid(),
        uid: rustix::process::Uid::from_raw(1000),
        gid: rustix::process::Gid::from_raw(1001),
    };
    let send = |ucred: UCred| {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmCredentials(ucred)));
        rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(b"x")], &mut control, SendFlags::empty())
    };
    let root = UCred { uid: rustix::process::Uid::ROOT, ..own };
    assert_eq!(send(root), Err(rustix::io::Errno::PERM));
    assert_eq!(send_many(stream, root), -libc::EPERM);
    assert_eq!(send(own), Ok(1));
    assert_eq!(send_many(stream, own), 1);
}

/// Sends by sendmmsg(2); returns how many were sent, or minus the error.
fn send_many(stream: &UnixStream, ucred: UCred) -> i32 {
    send_all(stream.as_fd(), &mut [control(ucred)], &[])
}

/// Ancillary data: who the sender says that it is.
fn control(ucred: UCred) -> [u64; 4] {
    let ids = u64::from(ucred.pid.as_raw_nonzero().get().cast_unsigned()) | u64::from(ucred.uid.as_raw()) << 32;
    let level_and_type =
        u64::from(libc::SOL_SOCKET.cast_unsigned()) | u64::from(libc::SCM_CREDENTIALS.cast_unsigned()) << 32;
    [28, level_and_type, ids, u64::from(ucred.gid.as_raw())]
}

/// Sends a message of one byte for each of `controls`, to the address in its place, where there is one.
fn send_all(socket: std::os::fd::BorrowedFd<'_>, controls: &mut [[u64; 4]], paths: &[&str]) -> i32 {
    let mut data = *b"y";
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: 1 };
    let mut addresses: Vec<libc::sockaddr_un> = paths.iter().map(|path| address(path)).collect();
    let mut messages: Vec<libc::mmsghdr> = (0..controls.len().max(paths.len()))
        .map(|n| {
            // SAFETY: zero is a value of each field.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
            if let Some(control) = controls.get_mut(n) {
                message.msg_hdr.msg_control = control.as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = 32;
            }
            if let Some(address) = addresses.get_mut(n) {
                message.msg_hdr.msg_name = (&raw mut *address).cast();
                message.msg_hdr.msg_namelen = u32::try_from(size_of::<libc::sockaddr_un>()).expect("is small");
            }
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).expect("few");
    // SAFETY: all that the messages point to outlives the call.
    let result = unsafe {
        libc::sendmmsg(std::os::fd::AsRawFd::as_raw_fd(&socket), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT)
    };
    if result < 0 { -super::errno(result) } else { result }
}

fn address(path: &str) -> libc::sockaddr_un {
    // SAFETY: zero is a value of each field.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
        *place = byte.cast_signed();
    }
    address
}

/// Of several messages none is sent that may not be. The kernel sends those before it; where users are emulated, none is sent.
fn many_messages() {
    let emulated = std::env::var_os("EMULATED").is_some();
    let sent_or = |sent: i32, error: i32| if emulated { -error } else { sent };
    let arrived = |socket: &UnixDatagram| {
        socket.set_nonblocking(true).expect("fcntl");
        std::iter::from_fn(|| socket.recv(&mut [0]).ok()).count()
    };
    let open = UnixDatagram::bind("open-mail").expect("bind");
    let closed = UnixDatagram::bind("closed-mail").expect("bind");
    super::give("open-mail", 0, 0, 0o666);
    super::give("closed-mail", 0, 0, 0o600);
    as_user(1000, 1001, &[], || {
        let own = UCred {
            pid: rustix::process::getpid(),
            uid: rustix::process::Uid::from_raw(1000),
            gid: rustix::process::Gid::from_raw(1001),
        };
        let root = UCred { uid: rustix::process::Uid::ROOT, gid: rustix::process::Gid::ROOT, ..own };
        let (from, to) = UnixDatagram::pair().expect("socketpair");
        let mut controls = [control(own), control(root), control(own)];
        let expected = sent_or(1, libc::EPERM);
        assert_eq!(send_all(from.as_fd(), &mut controls, &[]), expected);
        assert_eq!(arrived(&to), usize::try_from(expected).unwrap_or(0));
        assert_eq!(controls, [control(own), control(root), control(own)], "what was not sent is as it was");
        assert_eq!(send_all(from.as_fd(), &mut [control(own); 3], &[]), 3);
        assert_eq!(arrived(&to), 3);
        let unbound = UnixDatagram::unbound().expect("socket");
        let send = |paths: &[&str]| send_all(unbound.as_fd(), &mut [], paths);
        assert_eq!(send(&["open-mail", "closed-mail", "open-mail"]), sent_or(1, libc::EACCES));
        assert_eq!(send(&["closed-mail", "open-mail"]), -libc::EACCES);
        // What is no matter of users ends it as ever.
        assert_eq!(send(&["open-mail", "missing", "closed-mail"]), 1);
        assert_eq!(send(&["open-mail"; 3]), 3);
    });
    assert_eq!(arrived(&closed), 0);
    assert_eq!(arrived(&open), if emulated { 4 } else { 5 });
}

fn receive(stream: &UnixStream) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty());
    assert_eq!(got.expect("recvmsg").bytes, 1);
}
