//! What is reported about a release: its status, and notes.

use super::{OfApp, permit_deploy};
use crate::error::shortened;
use crate::retry::Tries;
use crate::{Error, Kind, Platform, lookup};
use model::id::ReleaseId;
use model::release::Status;
use serde_json::Value;
use store::records::{
    self, AppRecord, AppReleasesRecord, ReleaseContentRecord, ReleaseRecord, Stored, encode,
};
use store::{Compare, Op, Txn};

/// Bytes of the notes about a release as JSON.
const MAX_METADATA: usize = 16 * 1024;

/// A change of a release.
#[derive(Clone, Debug, Default)]
pub struct ReleaseChange {
    /// The new status; `None` or empty keeps the present one.
    pub status: Option<String>,
    /// An object that replaces the notes; null keeps them.
    pub metadata: Value,
}

/// Changes a release. An app whose release is complete is deployed.
///
/// # Errors
/// There is none with this id for the caller, it may not deploy the app, a field is not valid, or
/// the release has another status from which this one does not follow.
pub async fn change(platform: &Platform, id: &str, change: ReleaseChange) -> Result<OfApp, Error> {
    let Ok(id) = id.parse::<ReleaseId>() else { return Err(no_release(id)) };
    let app = app_of(platform, id).await?;
    permit_deploy(platform, app.name.as_str()).await.map_err(|err| match err.kind {
        Kind::NotFound => no_release(&id.to_string()),
        _ => err,
    })?;
    let (status, metadata) = check(change)?;
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let Some(found) = find(platform, id).await? else { break };
        let is_noted =
            metadata.as_ref().is_none_or(|notes| *notes == found.content.record.metadata);
        let next = status.map_or(Ok(found.release.status), |to| found.release.status.after(to));
        let next = next.map_err(|err| {
            Error::new(Kind::Conflict, format!("release {id}: {err}"))
                .hint("make a new release for another deployment")
        })?;
        if next == found.release.status && is_noted {
            return Ok(OfApp { app: found.app.record, release: found.release });
        }
        let updated_ms = platform.clock().now_ms();
        let release = ReleaseRecord { status: next, updated_ms, ..found.release.clone() };
        let txn = txn(found.with(&release), metadata.clone());
        if platform.store().txn(txn).await?.succeeded {
            return Ok(OfApp { app, release });
        }
    }
    match find(platform, id).await? {
        Some(_) => Err(Error::contention("the release")),
        None => Err(no_release(&id.to_string())),
    }
}

fn check(change: ReleaseChange) -> Result<(Option<Status>, Option<Value>), Error> {
    let status = change.status.filter(|status| !status.is_empty());
    let status = status.map(|name| {
        Status::parse(&name).ok_or_else(|| {
            let all = Status::ALL.map(Status::as_str).join(", ");
            let given = shortened(&name, 40);
            Error::invalid("status", format!("must be one of {all}, not {given:?}"))
        })
    });
    let metadata = match change.metadata {
        Value::Null => None,
        Value::Object(notes) => Some(Value::Object(notes)),
        _ => return Err(Error::invalid("metadata", "must be an object")),
    };
    let size = metadata.as_ref().map_or(0, |notes| notes.to_string().len());
    if size > MAX_METADATA {
        let rule = format!("must have at most {MAX_METADATA} bytes, not {size}");
        return Err(Error::invalid("metadata", rule));
    }
    Ok((status.transpose()?, metadata))
}

/// A release in all of its records.
struct Found {
    app: Stored<AppRecord>,
    all: Stored<AppReleasesRecord>,
    content: Stored<ReleaseContentRecord>,
    release: ReleaseRecord,
}

impl Found {
    /// The records with the release in another state.
    fn with(self, release: &ReleaseRecord) -> Self {
        let mut all = self.all;
        for own in all.record.releases.iter_mut().filter(|own| own.id == release.id) {
            *own = release.clone();
        }
        Self { all, release: release.clone(), ..self }
    }
}

/// The transaction that writes the changed records, if nothing else has changed them.
fn txn(found: Found, metadata: Option<Value>) -> Txn {
    let Found { app, all, content, release } = found;
    let mut compare = vec![
        Compare::Modified(all.key.clone(), all.revision),
        Compare::Modified(content.key.clone(), content.revision),
    ];
    let mut then = vec![Op::put(all.key, encode(&all.record))];
    if let Some(metadata) = metadata {
        let noted = ReleaseContentRecord { metadata, ..content.record };
        then.push(Op::put(content.key, encode(&noted)));
    }
    if release.status == Status::Complete && !app.record.deployed {
        compare.push(Compare::Modified(app.key.clone(), app.revision));
        then.push(Op::put(app.key, encode(&AppRecord { deployed: true, ..app.record })));
    }
    Txn { compare, then, otherwise: vec![] }
}

/// The app of a release.
async fn app_of(platform: &Platform, id: ReleaseId) -> Result<AppRecord, Error> {
    let none = || no_release(&id.to_string());
    let content: Option<Stored<ReleaseContentRecord>> =
        records::get(platform.store(), &records::release_key(id)).await?;
    let app = content.ok_or_else(none)?.record.app;
    let app = lookup::app_by_id(platform, app).await?;
    app.filter(|app| !app.deleting).ok_or_else(none)
}

/// A release as it is now; `None` if it or its app is gone.
async fn find(platform: &Platform, id: ReleaseId) -> Result<Option<Found>, Error> {
    let store = platform.store();
    let content: Option<Stored<ReleaseContentRecord>> =
        records::get(store, &records::release_key(id)).await?;
    let Some(content) = content else { return Ok(None) };
    let Some(named) = lookup::app_by_id(platform, content.record.app).await? else {
        return Ok(None);
    };
    let app: Option<Stored<AppRecord>> =
        records::get(store, &records::app_key(named.name.as_str())).await?;
    let is_own = |app: &Stored<AppRecord>| app.record.id == named.id && !app.record.deleting;
    let Some(app) = app.filter(is_own) else { return Ok(None) };
    let all: Option<Stored<AppReleasesRecord>> =
        records::get(store, &records::app_releases_key(named.id)).await?;
    let Some(all) = all else { return Ok(None) };
    let release = all.record.releases.iter().find(|release| release.id == id).cloned();
    Ok(release.map(|release| Found { app, all, content, release }))
}

fn no_release(id: &str) -> Error {
    Error::not_found(format!("there is no release {:?}", shortened(id, 80)))
        .hint("the id of a release is in the answer to its create")
}
