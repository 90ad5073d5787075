//! Fills the tables from the store and keeps them up to date by its watch.

use super::RecordsCache;
use super::tables::Tables;
use futures_util::StreamExt;
use rt::{Backoff, Rng};
use std::ops::Bound;
use std::time::Duration;
use store::{KeyRange, Store, StoreError};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// Keeps the cache up to date; never ends. While the store fails the cache is not used.
pub(crate) async fn follow(store: &dyn Store, cache: &RecordsCache, rng: &Rng) {
    let mut backoff = Backoff::new(FIRST_RETRY, MAX_RETRY);
    loop {
        match fill(store, cache).await {
            Ok(from) => {
                backoff = Backoff::new(FIRST_RETRY, MAX_RETRY);
                let ended = apply(store, cache, from).await;
                cache.discard();
                tracing::info!(reason = ended, "the records in memory are read again");
            }
            Err(err) => {
                tracing::warn!(error = %rt::chain(&err), "read the records into memory");
            }
        }
        tokio::time::sleep(backoff.pause(rng)).await;
    }
}

/// Fills the tables as of one moment; its revision.
async fn fill(store: &dyn Store, cache: &RecordsCache) -> Result<u64, StoreError> {
    let mut tables = Tables::default();
    let mut revision = None;
    for prefix in Tables::PREFIXES {
        let range = store.range(KeyRange::prefix(prefix), revision, None).await?;
        revision = revision.or(Some(range.revision));
        range.entries.iter().for_each(|kv| tables.put(kv));
    }
    let revision = revision.unwrap_or_default();
    cache.fill(tables, revision);
    Ok(revision)
}

/// Applies each transaction after `filled_at`, until one is missing or the watch ends.
async fn apply(store: &dyn Store, cache: &RecordsCache, filled_at: u64) -> String {
    // Each transaction changes some key, so that no revision is missing in a watch of
    // all keys: a gap means that something was missed.
    let everything = KeyRange { start: Bound::Unbounded, end: Bound::Unbounded };
    let mut changes = match store.watch(everything, filled_at + 1).await {
        Ok(changes) => changes,
        Err(err) => return rt::chain(&err),
    };
    loop {
        match changes.next().await {
            Some(Ok(batch)) if cache.apply(&batch) => {}
            Some(Ok(batch)) => return format!("revision {} was not expected", batch.revision),
            Some(Err(err)) => return rt::chain(&err),
            None => return "the watch has ended".to_owned(),
        }
    }
}
