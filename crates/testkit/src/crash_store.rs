//! A global store with points before and after each call, at which its caller may
//! be killed.

use crate::CrashPoints;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use store::{
    KeyRange, LeaseId, RangeResult, Revision, Store, StoreError, Txn, TxnResult, WatchBatch,
};

/// A store behind crash points. What the store has acknowledged it keeps.
#[derive(Clone)]
pub struct CrashStore {
    store: Arc<dyn Store>,
    points: CrashPoints,
}

impl std::fmt::Debug for CrashStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashStore").field("points", &self.points).finish_non_exhaustive()
    }
}

impl CrashStore {
    /// `store` behind `points`, which other fakes may share.
    pub fn new(store: Arc<dyn Store>, points: CrashPoints) -> Self {
        Self { store, points }
    }

    async fn between<T>(&self, name: &str, call: impl Future<Output = T>) -> T {
        self.points.pass(&format!("before {name}")).await;
        let answer = call.await;
        self.points.pass(&format!("after {name}")).await;
        answer
    }
}

#[async_trait]
impl Store for CrashStore {
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError> {
        // A read changes nothing: one point is enough.
        self.points.pass("range").await;
        self.store.range(range, at, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.between("txn", self.store.txn(txn)).await
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
        self.store.watch(range, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.between("grant", self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.between("keep_alive", self.store.keep_alive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.between("revoke", self.store.revoke(lease)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.between("compact", self.store.compact(revision)).await
    }
}
