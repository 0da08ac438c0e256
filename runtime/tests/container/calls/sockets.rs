//! Who is at the other end of a socket.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred};

use super::{Inside, as_user, owner, spawn, wait};

pub const INSIDE: &[Inside] = &[("sockets", sockets), ("sockets of threads", of_threads)];

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
    let mail = std::os::unix::net::UnixDatagram::bind("mail").expect("bind");
    super::give("mail", 0, 0, 0o600);
    as_user(1000, 1001, &[], || {
        let sender = std::os::unix::net::UnixDatagram::unbound().expect("socket");
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
        use std::os::unix::net::UnixDatagram;
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
    let words = [ucred.pid.as_raw_nonzero().get().cast_unsigned(), ucred.uid.as_raw(), ucred.gid.as_raw()];
    let mut control = [0u64; 4];
    let mut data = *b"y";
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: zero is a value of each field; what is written to `control` fits, and all of it outlives the call.
    let result = unsafe {
        let mut message: libc::mmsghdr = std::mem::zeroed();
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = 32;
        let header = libc::CMSG_FIRSTHDR(&raw const message.msg_hdr);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_CREDENTIALS;
        (*header).cmsg_len = 28;
        libc::CMSG_DATA(header).cast::<[u32; 3]>().write_unaligned(words);
        libc::sendmmsg(std::os::fd::AsRawFd::as_raw_fd(stream), &raw mut message, 1, 0)
    };
    if result < 0 { -super::errno(result) } else { result }
}

fn receive(stream: &UnixStream) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty());
    assert_eq!(got.expect("recvmsg").bytes, 1);
}
