//! Apps as clients see them.

use crate::access::{app_access, is_permitted};
use crate::machines::count_by_app;
use crate::{Error, Platform, Rights, lookup, orgs, volumes};
use macaroon::Action;
use model::id::{AppId, NetworkId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv6Addr;
use store::records::{self, AppRecord, Listed, OrgRecord, Stored};
use wire::machines::{App, AppList, Organization};

/// Apps by name that the caller may read, of one organization and with one role if these are
/// given.
///
/// # Errors
/// There is no such organization, or not for the caller.
pub async fn list(
    platform: &Platform,
    org: Option<&str>,
    role: Option<&str>,
) -> Result<AppList, Error> {
    // A token for some apps does not read the organization, but lists its apps in it.
    let not_visible = match org {
        Some(slug) => orgs::visible(platform, slug).await.err(),
        None => None,
    };
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let counts = count_by_app(platform, None).await?;
    let volumes = volumes::count_by_app(platform, None).await?;
    let mut orgs_by_slug: HashMap<String, OrgRecord> = HashMap::new();
    let mut shown = Vec::new();
    for Stored { record: app, .. } in apps.records {
        let of_org = org.is_none_or(|only| only == app.org);
        if app.deleting || !of_org || role.is_some_and(|role| role != app.role) {
            continue;
        }
        if !orgs_by_slug.contains_key(&app.org) {
            match orgs::get(platform, &app.org).await {
                Ok(org) => drop(orgs_by_slug.insert(app.org.clone(), org)),
                // It does not keep the apps of others from being listed.
                Err(err) => {
                    tracing::warn!(app = %app.name, error = %err, "read the organization of an app");
                    continue;
                }
            }
        }
        if !is_permitted(platform, &app_access(platform, &app, Action::READ).await?) {
            continue;
        }
        let counted = |counts: &BTreeMap<AppId, u64>| counts.get(&app.id).copied().unwrap_or(0);
        let counts = (counted(&counts), counted(&volumes));
        shown.push(show(platform, app.clone(), &orgs_by_slug[&app.org], counts));
    }
    if let Some(err) = not_visible.filter(|_| shown.is_empty()) {
        return Err(err);
    }
    Ok(AppList { total_apps: shown.len() as u64, apps: shown })
}

/// The records of the apps that the caller may read and that are not being deleted, by name.
///
/// # Errors
/// The store failed.
pub(crate) async fn readable_records(platform: &Platform) -> Result<Vec<AppRecord>, Error> {
    let mut apps = permitted_records(platform).await?;
    apps.retain(|app| !app.deleting);
    Ok(apps)
}

/// The same with those that are being deleted.
async fn permitted_records(platform: &Platform) -> Result<Vec<AppRecord>, Error> {
    let all: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let mut permitted = Vec::new();
    for Stored { record: app, .. } in all.records {
        // An app whose organization cannot be read belongs to no token for the moment.
        let Ok(access) = app_access(platform, &app, Action::READ).await else { continue };
        if is_permitted(platform, &access) {
            permitted.push(app);
        }
    }
    Ok(permitted)
}

/// Which apps a caller may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readable {
    /// All that there are, and the platform itself.
    All,
    /// These.
    Apps(BTreeSet<AppId>),
}

/// The apps that the caller may read.
///
/// # Errors
/// The store failed.
pub async fn readable(platform: &Platform) -> Result<Readable, Error> {
    if *platform.rights() == Rights::All {
        return Ok(Readable::All);
    }
    let apps = permitted_records(platform).await?;
    Ok(Readable::Apps(apps.into_iter().map(|app| app.id).collect::<BTreeSet<AppId>>()))
}

/// One app.
///
/// # Errors
/// There is no such app.
pub async fn get(platform: &Platform, app: &str) -> Result<App, Error> {
    let app = lookup::app(platform, app).await?.record;
    let org = orgs::get(platform, &app.org).await?;
    let machines = count_by_app(platform, Some(app.id)).await?.remove(&app.id).unwrap_or(0);
    let volumes = volumes::count_by_app(platform, Some(app.id)).await?;
    let volumes = volumes.get(&app.id).copied().unwrap_or(0);
    Ok(show(platform, app, &org, (machines, volumes)))
}

pub(super) fn show(
    platform: &Platform,
    app: AppRecord,
    org: &OrgRecord,
    (machine_count, volume_count): (u64, u64),
) -> App {
    let config = platform.config();
    let cname_target = format!("{}.{}", app.name, config.domain);
    let port = config.edge_port.map(|port| format!(":{port}")).unwrap_or_default();
    let number = |id: u32| i32::try_from(id).unwrap_or(i32::MAX);
    App {
        id: app.name.to_string(),
        status: if app.deployed { "deployed" } else { "pending" }.into(),
        organization: Organization {
            name: org.name.clone(),
            slug: org.slug.clone(),
            internal_numeric_id: number(org.id.0),
        },
        network: app.network,
        network_cidr: Some(network_cidr(app.network_number)),
        internal_numeric_id: number(app.id.0),
        machine_count,
        volume_count,
        hostname: Some(format!("{cname_target}{port}")),
        cname_target,
        app_role: app.role,
        name: app.name.to_string(),
    }
}

/// The 6PN prefix of a network; see `model::address` for the layout.
fn network_cidr(NetworkId(number): NetworkId) -> String {
    let first = Ipv6Addr::from_bits((0xfdaa_u128 << 112) | (u128::from(number) << 80));
    format!("{first}/48")
}
