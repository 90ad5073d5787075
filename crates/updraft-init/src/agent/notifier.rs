//! Events from worker threads to the event loop, with an eventfd to wake it.

use crate::boot::prepare::PrepareEvent;
use guest_protocol::{GuestStats, Process};
use rustix::event::EventfdFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

/// Stack of a worker thread: none does much.
const STACK: usize = 256 * 1024;

/// An event of a worker thread.
pub(crate) enum WorkerEvent {
    /// Of the thread that prepares the guest.
    Prepare(PrepareEvent),
    /// The answer to a request for the list of processes.
    Processes(u32, Vec<Process>),
    /// The answer to a request for the counters of the kernel.
    Stats(u32, Box<GuestStats>),
    /// The result of a health check.
    Probed(Probed),
    /// The machine's OpenID Connect token is in its file, or why not.
    OidcToken(Result<(), String>),
    /// The kernel announces changes of listeners from now on.
    ListenersWatched,
    /// A socket began or ceased to listen.
    ListenersChanged,
    /// The kernel cannot announce them.
    ListenersUnannounced(rustix::io::Errno),
}

/// The result of one run of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    /// Place of the unit.
    pub(crate) unit: usize,
    /// Which run of the unit; an earlier one's results do not count.
    pub(crate) run: u64,
    /// Place of the check.
    pub(crate) check: usize,
    /// Why it has failed, if so.
    pub(crate) result: Result<(), String>,
}

/// Sends events to the event loop.
#[derive(Clone)]
pub(crate) struct Notifier {
    events: Sender<WorkerEvent>,
    wakeup: Arc<OwnedFd>,
}

impl Notifier {
    /// A notifier, and the events that it and its clones send.
    pub(crate) fn new() -> rustix::io::Result<(Self, Receiver<WorkerEvent>)> {
        let wakeup = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (events, receiver) = mpsc::channel();
        Ok((Self { events, wakeup: Arc::new(wakeup) }, receiver))
    }

    /// Sends an event and wakes the event loop.
    pub(crate) fn notify(&self, event: WorkerEvent) {
        let _ = self.events.send(event);
        let _ = rustix::io::write(&*self.wakeup, &1u64.to_ne_bytes());
    }

    /// Readable when an event was sent.
    pub(crate) fn wakeup_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// Makes [`Notifier::wakeup_fd`] unreadable until the next event.
    pub(crate) fn clear_wakeup(&self) {
        let _ = rustix::io::read(&*self.wakeup, &mut [0u8; 8][..]);
    }

    /// Runs `work` on a thread of its own.
    pub(crate) fn spawn_worker(
        &self,
        name: &str,
        work: impl FnOnce(Self) + Send + 'static,
    ) -> std::io::Result<()> {
        let notifier = self.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread.spawn(move || work(notifier)).map(drop)
    }
}
