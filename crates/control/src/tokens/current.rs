//! The tokens of a request as their holder sees them.

use super::find::Found;
use super::show::id;
use crate::orgs::DEFAULT_ORG;
use crate::{Error, Platform, lookup};
use macaroon::Caveat;
use rt::clock::rfc3339;
use std::collections::BTreeSet;
use store::records::{self, AppRecord, Listed, OrgRecord};
use wire::tokens::{CurrentToken, CurrentTokens, TokenApp};

/// What the holder of these tokens may know about them.
///
/// # Errors
/// The store failed.
pub(crate) async fn current(platform: &Platform, tokens: &[Found]) -> Result<CurrentTokens, Error> {
    let orgs: Listed<OrgRecord> = lookup::list(platform, records::ORGS).await?;
    let mut shown = Vec::new();
    for Found { record, grant, .. } in tokens {
        let org = orgs.records.iter().find(|org| Some(org.record.id) == record.org);
        // A token for everything is shown with the organization that every platform has.
        let slug = org.map_or(DEFAULT_ORG, |org| &org.record.slug);
        let machines = grant.as_ref().map(|grant| &*grant.caveats).unwrap_or_default();
        shown.push(CurrentToken {
            token_id: id(&record.sha256),
            name: record.name.clone(),
            kind: record.kind.clone(),
            org_slug: slug.to_owned(),
            organization: slug.to_owned(),
            apps: apps_of(platform, record).await?,
            user: record.member.clone(),
            restricted_to_machine: machines.iter().find_map(only_machine),
            source_machine_id: platform.source().source_machine.clone(),
            expires_at: record.expires_ms.map(rfc3339),
        });
    }
    Ok(CurrentTokens { tokens: shown })
}

async fn apps_of(
    platform: &Platform,
    record: &records::TokenRecord,
) -> Result<Vec<TokenApp>, Error> {
    if record.apps.is_empty() {
        return Ok(vec![]);
    }
    let wanted: BTreeSet<_> = record.apps.iter().copied().collect();
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let own = apps.records.into_iter().map(|stored| stored.record);
    let own = own.filter(|app| wanted.contains(&app.id));
    Ok(own.map(|app| TokenApp { name: app.name.to_string() }).collect())
}

/// The machine that alone may use the token.
fn only_machine(caveat: &Caveat) -> Option<String> {
    match caveat {
        Caveat::FromMachineSource { id } => Some(id.clone()),
        _ => None,
    }
}
