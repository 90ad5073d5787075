//! An idle timer that only runs while something is waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Notices when nothing has come for a time. Its timer is only made once
/// something is waited for.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    counting: bool,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        // A century is as good as for ever, and does not overflow.
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        Self { limit: limit.min(LONGEST), timer: None, counting: false }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Something has come.
    pub(crate) fn end(&mut self) {
        self.counting = false;
    }

    /// Nothing has come: ready once that has been so for the time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.counting {
            self.counting = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_any_length_is_no_overflow() {
        let mut silence = Silence::new(Duration::MAX);
        let ended = std::future::poll_fn(|cx| Poll::Ready(silence.poll(cx).is_ready())).await;
        assert!(!ended);
    }
}
