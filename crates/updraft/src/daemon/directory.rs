//! Which apps exist, for the edge beside a control plane.

use edge::ports::Directory;
use futures_util::StreamExt;
use model::id::AppId;
use rt::{Backoff, Rng, Tasks};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;
use store::records::{self, AppRecord};
use store::{Change, KeyRange, Store, StoreError};

/// All apps by name, kept equal to the store by a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct AppDirectory(Arc<RwLock<BTreeMap<String, AppId>>>);

impl Directory for AppDirectory {
    fn app_id(&self, name: &str) -> Option<AppId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

impl AppDirectory {
    /// Empty at first: an app is then known by its machines alone.
    pub(super) fn follow(store: Arc<dyn Store>, tasks: &Tasks) -> Self {
        let directory = Self::default();
        let own = directory.clone();
        tasks.spawn_until_stop(async move {
            let mut pauses = pauses();
            let rng = Rng::from_os();
            loop {
                own.follow_watch(&*store, &mut pauses).await;
                tokio::time::sleep(pauses.pause(&rng)).await;
            }
        });
        directory
    }

    /// Follows the apps until the watch ends. After a change, `pauses` begin again.
    async fn follow_watch(&self, store: &dyn Store, pauses_until_next: &mut Backoff) {
        let mut progressed = false;
        if let Err(err) = self.follow_once(store, &mut progressed).await {
            tracing::warn!(error = rt::chain(&err), "follow the names of apps");
        }
        if progressed {
            *pauses_until_next = pauses();
        }
    }

    /// Reads all apps, then applies the changes that the watch brings until it ends.
    /// `progressed`: there was a change.
    async fn follow_once(
        &self,
        store: &dyn Store,
        progressed: &mut bool,
    ) -> Result<(), StoreError> {
        let range = || KeyRange::prefix(records::APPS);
        let all = store.range(range(), None, None).await?;
        let mut apps = BTreeMap::new();
        for kv in &all.entries {
            let app: AppRecord = records::decode(&kv.key, &kv.value)?;
            apps.insert(app.name.as_str().to_owned(), app.id);
        }
        *self.apps() = apps;
        let mut changes = store.watch(range(), all.revision + 1).await?;
        while let Some(batch) = changes.next().await {
            self.apply(batch?.changes)?;
            *progressed = true;
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut apps = self.apps();
        for change in changes {
            match change {
                Change::Put(kv) => {
                    let app: AppRecord = records::decode(&kv.key, &kv.value)?;
                    apps.insert(app.name.as_str().to_owned(), app.id);
                }
                Change::Deleted(key) => {
                    apps.remove(key.strip_prefix(records::APPS).unwrap_or(&key));
                }
            }
        }
        Ok(())
    }

    fn apps(&self) -> RwLockWriteGuard<'_, BTreeMap<String, AppId>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pauses between watches.
fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use futures_util::stream::{self, BoxStream};
    use model::id::NetworkId;
    use store::{KeyValue, LeaseId, RangeResult, Revision, Txn, TxnResult, WatchBatch};

    /// A store with the app `first`, whose watch brings these changes and then ends.
    struct EndingWatch(Vec<Change>);

    #[async_trait]
    impl Store for EndingWatch {
        async fn range(
            &self,
            _range: KeyRange,
            _at: Option<Revision>,
            _limit: Option<usize>,
        ) -> Result<RangeResult, StoreError> {
            Ok(RangeResult { entries: vec![entry("first")], revision: 7, more: false })
        }

        async fn watch(
            &self,
            _range: KeyRange,
            from: Revision,
        ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
            assert_eq!(from, 8);
            let batch =
                |change: &Change| Ok(WatchBatch { revision: 8, changes: vec![change.clone()] });
            Ok(Box::pin(stream::iter(self.0.iter().map(batch).collect::<Vec<_>>())))
        }

        async fn txn(&self, _txn: Txn) -> Result<TxnResult, StoreError> {
            panic!("the directory only reads")
        }

        async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
            panic!("the directory only reads")
        }

        async fn keep_alive(&self, _lease: LeaseId) -> Result<(), StoreError> {
            panic!("the directory only reads")
        }

        async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
            panic!("the directory only reads")
        }

        async fn compact(&self, _revision: Revision) -> Result<(), StoreError> {
            panic!("the directory only reads")
        }
    }

    fn entry(name: &str) -> KeyValue {
        let record = AppRecord {
            name: name.parse().unwrap(),
            id: AppId(1),
            org: "personal".into(),
            network: "default".into(),
            network_number: NetworkId(1),
            created_ms: 0,
            deployed: false,
            deleting: false,
            idempotency_key: None,
            role: String::new(),
        };
        KeyValue {
            key: records::app_key(name),
            value: records::encode(&record),
            created: 1,
            modified: 1,
            version: 1,
            lease: None,
        }
    }

    #[tokio::test]
    async fn changes_of_the_watch_are_applied_and_pauses_begin_again_after_one() {
        let directory = AppDirectory::default();
        let rng = Rng::from_os();
        let mut tired = pauses();
        (0..20).for_each(|_| {
            tired.pause(&rng);
        });
        directory.follow_watch(&EndingWatch(Vec::new()), &mut tired).await;
        assert!(directory.app_id("first").is_some() && directory.app_id("second").is_none());
        assert!(tired.pause(&rng) >= Duration::from_secs(5), "a watch without a change");
        let changes = [Change::Put(entry("second")), Change::Deleted(entry("first").key)];
        directory.follow_watch(&EndingWatch(changes.into()), &mut tired).await;
        assert!(directory.app_id("first").is_none() && directory.app_id("second").is_some());
        assert!(tired.pause(&rng) <= Duration::from_millis(50));
    }
}
