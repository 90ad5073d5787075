//! Which secrets hosts are known to have.

use model::id::{AppId, HostId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The versions that hosts have confirmed since this process started.
#[derive(Debug, Default)]
pub(crate) struct Delivered(Mutex<HashMap<(HostId, AppId), u64>>);

impl Delivered {
    fn lock(&self) -> MutexGuard<'_, HashMap<(HostId, AppId), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host has confirmed this version or a later one.
    pub(crate) fn has(&self, host: HostId, app: AppId, version: u64) -> bool {
        self.lock().get(&(host, app)).is_some_and(|confirmed| *confirmed >= version)
    }

    /// The host has confirmed this version.
    pub(crate) fn confirm(&self, host: HostId, app: AppId, version: u64) {
        self.lock().insert((host, app), version);
    }

    /// Forgets apps that have no secrets any more.
    pub(crate) fn retain(&self, apps: &BTreeSet<AppId>) {
        self.lock().retain(|(_, app), _| apps.contains(app));
    }
}
