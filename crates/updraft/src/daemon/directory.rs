//! Which apps exist, for the edge beside a control plane.

use edge::ports::Directory;
use futures_util::StreamExt;
use model::id::AppId;
use rt::{Backoff, Rng, Tasks};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::records::{self, AppRecord};
use store::{KeyRange, Store, StoreError};

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
            let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
            let rng = Rng::from_os();
            loop {
                if let Err(err) = own.follow_once(&*store).await {
                    tracing::warn!(error = rt::chain(&err), "follow the names of apps");
                }
                tokio::time::sleep(pauses.pause(&rng)).await;
            }
        });
        directory
    }

    /// Reads all apps, then reads them again at each change until the watch ends.
    async fn follow_once(&self, store: &dyn Store) -> Result<(), StoreError> {
        let range = || KeyRange::prefix(records::APPS);
        loop {
            let all = store.range(range(), None, None).await?;
            let mut apps = BTreeMap::new();
            for kv in &all.entries {
                let app: AppRecord = records::decode(&kv.key, &kv.value)?;
                apps.insert(app.name.as_str().to_owned(), app.id);
            }
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = apps;
            let mut changes = store.watch(range(), all.revision + 1).await?;
            match changes.next().await {
                Some(change) => drop(change?),
                None => return Ok(()),
            }
        }
    }
}
