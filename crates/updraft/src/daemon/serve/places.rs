//! Places for connections to the API.
//!
//! A client that has shown no valid token cannot keep others out: strangers have
//! all places but a few, which are kept for clients that have shown one, and when
//! the strangers' are taken, the oldest stranger is cut off for the next.

use control::http_api::Connection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places of one listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Most connections without a token.
    max_strangers: usize,
    /// Oldest first.
    strangers: Mutex<VecDeque<Stranger>>,
}

struct Stranger {
    connection: Connection,
    cut_off: CancellationToken,
    /// The place, as long as the connection is open.
    place: Weak<OwnedSemaphorePermit>,
}

/// One place; dropping it frees it.
pub(super) struct Place {
    /// For the extensions of the connection's requests.
    pub(super) connection: Connection,
    /// The connection is to end at once.
    pub(super) cut_off: CancellationToken,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Places {
    /// `all` places, of which `kept` are not for strangers.
    pub(super) fn new(all: usize, kept: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        let max_strangers = all.saturating_sub(kept).max(1);
        Self { free, max_strangers, strangers: Mutex::default() }
    }

    /// A place for the next connection; waits while all are taken by clients that
    /// have shown a token.
    pub(super) async fn take(&self) -> Place {
        if self.free.available_permits() == 0 || self.count() >= self.max_strangers {
            self.cut_off_oldest();
        }
        // The semaphore is never closed.
        let permit = match self.free.clone().acquire_owned().await {
            Ok(permit) => Arc::new(permit),
            Err(_) => std::future::pending().await,
        };
        let (connection, cut_off) = (Connection::default(), CancellationToken::new());
        let place = Arc::downgrade(&permit);
        let stranger = Stranger { connection: connection.clone(), cut_off: cut_off.clone(), place };
        self.lock().push_back(stranger);
        Place { connection, cut_off, _permit: permit }
    }

    fn count(&self) -> usize {
        let mut strangers = self.lock();
        strangers.retain(|stranger| {
            stranger.place.strong_count() > 0 && !stranger.connection.has_shown_token()
        });
        strangers.len()
    }

    fn cut_off_oldest(&self) {
        self.count();
        let oldest = self.lock().pop_front();
        if let Some(oldest) = oldest {
            tracing::debug!("a connection without a token is cut off for the next");
            oldest.cut_off.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Stranger>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
