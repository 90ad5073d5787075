//! An idle timer that only runs while something is waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A century is as good as no limit, and does not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Notices when nothing has come for a time. Its timer is only made once
/// something is waited for, and is used again for the next wait.
#[derive(Debug, Default)]
pub struct Silence {
    timer: Option<Pin<Box<Sleep>>>,
    counting: bool,
}

impl Silence {
    /// Something has come.
    pub fn end(&mut self) {
        self.counting = false;
    }

    /// Nothing has come: ready once that has been so for `limit`, as it was given when
    /// the wait began.
    pub fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let begin = || Instant::now() + limit.min(LONGEST);
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.counting {
                    timer.as_mut().reset(begin());
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(begin()))),
        };
        self.counting = true;
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_any_length_is_no_overflow() {
        let mut silence = Silence::default();
        let ended = poll_fn(|cx| Poll::Ready(silence.poll(cx, Duration::MAX).is_ready())).await;
        assert!(!ended);
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_counts_by_itself() {
        let (mut silence, second) = (Silence::default(), Duration::from_secs(1));
        for limit in [second, second * 3, second * 2] {
            let begun = Instant::now();
            poll_fn(|cx| silence.poll(cx, limit)).await;
            assert_eq!(begun.elapsed(), limit);
            silence.end();
        }
    }
}
