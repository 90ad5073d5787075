//! Making a release: its version is given in the transaction that records it.

use super::keep::make_room;
use super::{OfApp, permit_deploy};
use crate::error::shortened;
use crate::idempotency::RequestId;
use crate::retry::Tries;
use crate::{Error, Platform, lookup};
use model::id::ReleaseId;
use model::release::{Status, Strategy};
use serde_json::Value;
use store::records::{
    self, AppReleasesRecord, ReleaseContentRecord, ReleaseRecord, Stored, encode,
};
use store::{Compare, Op, Txn};

/// Bytes of a definition as JSON. Those of real apps have a few thousand.
const MAX_DEFINITION: usize = 256 * 1024;
/// Characters of the reference of an image.
const MAX_IMAGE: usize = 1024;
/// Characters of the name of the one who made it.
const MAX_USER: usize = 200;

/// A release that is to be made.
#[derive(Clone, Debug, Default)]
pub struct NewRelease {
    /// Name of the app.
    pub app: String,
    /// The config of the app, an object.
    pub definition: Value,
    /// The image of the machines; may be empty.
    pub image: String,
    /// The build of the image; 0 if there is none.
    pub build_id: i64,
    /// How machines are replaced; empty means one part of them after the other.
    pub strategy: String,
    /// The member whose token is used, else the name of the token.
    pub user: String,
}

/// Records a release with the next version of its app, in the status `pending`. Repeated with the
/// same idempotency key it is the same release.
///
/// # Errors
/// The caller may not deploy the app, or a field is not valid.
pub async fn create(platform: &Platform, ask: NewRelease) -> Result<OfApp, Error> {
    if ask.app.is_empty() {
        return Err(Error::invalid("app_name", "is required"));
    }
    permit_deploy(platform, &ask.app).await?;
    let strategy = check(&ask)?;
    let random = || ReleaseId::from_random(platform.rng().wide_bits());
    let id = platform.request().map_or_else(random, RequestId::release_id);
    let now_ms = platform.clock().now_ms();
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let app = lookup::app(platform, &ask.app).await?;
        let key = records::app_releases_key(app.record.id);
        let stored: Option<Stored<AppReleasesRecord>> =
            records::get(platform.store(), &key).await?;
        let (revision, mut record) =
            stored.map_or_else(Default::default, |stored| (stored.revision, stored.record));
        if let Some(made) = record.releases.iter().find(|release| release.id == id) {
            return Ok(OfApp { app: app.record, release: made.clone() });
        }
        let removed = make_room(&mut record);
        record.last_version = record
            .last_version
            .checked_add(1)
            .ok_or_else(|| Error::internal("all versions of the app are in use"))?;
        let release = ReleaseRecord {
            id,
            version: record.last_version,
            status: Status::Pending,
            strategy,
            image: ask.image.clone(),
            build_id: ask.build_id,
            user: shortened(&ask.user, MAX_USER),
            description: "Release".into(),
            reason: String::new(),
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        record.releases.push(release.clone());
        let content = ReleaseContentRecord {
            app: app.record.id,
            version: release.version,
            definition: ask.definition.clone(),
            metadata: Value::Null,
        };
        let content_key = records::release_key(id);
        let mut then = vec![
            Op::put(key.clone(), encode(&record)),
            Op::put(content_key.clone(), encode(&content)),
        ];
        then.extend(removed.into_iter().map(|id| Op::delete(records::release_key(id))));
        let compare = vec![
            Compare::Modified(key, revision),
            Compare::Absent(content_key),
            // Nothing is made for an app that is being deleted.
            Compare::Modified(app.key, app.revision),
        ];
        if platform.store().txn(Txn { compare, then, otherwise: vec![] }).await?.succeeded {
            return Ok(OfApp { app: app.record, release });
        }
    }
    Err(Error::contention("the list of the app's releases"))
}

fn check(ask: &NewRelease) -> Result<Strategy, Error> {
    if !ask.definition.is_object() {
        return Err(Error::invalid("definition", "must be an object: the config of the app"));
    }
    let size = ask.definition.to_string().len();
    if size > MAX_DEFINITION {
        let rule = format!("must have at most {MAX_DEFINITION} bytes, not {size}");
        return Err(Error::invalid("definition", rule));
    }
    if ask.image.chars().count() > MAX_IMAGE || ask.image.chars().any(char::is_control) {
        let rule = format!("must have at most {MAX_IMAGE} characters, none of them for control");
        return Err(Error::invalid("image", rule));
    }
    if ask.build_id < 0 {
        return Err(Error::invalid("build_id", "must be the id of a build, or 0"));
    }
    if ask.strategy.is_empty() {
        return Ok(Strategy::default());
    }
    Strategy::parse(&ask.strategy).ok_or_else(|| {
        let all = Strategy::ALL.map(Strategy::as_str).join(", ");
        let given = shortened(&ask.strategy, 40);
        Error::invalid("strategy", format!("must be one of {all}, not {given:?}"))
    })
}
