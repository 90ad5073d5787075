//! Claims of machines against what their hosts have: forgets machines that were
//! never created, frees the names of destroyed ones, and brings records up to date
//! whose create or update broke off before the last step.
//!
//! A machine that its store has no record of is left alone: the store may be empty
//! after a fault, or of another platform.

use super::driver::{Outcome, Reconciler};
use crate::apps::mark_deployed;
use crate::cache::Ownership;
use crate::hosts::{READ_TIMEOUT, ask_all, within};
use crate::machines::{
    CLAIM_LIFETIME, Release, holds_name, is_abandoned_claim, release, update_record,
};
use crate::{Error, Kind, Platform, hosts, lookup};
use host_api::{Host, HostError, MachineFilter};
use model::id::{AppId, HostId, MachineId};
use model::life::State;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use store::Change;
use store::records::{self, AppRecord, Listed, MachineRecord, NameRecord, ReleasedRecord, Stored};
use wire::machines::Machine;

/// The answer of a host about a machine.
struct OnHost {
    state: Option<State>,
    version: String,
    created_at: String,
}

/// The machines of each host that answered, by their ids.
type StatesByHost = HashMap<HostId, HashMap<String, OnHost>>;

pub(super) struct Claims;

impl Reconciler for Claims {
    const NAME: &'static str = "claims";
    const PREFIX: &'static str = records::MACHINES;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        // Records first: a machine that is created after that is not in them.
        let listed: Listed<MachineRecord> = lookup::list(platform, records::MACHINES).await?;
        let names: Listed<NameRecord> = lookup::list(platform, records::NAMES).await?;
        let named: HashSet<MachineId> =
            names.records.into_iter().map(|name| name.record.id).collect();
        let states = states_by_host(platform).await;
        report_unrecorded(platform, &listed, &states).await?;
        let mut items = Vec::new();
        for Stored { key, record, .. } in listed.records {
            let Some(id) = key.strip_prefix(records::MACHINES) else { continue };
            // A host that does not answer may have it.
            let Some(of_host) = states.get(&record.owner) else { continue };
            let is_named = id.parse().is_ok_and(|id| named.contains(&id));
            let settled = match of_host.get(id) {
                Some(OnHost { state: Some(State::Destroyed), .. }) => !is_named,
                Some(OnHost { version, .. }) => {
                    record.created && record.instance.is_some_and(|i| i.to_string() == *version)
                }
                None => false,
            };
            if !settled {
                items.push(id.to_owned());
            }
        }
        Ok(items)
    }

    fn changed(&self, change: &Change) -> Option<(String, Duration)> {
        let Change::Put(kv) = change else { return None };
        let record: MachineRecord = records::decode(&kv.key, &kv.value).ok()?;
        // By then the create that made the claim is over.
        let claimed = !record.created;
        claimed.then(|| (kv.key[records::MACHINES.len()..].to_owned(), CLAIM_LIFETIME))
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let Ok(id) = item.parse::<MachineId>() else { return Ok(Outcome::Done) };
        let Some(found) = lookup::by_id_in_store(platform, id).await? else {
            return Ok(Outcome::Done);
        };
        let record = &found.record;
        let host = hosts::get(platform, record.owner)?;
        let asked = host.machine(platform.context(READ_TIMEOUT), id);
        let own = (record.app, &record.name);
        match within(READ_TIMEOUT, asked).await {
            Ok(machine) if machine.state == State::Destroyed.as_str() => {
                release(platform, own, id, Release::Name).await?;
            }
            Ok(machine) => {
                // Before the machine's record, as when it is created.
                if !record.created {
                    mark_app(platform, record.app).await?;
                }
                update_record(platform, id, &machine).await?;
            }
            // The host has the last word: the list may be older than the machine.
            Err(HostError::NotFound(_)) if may_forget(platform, id, record).await? => {
                tracing::info!(machine = %id, app = %record.app, "forget an unknown machine");
                release(platform, own, id, Release::Record).await?;
            }
            Err(HostError::NotFound(_)) if record.created => {
                return Err(lost(id, record.owner));
            }
            Err(HostError::NotFound(_)) => return Ok(Outcome::Later(CLAIM_LIFETIME)),
            Err(err) => return Err(err.into()),
        }
        Ok(Outcome::Done)
    }
}

