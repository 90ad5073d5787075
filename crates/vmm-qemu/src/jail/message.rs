//! One message from the daemon to the launcher: JSON and descriptors.

use crate::jail::spec::Spec;
use model::volume::MAX_MOUNTS;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use worker::ports::MAX_IMAGES;

/// Longest message: paths and arguments of one VM are far below.
const MAX_BYTES: usize = 64 * 1024;
const MAX_FDS: usize = 8 + MAX_IMAGES + MAX_MOUNTS;

/// Sends a message over a sequenced-packet socket.
pub(crate) fn send(socket: impl AsFd, spec: &Spec, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(spec)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if bytes.len() > MAX_BYTES || !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the description of the VM is too long"));
    }
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Reads the message from standard input.
pub(super) fn receive() -> io::Result<(Spec, Vec<OwnedFd>)> {
    receive_from(take_stdin())
}

/// Standard input, owned.
fn take_stdin() -> OwnedFd {
    // SAFETY: the launcher has one thread and nothing else uses standard input;
    // `/dev/null` is put there before QEMU starts.
    unsafe { OwnedFd::from_raw_fd(0) }
}

fn receive_from(socket: OwnedFd) -> io::Result<(Spec, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let received =
        rustix::net::recvmsg(&socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(io::Error::other("the daemon has gone"));
    }
    Ok((serde_json::from_slice(&bytes[..received.bytes])?, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn a_message_and_its_descriptors_arrive() {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (a, b) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        let spec = Spec {
            program: "/usr/bin/qemu".into(),
            args: vec!["x".repeat(3000)],
            files: Vec::new(),
            kvm: false,
            uid_base: 1,
            uid_count: 2,
            file_size: 3,
            threads: 4,
            fds: vec![crate::jail::spec::Fd::Agent, crate::jail::spec::Fd::Qmp],
            own_memory: false,
        };
        send(&a, &spec, &[a.as_fd(), b.as_fd()]).unwrap();
        drop(a);
        let (back, fds) = receive_from(b).unwrap();
        assert_eq!((back.args, fds.len()), (spec.args, 2));
    }

    #[test]
    fn a_daemon_that_has_gone_is_an_error() {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (a, b) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        drop(a);
        assert!(receive_from(b).is_err());
    }
}
