//! A socket for requests: many go in one write, which returns when the kernel
//! has carried out all of them.

use super::message::{DONE, ERROR, INTERRUPTED, Messages, split};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Bytes of requests and answers that may wait: all answers of one write do. An
/// acknowledgement takes about 1 KiB there.
const QUEUE: usize = 16 << 20;
/// Attempts at a list that changes while it is read.
const LIST_ATTEMPTS: usize = 32;

/// A socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink(Mutex<Numbered>);

struct Numbered {
    socket: Socket,
    /// Sequence number of the next request.
    next: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Netlink")
    }
}

impl Netlink {
    /// Opens a socket of this protocol, one of `netlink_sys::protocols`.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An error message need not repeat the request.
        socket.set_cap_ack(true)?;
        // SAFETY: the socket owns the descriptor and lives as long as the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        // Without the right to it (CAP_NET_ADMIN of the host) batches are small at most.
        if let Err(err) = sockopt::set_socket_recv_buffer_size_force(fd, QUEUE)
            .and_then(|()| sockopt::set_socket_send_buffer_size_force(fd, QUEUE))
        {
            tracing::debug!(%err, "cannot enlarge the queues of a netlink socket");
        }
        Ok(Self(Mutex::new(Numbered { socket, next: 1 })))
    }

    /// Sends changes. Returns the first error of the kernel.
    pub(crate) fn request(&self, mut messages: Messages) -> io::Result<()> {
        // A panic leaves at most answers unread, which are distinguished by number.
        let mut numbered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = numbered.next;
        let (count, acks) = messages.number(first);
        numbered.next = first.wrapping_add(count);
        numbered.socket.send(&messages.0, 0)?;
        let (mut acked, mut error) = (0, None);
        loop {
            let mut buffer = Vec::with_capacity(32 << 10);
            // The kernel works during `send`: all answers are in the queue.
            match numbered.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err),
                Ok(_) => {}
            }
            for answer in split(&buffer) {
                if answer.kind != ERROR || answer.number.wrapping_sub(first) >= count {
                    continue;
                }
                match answer.errno() {
                    0 => acked += 1,
                    code if error.is_none() => error = Some(io::Error::from_raw_os_error(code)),
                    _ => {}
                }
            }
        }
        match error {
            Some(err) => Err(err),
            None if acked < acks => Err(io::Error::other("netlink: an answer is missing")),
            None => Ok(()),
        }
    }

    /// Requests a list and returns what `parse` makes of its entries. Starts again
    /// if the list changed while it was read.
    pub(crate) fn list<T>(
        &self,
        mut messages: Messages,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut numbered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        'again: for _ in 0..LIST_ATTEMPTS {
            let mut entries = Vec::new();
            let first = numbered.next;
            numbered.next = first.wrapping_add(messages.number(first).0);
            numbered.socket.send(&messages.0, 0)?;
            let mut interrupted = false;
            loop {
                let mut buffer = Vec::with_capacity(32 << 10);
                numbered.socket.recv(&mut buffer, 0)?;
                for answer in split(&buffer).filter(|answer| answer.number == first) {
                    interrupted |= answer.flags & INTERRUPTED != 0;
                    match (answer.kind, answer.errno()) {
                        (ERROR | DONE, libc::EINTR) => continue 'again,
                        (DONE, _) if interrupted => continue 'again,
                        (DONE, 0) => return Ok(entries),
                        (ERROR | DONE, code) => return Err(io::Error::from_raw_os_error(code)),
                        _ => entries.extend(parse(answer.body)),
                    }
                }
            }
        }
        Err(io::Error::other("netlink: the list changed at every attempt to read it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{ACK, CREATE, EXCLUSIVE, REQUEST};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    use std::net::Ipv4Addr;
    use testkit::skip::{Lacks, skip};

    /// `RTM_NEWADDR`, and the attributes `IFA_ADDRESS` and `IFA_LOCAL` (rtnetlink(7)).
    const NEW_ADDRESS: u16 = 20;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;

    #[test]
    fn a_thousand_changes_go_in_one_write() {
        if !rustix::process::geteuid().is_root() {
            return skip("network namespaces need root", Lacks::Required);
        }
        let add = || {
            // SAFETY: no descriptor table or memory is unshared, only the network of this
            // thread, which ends after the test.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            let netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
            let mut messages = Messages::default();
            for n in 0..1000u32 {
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + n).octets();
                messages.push(NEW_ADDRESS, REQUEST | ACK | CREATE | EXCLUSIVE, |body| {
                    // IPv4, a prefix of 32 bits, on the loopback.
                    body.fixed(&[2, 32, 0, 0, 1, 0, 0, 0]);
                    body.value(LOCAL, &address);
                    body.value(ADDRESS, &address);
                });
            }
            netlink.request(messages)
        };
        std::thread::spawn(add).join().unwrap().unwrap();
    }
}
