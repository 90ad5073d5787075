//! What is deleted with an app.

use super::read::of_app;
use crate::{Error, Platform};
use model::id::AppId;
use store::Op;
use store::records;

/// The steps that delete the releases and builds of an app. Once it is marked for its deletion
/// none are added.
pub(crate) async fn forget(platform: &Platform, app: AppId) -> Result<Vec<Op>, Error> {
    let releases = of_app(platform, app).await?.releases.into_iter();
    let contents = releases.map(|release| Op::delete(records::release_key(release.id)));
    let lists = [records::app_releases_key(app), records::app_builds_key(app)].map(Op::delete);
    Ok(contents.chain(lists).collect())
}
