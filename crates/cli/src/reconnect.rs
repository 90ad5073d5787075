//! Streams that are continued after a lost connection.

use crate::context::Context;
use crate::error::{Exit, Result};
use rt::Backoff;
use std::time::Duration;

/// Tries in a row to get a lost connection back.
const TRIES: u32 = 10;

/// Connects again, with growing pauses while the platform cannot be reached or fails; the
/// error of the last try, or of one that the platform refuses.
pub(crate) async fn reconnect<T>(
    cx: &Context<'_>,
    connect: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut left = TRIES;
    loop {
        tokio::time::sleep(backoff.pause(&cx.env.rng)).await;
        left -= 1;
        match connect().await {
            Err(err) if left > 0 && matches!(err.kind, Exit::Unreachable | Exit::Failed) => {}
            other => return other,
        }
    }
}
