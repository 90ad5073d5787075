//! The organizations of apps: a token for one app finds the organization of the app, though it reads
//! nothing of the organization. Clients ask for it before they deploy.

use super::read::readable_records;
use crate::{Error, Platform, orgs};
use std::collections::BTreeMap;
use wire::orgs::Org;

/// The organizations that the caller may read, and those of the apps that it may read, by slug.
///
/// # Errors
/// The store failed.
pub(crate) async fn organizations(platform: &Platform) -> Result<Vec<Org>, Error> {
    let own = orgs::list(platform).await?.orgs.into_iter();
    let mut all: BTreeMap<String, Org> = own.map(|org| (org.slug.clone(), org)).collect();
    for app in readable_records(platform).await? {
        if all.contains_key(&app.org) {
            continue;
        }
        // One that is being deleted has no apps that can be read.
        if let Ok(org) = orgs::get(platform, &app.org).await {
            all.insert(app.org, orgs::show(&org));
        }
    }
    Ok(all.into_values().collect())
}

/// The organization, if the caller may read an app in it.
///
/// # Errors
/// The store failed.
pub(crate) async fn organization_of_apps(
    platform: &Platform,
    slug: &str,
) -> Result<Option<Org>, Error> {
    if !readable_records(platform).await?.iter().any(|app| app.org == slug) {
        return Ok(None);
    }
    Ok(Some(orgs::show(&orgs::get(platform, slug).await?)))
}
