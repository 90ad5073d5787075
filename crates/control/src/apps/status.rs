//! The status of an app: `pending` until a host has taken a machine of it.

use crate::retry::Tries;
use crate::{Error, Platform};
use store::records::{self, AppRecord, Stored, encode};
use store::{Compare, Op, Txn};

/// Records that the app has had a machine. Doing it again changes nothing, and
/// an app that is gone stays gone.
pub(crate) async fn mark_deployed(platform: &Platform, app: &AppRecord) -> Result<(), Error> {
    let key = records::app_key(app.name.as_str());
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let stored: Option<Stored<AppRecord>> = records::get(platform.store(), &key).await?;
        let same = stored.filter(|stored| stored.record.id == app.id && !stored.record.deployed);
        let Some(Stored { revision, mut record, .. }) = same else { return Ok(()) };
        record.deployed = true;
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::put(&key, encode(&record))],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(());
        }
    }
    Err(Error::contention("the app"))
}