/// A machine that its host does not know needs no record if it was never created,
/// if it has been destroyed (then it has no name), or if its app is being deleted.
/// Any other was lost by its host: perhaps it runs without its data directory.
async fn may_forget(platform: &Platform, id: MachineId, record: &Ownership) -> Result<bool, Error> {
    if is_abandoned_claim(platform, record) {
        return Ok(true);
    }
    if !record.created {
        return Ok(false);
    }
    if !holds_name(platform, id, record).await? {
        return Ok(true);
    }
    Ok(app(platform, record.app).await?.is_none_or(|app| app.deleting))
}

fn lost(id: MachineId, host: HostId) -> Error {
    let why = format!("host {host} does not know machine {id}, which it has created");
    let hint = "check the data directory of the host; if the machine is lost, destroy it";
    Error::new(Kind::Unavailable, format!("{why}: {hint}"))
}

/// Reports machines that the store has no record of, older than any create under way.
async fn report_unrecorded(
    platform: &Platform,
    listed: &Listed<MachineRecord>,
    states: &StatesByHost,
) -> Result<(), Error> {
    let released: Listed<ReleasedRecord> = lookup::list(platform, records::RELEASED).await?;
    let readable = listed.records.iter().map(|of| &of.key);
    let keys = readable.chain(listed.unreadable.iter().map(|(key, _)| key));
    let recorded = keys.filter_map(|key| key.strip_prefix(records::MACHINES));
    let released = released.records.iter().filter_map(|of| of.key.strip_prefix(records::RELEASED));
    let known: HashSet<&str> = recorded.chain(released).collect();
    let lifetime = u64::try_from(CLAIM_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    // Times of this form are in order as texts.
    let young = rt::clock::rfc3339(platform.clock().now_ms().saturating_sub(lifetime));
    for (host, machines) in states {
        let unrecorded = machines.iter().filter(|(id, on_host)| {
            let vanished = matches!(on_host.state, Some(State::Destroyed | State::Destroying));
            !vanished && on_host.created_at < young && !known.contains(id.as_str())
        });
        let ids: Vec<&String> = unrecorded.map(|(id, _)| id).collect();
        if let Some(example) = ids.iter().min() {
            tracing::error!(
                %host,
                machines = ids.len(),
                %example,
                "a host has machines that the global store has no record of; they are left alone: \
                 check that this is the store of the platform, or restore it from a backup"
            );
        }
    }
    Ok(())
}

async fn states_by_host(platform: &Platform) -> StatesByHost {
    let filter = MachineFilter { include_deleted: true, summary: true, ..MachineFilter::default() };
    let ask = |host: Arc<dyn Host>| {
        let (filter, context) = (filter.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, filter).await }
    };
    let entry = |machine: Machine| {
        let state = State::parse(&machine.state);
        (machine.id, OnHost { state, version: machine.instance_id, created_at: machine.created_at })
    };
    let answers = ask_all(platform, ask).await.answered.into_iter();
    answers.map(|(host, machines)| (host, machines.into_iter().map(entry).collect())).collect()
}

async fn mark_app(platform: &Platform, id: AppId) -> Result<(), Error> {
    match app(platform, id).await? {
        Some(app) if !app.deployed => mark_deployed(platform, &app).await,
        _ => Ok(()),
    }
}

/// An app by its id: reads all apps, so only for what is rare.
async fn app(platform: &Platform, id: AppId) -> Result<Option<AppRecord>, Error> {
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let found = apps.records.into_iter().map(|app| app.record).find(|app| app.id == id);
    // The app may be one of those that cannot be read.
    match (found, apps.unreadable.into_iter().next()) {
        (None, Some((_, err))) => Err(err.into()),
        (found, _) => Ok(found),
    }
}
