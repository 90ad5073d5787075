//! The agent port: a virtio-serial character device.
//!
//! While nobody is connected on the host's side the port reads as ended, cannot
//! be written, and a plain poll of it returns at once with a hang-up, for ever.
//! So it is waited for edge-triggered: one epoll instance holds the port alone,
//! and the loop polls that instance. The driver wakes the port's waiters on
//! input, on room for output, and when the host comes or goes; each is one edge.

use guest_protocol::{ToGuest, codec::Decoder};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a host that has just connected may take to greet.
const GREETING: Duration = Duration::from_millis(250);

/// The port, and what is known of it since the last edge.
pub(crate) struct Port {
    file: OwnedFd,
    edges: OwnedFd,
    decoder: Decoder,
    readable: bool,
    writable: bool,
    /// The host's side is closed.
    away: bool,
    /// The host came back a moment ago and may be about to greet.
    quiet_until: Option<Instant>,
    /// The host has greeted, and the driver may not have told of its coming:
    /// when it does, there is no greeting to wait for.
    greeted_early: bool,
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
            greeted_early: false,
            buffer: vec![0; 32 * 1024],
        })
    }

    /// What the loop polls for input.
    pub(crate) fn edges(&self) -> BorrowedFd<'_> {
        self.edges.as_fd()
    }

    /// Takes the edge that [`Port::edges`] announced.
    pub(crate) fn take_edge(&mut self) {
        let mut events = Vec::with_capacity(1);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.edges, rustix::buffer::spare_capacity(&mut events), Some(&now));
        self.readable = true;
        self.writable = true;
    }

    /// Whether there may be input that [`Port::read`] has not taken yet.
    pub(crate) fn may_read(&self) -> bool {
        self.readable
    }

    /// Takes one buffer of input and the messages that it completes.
    pub(crate) fn read(&mut self, messages: &mut Vec<ToGuest>) {
        let got = rustix::io::read(&self.file, &mut self.buffer);
        if got == Err(Errno::INTR) {
            return;
        }
        let back = self.away && got != Ok(0);
        self.away = got == Ok(0);
        if back && !self.greeted_early {
            self.quiet_until = Some(Instant::now() + GREETING);
        }
        match got {
            Ok(0) => self.readable = false,
            Ok(n) => self.decoder.feed(&self.buffer[..n], |message| messages.push(message)),
            // Anything else waits for the next edge, like "would block", and
            // says that the driver knows of the host.
            Err(_) => {
                self.readable = false;
                self.greeted_early = false;
            }
        }
    }

    /// Whether the host's side is closed.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// The host has greeted: what is written now is for it.
    pub(crate) fn greeted(&mut self) {
        self.quiet_until = None;
        // Until a read tells otherwise.
        self.greeted_early = true;
    }

    /// Until when nothing is written. A host that has just connected takes what
    /// comes before its greeting is answered for another session's and drops
    /// it. It may also have greeted *before* the driver told of its coming (data
    /// and news of the connection take different queues): see `greeted_early`.
    /// A host that does not greet must not make us mute, so this ends by time.
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
