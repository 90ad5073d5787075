//! Notifications of the kernel about changes, from any process.

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd};

/// `NFNLGRP_NFTABLES`: changes of tables, chains, sets and rules.
pub(crate) const NFTABLES_GROUP: (isize, &[u32]) = (NETLINK_NETFILTER, &[7]);
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`:
/// changes of interfaces, addresses and routes.
pub(crate) const ROUTE_GROUPS: (isize, &[u32]) = (NETLINK_ROUTE, &[1, 5, 7, 9, 11]);

/// A socket that becomes readable when something changes in the network
/// namespace of the thread that opened it.
pub(crate) struct Notifications(Socket);

impl std::fmt::Debug for Notifications {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifications")
    }
}

impl Notifications {
    /// Subscribes to groups of one protocol.
    pub(crate) fn subscribe((protocol, groups): (isize, &[u32])) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Reads and discards all notifications. That some were lost because the
    /// queue was full is no error: the caller looks at the state afterwards.
    pub(crate) fn drain(&self) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(8 << 10);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(_) => {}
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) => return Err(err),
            }
        }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
