//! Deleting an organization, with its networks, members and tokens.

use super::default::DEFAULT_ORG;
use crate::{Error, Kind, Platform, lookup, tokens};
use store::records::{self, AppRecord, Listed, OrgRecord, Stored};
use store::{Compare, KeyRange, Op, Txn};

/// Steps of one transaction; a store need not take more than 128.
const STEPS: usize = 90;

/// Deletes an organization that has no apps.
///
/// # Errors
/// It has apps, or is the one that every platform has.
pub(crate) async fn delete(platform: &Platform, slug: &str) -> Result<(), Error> {
    if slug == DEFAULT_ORG {
        let why = format!("organization {slug:?} cannot be deleted: every platform has it");
        return Err(Error::new(Kind::Conflict, why));
    }
    let org = lookup::org(platform, slug).await?;
    let key = records::org_key(slug);
    refuse_with_apps(platform, slug).await?;
    let stored: Option<Stored<OrgRecord>> = records::get(platform.store(), &key).await?;
    let Some(stored) = stored.filter(|stored| stored.record.id == org.id) else {
        return Err(lookup::no_org(slug));
    };
    // First its record: a create of an app that is under way fails from then on.
    let compare = vec![Compare::Modified(key.clone(), stored.revision)];
    let txn = Txn { compare, then: vec![Op::delete(&key)], otherwise: vec![] };
    if !platform.store().txn(txn).await?.succeeded {
        return Err(Error::contention("the organization"));
    }
    if let Err(err) = refuse_with_apps(platform, slug).await {
        // One was made between the check and the delete: the organization stays.
        let back = vec![Op::put(key, records::encode(&stored.record))];
        platform.store().txn(Txn { then: back, ..Txn::default() }).await?;
        return Err(err);
    }
    forget(platform, &org).await
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

/// Deletes what is left of an organization without a record. Nothing of it leads anywhere, as
/// its number is never used again.
async fn forget(platform: &Platform, org: &OrgRecord) -> Result<(), Error> {
    let own = tokens::of_org(platform, org).await?;
    tokens::delete(platform, &own).await?;
    let mut ops = Vec::new();
    for prefix in [records::members_of(org.id), records::networks_of(&org.slug)] {
        let entries = platform.store().range(KeyRange::prefix(&prefix), None, None).await?.entries;
        ops.extend(entries.into_iter().map(|entry| Op::delete(entry.key)));
    }
    for then in ops.chunks(STEPS) {
        platform.store().txn(Txn { then: then.to_vec(), ..Txn::default() }).await?;
    }
    Ok(())
}
