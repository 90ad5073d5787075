//! The status of an app: `pending` until a host has taken a machine of it.

use crate::retry::change_record;
use crate::{Error, Platform};
use store::records::{self, AppRecord};

/// Records that the app has had a machine. Doing it again changes nothing, and
/// an app that is gone stays gone.
pub(crate) async fn mark_deployed(platform: &Platform, app: &AppRecord) -> Result<(), Error> {
    let key = records::app_key(app.name.as_str());
    change_record(platform, &key, "the app", |stored: AppRecord| {
        let is_new = stored.id == app.id && !stored.deployed;
        is_new.then_some(AppRecord { deployed: true, ..stored })
    })
    .await
    .map(drop)
}
