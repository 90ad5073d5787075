//! Tries of a transaction against other writers, bounded by time.

use crate::Platform;
use rt::Backoff;
use std::time::Duration;
use tokio::time::Instant;

/// Time for all tries; each time that one is lost, another writer has won.
const TIME: Duration = Duration::from_secs(10);

/// The tries of one operation.
pub(crate) struct Tries {
    end: Instant,
    backoff: Backoff,
    begun: bool,
}

impl Tries {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
        Self { end: Instant::now() + TIME, backoff, begun: false }
    }

    /// Whether to try once more; before each try but the first there is a
    /// pause of random length.
    pub(crate) async fn again(&mut self, platform: &Platform) -> bool {
        if std::mem::replace(&mut self.begun, true) {
            tokio::time::sleep(self.backoff.pause(platform.rng())).await;
        }
        Instant::now() < self.end
    }
}
