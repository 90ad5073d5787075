//! The machines of an organization, page by page.
//!
//! They are in the order of their last change: a machine that changes while the list is read
//! moves behind the page and is listed once more. The time of a change is the one of its
//! host's clock, and is taken shortly before the change can be seen. So a client that asks for
//! what has changed since its last list begins [`OVERLAP_MS`] before that list did: it may see
//! a machine twice, and misses none as long as clocks differ by less.

use super::{check_states, of_owners};
use crate::hosts::{self, READ_TIMEOUT, ask_all};
use crate::{Error, Platform, lookup, orgs};
use host_api::{Host, MachineFilter};
use model::id::{AppId, HostId, MachineId};
use rt::clock::{parse_rfc3339, rfc3339};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use store::records::{self, AppRecord};
use wire::machines::{Machine, OrgMachine, OrgMachines};

/// Most machines of one page, and those of a page if no number is asked for.
const MAX_PAGE: usize = 1000;

/// Which machines of an organization.
#[derive(Clone, Debug, Default)]
pub struct OrgFilter {
    /// Also destroyed ones, as long as they are remembered.
    pub include_deleted: bool,
    /// Only in one of these states; empty means any.
    pub states: Vec<String>,
    /// Only in this region.
    pub region: Option<String>,
    /// Only those that have changed after this moment (RFC 3339).
    pub updated_after: Option<String>,
    /// Without config and events.
    pub summary: bool,
    /// With their leases, without nonces.
    pub leases: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most machines of the page.
    pub limit: Option<usize>,
}

/// Time before a list began from which the next one begins.
const OVERLAP_MS: u64 = 5_000;

/// A place in the list: the last change of a machine in milliseconds, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64, MachineId);

impl Place {
    fn of(machine: &Machine) -> Option<Self> {
        let id = machine.id.parse().ok()?;
        // A machine whose record cannot be read has no time.
        Some(Self(parse_rfc3339(&machine.updated_at).unwrap_or(0), id))
    }
}

/// Where the next page of a list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    after: Place,
    /// Changes up to this moment are all in the list, as of its first page.
    complete_ms: u64,
}

impl Cursor {
    fn text(self) -> String {
        format!("{}.{}.{}", self.after.0, self.after.1, self.complete_ms)
    }

    fn parse(cursor: &str) -> Option<Self> {
        let mut parts = cursor.splitn(3, '.');
        let after = Place(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { after, complete_ms: parts.next()?.parse().ok()? })
    }
}

/// One page of an organization's machines. Machines of hosts that do not answer are left
/// out, and the regions of those hosts are named.
///
/// # Errors
/// There is no such organization, or the filter is not valid.
pub async fn list_org(
    platform: &Platform,
    org: &str,
    filter: OrgFilter,
) -> Result<OrgMachines, Error> {
    check_states(&filter.states)?;
    let (cursor, limit) = (cursor(&filter)?, limit(&filter)?);
    let after = cursor.map(|cursor| cursor.after).max(updated_after(&filter)?);
    // Taken before any host is asked.
    let complete_ms = platform.clock().now_ms().saturating_sub(OVERLAP_MS);
    let complete_ms = cursor.map_or(complete_ms, |cursor| cursor.complete_ms.min(complete_ms));
    let org = orgs::get(platform, org).await?;
    let apps = apps_of(platform, &org.slug).await?;
    let wanted = MachineFilter {
        org: Some(org.id),
        include_deleted: filter.include_deleted,
        states: filter.states.clone(),
        region: filter.region.clone(),
        summary: filter.summary,
        leases: filter.leases,
        ..MachineFilter::default()
    };
    let answers = ask_all(platform, |host: Arc<dyn Host>| {
        let (wanted, context) = (wanted.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, wanted).await }
    });
    let answers = answers.await;
    let error_regions = regions_of(platform, answers.failed.iter().map(|(host, _)| *host));
    let listed = answers.answered.into_iter();
    let listed = listed.flat_map(|(host, all)| all.into_iter().map(move |one| (host, one)));
    let mut machines =
        of_apps(platform, of_owners(platform, listed.collect()).await?, &apps).await?;
    machines.retain(|(place, _)| after.is_none_or(|after| *place > after));
    machines.sort_by_key(|(place, _)| *place);
    let more = machines.len() > limit;
    machines.truncate(limit);
    let last = machines.last().map(|(place, _)| *place);
    let next = last.filter(|_| more).map(|after| Cursor { after, complete_ms }.text());
    Ok(OrgMachines {
        next_cursor: next.unwrap_or_default(),
        last_machine_id: last.map(|place| place.1.to_string()).unwrap_or_default(),
        last_updated_at: last.map(|p| rfc3339(p.0.min(complete_ms))).unwrap_or_default(),
        machines: machines.into_iter().map(|(_, machine)| machine).collect(),
        error_regions,
    })
}

/// The place that the page begins after, if it is not the first.
fn cursor(filter: &OrgFilter) -> Result<Option<Cursor>, Error> {
    let rule = "must be `next_cursor` of an earlier page";
    let parse = |text| Cursor::parse(text).ok_or_else(|| Error::invalid("cursor", rule));
    filter.cursor.as_deref().map(parse).transpose()
}

fn updated_after(filter: &OrgFilter) -> Result<Option<Place>, Error> {
    let rule = "must be a moment such as 2026-11-20T10:00:00Z (RFC 3339)";
    let parse = |text| {
        let ms = parse_rfc3339(text).ok_or_else(|| Error::invalid("updated_after", rule));
        // Behind every machine of that millisecond.
        ms.map(|ms| Place(ms, MachineId::from_random(u64::MAX)))
    };
    filter.updated_after.as_deref().map(parse).transpose()
}

fn limit(filter: &OrgFilter) -> Result<usize, Error> {
    match filter.limit {
        None => Ok(MAX_PAGE),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(Error::invalid("limit", format!("must be from 1 to {MAX_PAGE}"))),
    }
}

/// The organization's apps, by their ids.
async fn apps_of(platform: &Platform, org: &str) -> Result<HashMap<AppId, String>, Error> {
    let all: records::Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let own = all.records.into_iter().map(|app| app.record);
    let own = own.filter(|app| app.org == org && !app.deleting);
    Ok(own.map(|app| (app.id, app.name.to_string())).collect())
}

/// The machines that belong to these apps by their records: a host of an earlier version
/// lists those of all organizations.
async fn of_apps(
    platform: &Platform,
    machines: Vec<Machine>,
    apps: &HashMap<AppId, String>,
) -> Result<Vec<(Place, OrgMachine)>, Error> {
    let mut kept = Vec::with_capacity(machines.len());
    for machine in machines {
        let Some(place) = Place::of(&machine) else { continue };
        let Some(found) = lookup::by_id(platform, place.1).await? else { continue };
        let app = found.record.app;
        let Some(name) = apps.get(&app) else { continue };
        kept.push((place, OrgMachine { app_id: app.to_string(), app_name: name.clone(), machine }));
    }
    Ok(kept)
}

/// Regions of hosts that do not answer, as they were when they last did.
fn regions_of(platform: &Platform, hosts: impl Iterator<Item = HostId>) -> Vec<String> {
    let known = hosts::last_regions(platform);
    let region = |host| known.get(&host).cloned().unwrap_or_else(|| "unknown".to_owned());
    hosts.map(region).collect::<BTreeSet<_>>().into_iter().collect()
}
