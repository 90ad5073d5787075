//! The store as the control plane uses it: the cache learns the revision of each answer.

use super::RecordsCache;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use store::{
    KeyRange, LeaseId, RangeResult, Revision, Store, StoreError, Txn, TxnResult, WatchBatch,
};

/// A store that reports to the cache which revisions its answers have shown.
pub(crate) struct TrackedStore {
    store: Arc<dyn Store>,
    cache: Arc<RecordsCache>,
}

impl TrackedStore {
    pub(crate) fn new(store: Arc<dyn Store>, cache: Arc<RecordsCache>) -> Self {
        Self { store, cache }
    }
}

#[async_trait]
impl Store for TrackedStore {
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError> {
        let result = self.store.range(range, at, limit).await?;
        self.cache.note(result.revision);
        Ok(result)
    }

    /// One whose conditions do not hold counts, too: what is read next shows why.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let result = self.store.txn(txn).await?;
        self.cache.note(result.revision);
        Ok(result)
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
        self.store.watch(range, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}
