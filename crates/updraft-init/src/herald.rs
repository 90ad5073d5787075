//! What helping threads have to tell the loop, and the bell that calls it.

use crate::prepare::Prepared;
use guest_protocol::Process;
use rustix::event::EventfdFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

/// Stack of the helping threads: they do little.
const STACK: usize = 256 * 1024;

/// What a helping thread has to tell.
pub(crate) enum News {
    /// Words for the log.
    Log(String),
    /// Nothing that was begun before the freeze is under way.
    Settled,
    /// The orders are carried out, but for the main process.
    Prepared(Result<Prepared, String>),
    /// The answer to a question for processes.
    Processes(u32, Vec<Process>),
    /// Changes of listeners are announced from now on.
    ListenersWatched,
    /// A socket began or ceased to listen.
    ListenersChanged,
    /// They are not announced.
    ListenersUnannounced(rustix::io::Errno),
}

/// The way of news to the loop.
#[derive(Clone)]
pub(crate) struct Herald {
    news: Sender<News>,
    bell: Arc<OwnedFd>,
}

impl Herald {
    /// A herald, and where the loop finds its news.
    pub(crate) fn new() -> rustix::io::Result<(Self, Receiver<News>)> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (news, receiver) = mpsc::channel();
        Ok((Self { news, bell: Arc::new(bell) }, receiver))
    }

    /// Tells the loop.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.news.send(news);
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }

    /// Readable when there is news.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell.
    pub(crate) fn heard(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8][..]);
    }

    /// Does something on a thread of its own.
    pub(crate) fn help(
        &self,
        name: &str,
        work: impl FnOnce(Self) + Send + 'static,
    ) -> std::io::Result<()> {
        let herald = self.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread.spawn(move || work(herald)).map(drop)
    }
}
