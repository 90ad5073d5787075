//! Deleting an organization, with its networks, members, tokens and WireGuard peers.

use super::default::DEFAULT_ORG;
use crate::{Error, Kind, Platform, lookup, tokens, wireguard};
use store::records::{self, AppRecord, Listed, OrgRecord, Stored};
use store::{Compare, KeyRange, Op, Txn};

/// Deletes an organization that has no apps. Once it is marked, the reconciler finishes a
/// deletion that fails half way.
///
/// # Errors
/// It has apps, or is the one that every platform has.
pub(crate) async fn delete(platform: &Platform, slug: &str) -> Result<(), Error> {
    if slug == DEFAULT_ORG {
        let why = format!("organization {slug:?} cannot be deleted: every platform has it");
        return Err(Error::new(Kind::Conflict, why));
    }
    let stored = stored(platform, slug).await?.ok_or_else(|| lookup::no_org(slug))?;
    if !stored.record.deleting {
        refuse_with_apps(platform, slug).await?;
        // From here on no app, network, member or token is made in it.
        let marked = OrgRecord { deleting: true, ..stored.record.clone() };
        put(platform, &stored, &marked).await?;
    }
    let (own, slug) = (platform.clone(), slug.to_owned());
    platform.run_detached(async move { finish_deletion(&own, &slug).await }).await
}

/// Finishes the deletion of an organization that is marked for it.
///
/// # Errors
/// It has an app, which was made just before the mark: it stays.
pub(crate) async fn finish_deletion(platform: &Platform, slug: &str) -> Result<(), Error> {
    let stored = stored(platform, slug).await?.filter(|stored| stored.record.deleting);
    let Some(stored) = stored else { return Ok(()) };
    if let Err(err) = refuse_with_apps(platform, slug).await {
        if err.kind == Kind::Conflict {
            let kept = OrgRecord { deleting: false, ..stored.record.clone() };
            put(platform, &stored, &kept).await?;
        }
        return Err(err);
    }
    let org = &stored.record;
    delete_tokens(platform, org).await?;
    // None is added any more: that compares the record of the organization.
    wireguard::remove_all(platform, org).await?;
    let key = records::org_key(slug);
    let txn = Txn {
        compare: vec![Compare::Modified(key.clone(), stored.revision)],
        // A later organization of the same slug has none of its networks.
        then: vec![
            Op::delete(key),
            Op::Delete(KeyRange::prefix(&records::networks_of(slug))),
            Op::Delete(KeyRange::prefix(&records::members_of(org.id))),
        ],
        otherwise: vec![],
    };
    if !platform.store().txn(txn).await?.succeeded {
        return Err(Error::contention("the organization"));
    }
    // Those that were being made when it was marked.
    delete_tokens(platform, org).await
}

async fn stored(platform: &Platform, slug: &str) -> Result<Option<Stored<OrgRecord>>, Error> {
    Ok(records::get(platform.store(), &records::org_key(slug)).await?)
}

/// Replaces the record, unless another one has been written since it was read.
async fn put(
    platform: &Platform,
    stored: &Stored<OrgRecord>,
    record: &OrgRecord,
) -> Result<(), Error> {
    let compare = vec![Compare::Modified(stored.key.clone(), stored.revision)];
    let then = vec![Op::put(&stored.key, records::encode(record))];
    let txn = Txn { compare, then, otherwise: vec![] };
    if platform.store().txn(txn).await?.succeeded {
        return Ok(());
    }
    Err(Error::contention("the organization"))
}

async fn delete_tokens(platform: &Platform, org: &OrgRecord) -> Result<(), Error> {
    let own = tokens::of_org(platform, org).await?;
    tokens::delete(platform, &own).await
}

async fn refuse_with_apps(platform: &Platform, slug: &str) -> Result<(), Error> {
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let own = apps.records.iter().filter(|app| app.record.org == slug);
    let names: Vec<&str> = own.map(|app| app.record.name.as_str()).take(5).collect();
    if names.is_empty() {
        return Ok(());
    }
    let why = format!("organization {slug:?} has apps: {}", names.join(", "));
    Err(Error::new(Kind::Conflict, why).hint("destroy its apps first: `updraft apps destroy`"))
}
