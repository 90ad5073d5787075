//! Claims of machines against what their hosts have: forgets machines that were
//! never created, frees the names of destroyed ones, and brings records up to date
//! whose create or update broke off before the last step.

use super::driver::{Outcome, Reconciler};
use crate::apps::mark_deployed;
use crate::hosts::{READ_TIMEOUT, ask_all, within};
use crate::machines::{CLAIM_LIFETIME, is_abandoned_claim, mark_created, release};
use crate::{Error, Platform, hosts, resolve};
use host_api::{Host, HostError, MachineFilter};
use model::id::{AppId, HostId, MachineId};
use model::life::State;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use store::records::{self, AppRecord, MachineRecord, NameRecord, Stored};
use store::{Change, KeyRange};
use wire::machines::Machine;

/// Id, state and version of the machines of each host that answered.
type StatesByHost = HashMap<HostId, HashMap<String, (Option<State>, String)>>;

pub(super) struct Claims;

impl Reconciler for Claims {
    const NAME: &'static str = "claims";
    const PREFIX: &'static str = records::MACHINES;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        // Records first: a machine that is created after that is not in them.
        let records: Vec<Stored<MachineRecord>> =
            records::list(platform.store(), records::MACHINES).await?;
        let names: Vec<Stored<NameRecord>> =
            records::list(platform.store(), records::NAMES).await?;
        let named: HashSet<MachineId> = names.into_iter().map(|name| name.record.id).collect();
        let states = states_by_host(platform).await;
        let mut items = Vec::new();
        for Stored { key, record, .. } in records {
            let Some(id) = key.strip_prefix(records::MACHINES) else { continue };
            // A host that does not answer may have it.
            let Some(of_host) = states.get(&record.owner) else { continue };
            let is_named = id.parse().is_ok_and(|id| named.contains(&id));
            let settled = match of_host.get(id) {
                Some((Some(State::Destroyed), _)) => !is_named,
                Some((_, version)) => {
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
        let Some(found) = resolve::by_id(platform, id).await? else { return Ok(Outcome::Done) };
        let record = &found.record;
        let host = hosts::get(platform, record.owner)?;
        let asked = host.machine(platform.context(READ_TIMEOUT), id);
        let own = (record.app, &record.name);
        match within(READ_TIMEOUT, asked).await {
            Ok(machine) if machine.state == State::Destroyed.as_str() => {
                release(platform, own, id, false).await?;
            }
            Ok(machine) => {
                mark_created(platform, id, &machine).await?;
                mark_app(platform, record.app).await?;
            }
            // The host has the last word: the list may be older than the machine.
            Err(HostError::NotFound(_)) if is_abandoned_claim(platform, record) => {
                tracing::info!(machine = %id, app = %record.app, "forget an unknown machine");
                release(platform, own, id, true).await?;
            }
            Err(HostError::NotFound(_)) => return Ok(Outcome::Later(CLAIM_LIFETIME)),
            Err(err) => return Err(err.into()),
        }
        Ok(Outcome::Done)
    }
}

async fn states_by_host(platform: &Platform) -> StatesByHost {
    let filter = MachineFilter { include_deleted: true, summary: true, ..MachineFilter::default() };
    let ask = |host: Arc<dyn Host>| {
        let (filter, context) = (filter.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, filter).await }
    };
    let entry =
        |machine: Machine| (machine.id, (State::parse(&machine.state), machine.instance_id));
    let answers = ask_all(platform, ask).await.answered.into_iter();
    answers.map(|(host, machines)| (host, machines.into_iter().map(entry).collect())).collect()
}

async fn mark_app(platform: &Platform, id: AppId) -> Result<(), Error> {
    let apps = platform.store().range(KeyRange::prefix(records::APPS), None, None).await?;
    for entry in apps.entries {
        let app: AppRecord = records::decode(&entry.key, &entry.value)?;
        if app.id == id && !app.deployed {
            mark_deployed(platform, &app).await?;
        }
    }
    Ok(())
}
