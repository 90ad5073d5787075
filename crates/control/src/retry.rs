//! Tries of a transaction against other writers, bounded by time.

use crate::{Error, Platform, lookup};
use model::id::AppId;
use rt::Backoff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use store::records::{self, Stored, encode};
use store::{Compare, Op, Txn};
use tokio::time::Instant;

/// Time for all tries; each time that one is lost, another writer has won.
const TIME: Duration = Duration::from_secs(10);

/// The tries of one operation.
pub(crate) struct Tries {
    end: Instant,
    backoff: Backoff,
    begun: bool,
}

impl Tries {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
        Self { end: Instant::now() + TIME, backoff, begun: false }
    }

    /// Whether to try once more; before each try but the first there is a
    /// pause of random length.
    pub(crate) async fn again(&mut self, platform: &Platform) -> bool {
        if std::mem::replace(&mut self.begun, true) {
            tokio::time::sleep(self.backoff.pause(platform.rng())).await;
        }
        Instant::now() < self.end
    }
}

/// Changes a record, unless there is none. `change` gives the new record from the one
/// that is stored, or `None` if nothing is to be written; it is called again if the
/// record was written meanwhile. `what` names the record in the error.
///
/// Returns false if there is no record.
pub(crate) async fn change_record<T: Serialize + DeserializeOwned>(
    platform: &Platform,
    key: &str,
    what: &str,
    change: impl Fn(T) -> Option<T>,
) -> Result<bool, Error> {
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let stored: Option<Stored<T>> = records::get(platform.store(), key).await?;
        let Some(Stored { revision, record, .. }) = stored else { return Ok(false) };
        let Some(record) = change(record) else { return Ok(true) };
        let txn = Txn {
            compare: vec![Compare::Modified(key.to_owned(), revision)],
            then: vec![Op::put(key, encode(&record))],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(true);
        }
    }
    Err(Error::contention(what))
}

/// A record that an app has beside its own, at most one of each kind.
#[derive(Clone, Copy)]
pub(crate) struct OfApp {
    /// Its key.
    pub(crate) key: fn(AppId) -> String,
    /// Its name in an error.
    pub(crate) name: &'static str,
}

/// Changes such a record; one that is absent is the default one. `change` gives its result and
/// the new record, or `None` if nothing is to be written; it is called again if the record
/// or the app was written meanwhile, so that nothing is written for an app that is being deleted.
pub(crate) async fn change_of_app<T: Default + Serialize + DeserializeOwned, R>(
    platform: &Platform,
    app: &str,
    what: OfApp,
    change: impl Fn(AppId, T) -> Result<(R, Option<T>), Error>,
) -> Result<R, Error> {
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let app = lookup::app(platform, app).await?;
        let key = (what.key)(app.record.id);
        let stored: Option<Stored<T>> = records::get(platform.store(), &key).await?;
        let (revision, record) =
            stored.map_or_else(Default::default, |stored| (stored.revision, stored.record));
        let (result, record) = change(app.record.id, record)?;
        let Some(record) = record else { return Ok(result) };
        let txn = Txn {
            compare: vec![
                Compare::Modified(key.clone(), revision),
                Compare::Modified(app.key, app.revision),
            ],
            then: vec![Op::put(key, encode(&record))],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(result);
        }
    }
    Err(Error::contention(what.name))
}
