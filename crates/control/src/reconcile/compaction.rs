//! Forgets old revisions of the store, so that it grows with what is in it and not
//! with what has happened.

use crate::{Error, Platform};
use std::collections::VecDeque;
use std::time::Duration;
use store::records::APPS;
use store::{KeyRange, Revision};

const EVERY: Duration = Duration::from_secs(60);
/// Passes whose history is kept for watchers of the store: ten minutes.
const HISTORY: usize = 10;

pub(super) fn start(platform: &Platform) {
    let own = platform.clone();
    platform.tasks().spawn_until_stop(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = VecDeque::new();
        loop {
            ticks.tick().await;
            if let Err(err) = compact(&own, &mut seen).await {
                tracing::warn!(error = %err, "compact the global store");
            }
        }
    });
}

/// `seen` are the revisions of the last passes.
async fn compact(platform: &Platform, seen: &mut VecDeque<Revision>) -> Result<(), Error> {
    let now = platform.store().range(KeyRange::key(APPS), None, Some(1)).await?.revision;
    seen.push_back(now);
    if seen.len() <= HISTORY {
        return Ok(());
    }
    let former = seen.pop_front().unwrap_or(0);
    if former > 0 && former < now {
        platform.store().compact(former).await?;
    }
    Ok(())
}
