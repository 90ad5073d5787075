//! Where each app's newest snapshot is found, and each core's own map of apps.

use crate::table::app::App;
use arc_swap::{ArcSwap, Guard};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;

/// One app's place in the table.
#[derive(Debug)]
pub(crate) struct AppEntry {
    now: ArcSwap<App>,
    /// The app is no longer in the table.
    removed: AtomicBool,
}

impl AppEntry {
    pub(super) fn new(app: App) -> Self {
        Self { now: ArcSwap::from_pointee(app), removed: AtomicBool::new(false) }
    }

    /// The app as of now. Held over an `await` it would be as of then.
    pub(crate) fn load(&self) -> Guard<Arc<App>> {
        self.now.load()
    }

    pub(super) fn store(&self, app: App) {
        self.now.store(Arc::new(app));
    }
}

type Apps = HashMap<Arc<str>, Arc<AppEntry>>;

/// All apps by name. Cores look here once per app, see [`CachedTable`].
#[derive(Debug)]
pub(crate) struct SharedTable {
    shards: Vec<Mutex<Apps>>,
    hasher: RandomState,
    removals: AtomicU64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedTable {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            removals: AtomicU64::new(0),
        }
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Apps> {
        lock(&self.shards[self.hasher.hash_one(name) as usize % SHARDS])
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<AppEntry>> {
        self.shard(name).get(name).cloned()
    }

    /// Names of all apps.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.shards
            .iter()
            .flat_map(|shard| lock(shard).keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Makes `entry` what is found under `name`.
    pub(super) fn insert(&self, name: Arc<str>, entry: Arc<AppEntry>) {
        let before = self.shard(&name).insert(name, entry);
        if let Some(before) = before {
            self.note_removed(&before);
        }
    }

    /// Takes `entry` out, if it is what is found under `name`.
    pub(super) fn remove(&self, name: &str, entry: &Arc<AppEntry>) {
        let mut shard = self.shard(name);
        if shard.get(name).is_some_and(|found| Arc::ptr_eq(found, entry)) {
            shard.remove(name);
        }
        drop(shard);
        self.note_removed(entry);
    }

    fn note_removed(&self, entry: &AppEntry) {
        entry.removed.store(true, SeqCst);
        self.removals.fetch_add(1, SeqCst);
    }
}

/// One core's map of the apps it has had requests for. Its lock is this core's own.
#[derive(Debug)]
pub(crate) struct CachedTable {
    shared: Arc<SharedTable>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    apps: Apps,
    removals: u64,
}

impl CachedTable {
    pub(crate) fn new(shared: Arc<SharedTable>) -> Self {
        Self { shared, seen: Mutex::default() }
    }

    /// The app of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<AppEntry>> {
        let mut seen = lock(&self.seen);
        if let Some(entry) = seen.apps.get(name) {
            if !entry.removed.load(SeqCst) {
                return Some(entry.clone());
            }
            seen.apps.remove(name);
        }
        let entry = self.shared.get(name)?;
        seen.apps.insert(name.into(), entry.clone());
        Some(entry)
    }

    /// Forgets apps that are no longer in the table.
    pub(crate) fn sweep(&self) {
        let removals = self.shared.removals.load(SeqCst);
        let mut seen = lock(&self.seen);
        if seen.removals != removals {
            seen.removals = removals;
            seen.apps.retain(|_, entry| !entry.removed.load(SeqCst));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::Lab;

    #[tokio::test]
    async fn a_core_sees_new_apps_changes_and_removals() {
        let mut lab = Lab::new(&[80]);
        let cached = CachedTable::new(lab.table.clone());
        assert!(cached.get("web").is_none());
        lab.upsert("m1", |_| {});
        assert_eq!(cached.get("web").unwrap().load().rows.len(), 1);
        lab.upsert("m2", |_| {});
        assert_eq!(cached.get("web").unwrap().load().rows.len(), 2);
        lab.remove("m1");
        lab.remove("m2");
        assert_eq!(lock(&cached.seen).apps.len(), 1);
        cached.sweep();
        assert_eq!(lock(&cached.seen).apps.len(), 0, "what is gone is not kept");
        assert!(cached.get("web").is_none());
        lab.upsert("m1", |_| {});
        assert_eq!(cached.get("web").unwrap().load().rows.len(), 1);
    }
}
