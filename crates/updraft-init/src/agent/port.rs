//! The agent port: a virtio-serial character device.
//!
//! While the host's side is not connected the port reads as ended, cannot be
//! written, and a level-triggered poll of it returns at once with a hang-up. So it
//! is polled edge-triggered: one epoll instance holds the port alone, and the event
//! loop polls that instance. The driver wakes the port's waiters on input, on room
//! for output, and when the host connects or disconnects; each is one edge.

use guest_protocol::{ToGuest, codec::Decoder};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a host that has just connected may take to send its hello.
const HELLO_TIMEOUT: Duration = Duration::from_millis(250);

/// The port, and its state since the last edge.
pub(crate) struct Port {
    file: OwnedFd,
    edges: OwnedFd,
    decoder: Decoder,
    readable: bool,
    writable: bool,
    /// The host's side is not connected.
    away: bool,
    /// The host has just connected and may be about to send its hello: nothing is
    /// written until then.
    quiet_until: Option<Instant>,
    /// The hello has arrived, and the driver may not have reported the connection
    /// yet: when it does, there is no hello to wait for.
    hello_came_first: bool,
    buffer: Vec<u8>,
}

impl Port {
    /// Opens the device at `path`.
    pub(crate) fn open(path: &str) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let want = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&edges, &file, epoll::EventData::new_u64(0), want)?;
        Ok(Self {
            file,
            edges,
            decoder: Decoder::default(),
            readable: true,
            writable: true,
            away: false,
            quiet_until: None,
            hello_came_first: false,
            buffer: vec![0; 32 * 1024],
        })
    }

    /// The descriptor to poll.
    pub(crate) fn edges(&self) -> BorrowedFd<'_> {
        self.edges.as_fd()
    }

    /// Consumes the edge for which [`Port::edges`] was readable.
    pub(crate) fn take_edge(&mut self) {
        let mut events = Vec::with_capacity(1);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.edges, rustix::buffer::spare_capacity(&mut events), Some(&now));
        self.readable = true;
        self.writable = true;
    }

    /// Whether there may be input that [`Port::read`] has not read yet.
    pub(crate) fn may_read(&self) -> bool {
        self.readable
    }

    /// Reads one buffer of input and adds the messages that it completes.
    pub(crate) fn read(&mut self, messages: &mut Vec<ToGuest>) {
        let got = rustix::io::read(&self.file, &mut self.buffer);
        if got == Err(Errno::INTR) {
            return;
        }
        let back = self.away && got != Ok(0);
        self.away = got == Ok(0);
        if back && !self.hello_came_first {
            self.quiet_until = Some(Instant::now() + HELLO_TIMEOUT);
        }
        match got {
            Ok(0) => self.readable = false,
            Ok(n) => self.decoder.feed(&self.buffer[..n], |message| messages.push(message)),
            // Any other error waits for the next edge, like "would block", and shows
            // that the driver has noticed the connection.
            Err(_) => {
                self.readable = false;
                self.hello_came_first = false;
            }
        }
    }

    /// Whether the host's side is closed.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// The host has sent its hello: what is written now is for it.
    pub(crate) fn on_hello(&mut self) {
        self.quiet_until = None;
        // Until a read shows otherwise.
        self.hello_came_first = true;
    }

    /// Until when nothing is written. A host that has just connected ignores what
    /// arrives before the answer to its hello. The hello may also have arrived
    /// *before* the driver reported the connection (data and control messages take
    /// different queues): see `hello_came_first`. A host that sends no hello must
    /// not silence the guest, so the wait is bounded.
    pub(crate) fn quiet_until(&self) -> Option<Instant> {
        self.quiet_until.filter(|_| !self.away)
    }

    /// Writes what the port takes now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.away || self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return 0;
        }
        self.quiet_until = None;
        while self.writable {
            match rustix::io::write(&self.file, bytes) {
                Ok(n) if n > 0 => return n,
                Err(Errno::INTR) => {}
                _ => self.writable = false,
            }
        }
        0
    }
}
