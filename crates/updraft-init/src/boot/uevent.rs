//! Waiting for devices, which the kernel announces on a netlink socket.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_KOBJECT_UEVENT};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Longest wait between two looks: an announcement may be lost when the socket's
/// buffer overflows.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A subscription to the kernel's device announcements.
pub(crate) struct Uevents(Option<Socket>);

impl Uevents {
    /// Subscribes. Without the socket the waits become polls.
    pub(crate) fn subscribe() -> Self {
        let subscribe = || -> std::io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
            socket.bind(&SocketAddr::new(0, 1))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        Self(subscribe().ok())
    }

    /// Waits until `look` finds something, at most until `deadline`.
    pub(crate) fn wait<T>(
        &mut self,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => left.min(LOOK_AGAIN),
                None => LOOK_AGAIN,
            };
            self.pause(left);
        }
    }

    fn pause(&mut self, longest: Duration) {
        let Some(socket) = &mut self.0 else {
            std::thread::sleep(longest.min(Duration::from_millis(5)));
            return;
        };
        // SAFETY: the socket outlives the borrow, which ends with this function.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
        let _ =
            rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout));
        // The content is not needed: any announcement is a reason to look.
        while socket.recv(&mut &mut [0u8; 16][..], 0).is_ok() {}
    }
}
