//! Forgets requests with idempotency keys after their time.

use crate::{Platform, idempotency};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(600);

pub(super) fn start(platform: &Platform) {
    let own = platform.clone();
    platform.tasks().spawn_until_stop(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            pass(&own).await;
        }
    });
}

pub(super) async fn pass(platform: &Platform) {
    if let Err(err) = idempotency::forget_old(platform).await {
        tracing::warn!(error = %err, "forget old requests");
    }
}
