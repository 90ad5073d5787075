//! Lists of machines over all hosts: of an app here, of an organization in [`org`].

mod org;

pub use org::{OrgFilter, list_org};

use crate::error::shortened;
use crate::hosts::{READ_TIMEOUT, ask_all, within};
use crate::{Error, Platform, lookup};
use host_api::{Host, HostError, MachineFilter};
use model::id::{AppId, HostId, MachineId};
use model::life::State;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use store::KeyRange;
use store::records::{self, MachineRecord, NameRecord};
use wire::machines::{ImageRef, Machine};

/// Which machines of an app.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Also destroyed ones, as long as they are remembered.
    pub include_deleted: bool,
    /// Only in one of these states; empty means any.
    pub states: Vec<String>,
    /// Only in this region.
    pub region: Option<String>,
    /// Only with all of these labels.
    pub metadata: BTreeMap<String, String>,
    /// Without config and events.
    pub summary: bool,
    /// With their leases, without nonces.
    pub leases: bool,
    /// Only on this host.
    pub host: Option<HostId>,
}

/// Machines with their hosts, and the hosts that answered.
#[derive(Debug)]
pub(crate) struct Listed {
    /// With the host that has it. A machine whose ownership has moved may be there
    /// twice until its former owner has given it up.
    pub(crate) machines: Vec<(HostId, Machine)>,
    pub(crate) answered: HashSet<HostId>,
}

/// Machines of an app, oldest first. Those of a host that does not answer, or is
/// not known, are listed by their records, with the `host_status` `unreachable`, and those
/// that their host does not know any more, or cannot read, with the `host_status` `lost`;
/// their state and region are not known, so that a filter of these excludes them.
///
/// # Errors
/// There is no such app, or a state of the filter does not exist.
pub async fn list(
    platform: &Platform,
    app: &str,
    filter: ListFilter,
) -> Result<Vec<Machine>, Error> {
    check_states(&filter.states)?;
    let app = lookup::app(platform, app).await?.record.id;
    let by_record = filter.states.is_empty() && filter.region.is_none();
    let (labels, host) = (filter.metadata.clone(), filter.host);
    let is_wanted = |of: HostId| host.is_none_or(|host| host == of);
    let Listed { mut machines, answered } = list_app(platform, app, filter).await?;
    machines.retain(|(of, _)| is_wanted(*of));
    if by_record {
        let listed = machines.iter().filter_map(|(_, machine)| machine.id.parse().ok()).collect();
        let hosts = HostsOfList { is_wanted: &is_wanted, answered: &answered };
        machines.extend(recorded(platform, app, &listed, hosts, &labels).await?);
    }
    let mut machines = of_owners(platform, machines).await?;
    machines.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    Ok(machines)
}

fn check_states(states: &[String]) -> Result<(), Error> {
    match states.iter().find(|state| State::parse(state).is_none()) {
        None => Ok(()),
        Some(state) => {
            let state = shortened(state, 40);
            Err(Error::invalid("state", format!("there is no state {state:?}")))
        }
    }
}

pub(crate) async fn list_app(
    platform: &Platform,
    app: AppId,
    filter: ListFilter,
) -> Result<Listed, Error> {
    let ListFilter { include_deleted, states, region, metadata, summary, leases, .. } = filter;
    let filter = MachineFilter {
        app: Some(app),
        include_deleted,
        states,
        region,
        metadata,
        summary,
        leases,
        org: None,
    };
    let ask = |host: Arc<dyn Host>| {
        let (filter, context) = (filter.clone(), platform.context(READ_TIMEOUT));
        async move { host.machines(context, filter).await }
    };
    let answers = ask_all(platform, ask).await;
    let answered = answers.answered.iter().map(|(host, _)| *host).collect();
    let of_host = |(host, machines): (HostId, Vec<Machine>)| {
        machines.into_iter().map(move |machine| (host, machine))
    };
    let machines = answers.answered.into_iter().flat_map(of_host).collect();
    Ok(Listed { machines, answered })
}

/// The hosts that a list is made of.
#[derive(Clone, Copy)]
struct HostsOfList<'a, F> {
    is_wanted: &'a F,
    answered: &'a HashSet<HostId>,
}

/// Machines that no host has listed, as their records describe them: those of hosts that
/// are absent, and those that their hosts have lost.
async fn recorded(
    platform: &Platform,
    app: AppId,
    listed: &HashSet<MachineId>,
    hosts: HostsOfList<'_, impl Fn(HostId) -> bool>,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<(HostId, Machine)>, Error> {
    let mut machines = Vec::new();
    let unlisted = |name: &NameRecord| !listed.contains(&name.id);
    for name in lookup::below(platform, &records::names_of(app), unlisted).await? {
        let id = name.record.id;
        let Some(found) = lookup::by_id(platform, id).await? else { continue };
        let owner = found.record.owner;
        let answers = hosts.answered.contains(&owner);
        if !(hosts.is_wanted)(owner) || (answers && !found.record.created) {
            continue;
        }
        let Some(record) = lookup::whole_record(platform, id).await? else { continue };
        let config = record.config.as_ref();
        let has = config.and_then(|config| config.metadata.as_ref());
        let label = |(key, value)| has.is_some_and(|has| has.get(key) == Some(value));
        if !labels.iter().all(label) {
            continue;
        }
        let mut machine = unreachable_machine(id, &record);
        if answers {
            if !is_lost(platform, owner, id).await {
                continue;
            }
            machine.host_status = "lost".into();
        }
        machines.push((record.owner, machine));
    }
    Ok(machines)
}

/// The owner, which has answered, does not know the machine or cannot read its record. One
/// that it has and did not list does not match the filter.
async fn is_lost(platform: &Platform, owner: HostId, id: MachineId) -> bool {
    let Some(host) = platform.hosts().get(owner) else { return false };
    let asked = within(READ_TIMEOUT, host.machine(platform.context(READ_TIMEOUT), id)).await;
    matches!(asked, Err(HostError::NotFound(_) | HostError::Internal(_)))
}

/// One entry per machine: of one that several hosts have, that of its owner.
async fn of_owners(
    platform: &Platform,
    machines: Vec<(HostId, Machine)>,
) -> Result<Vec<Machine>, Error> {
    let mut times: HashMap<&str, usize> = HashMap::with_capacity(machines.len());
    machines.iter().for_each(|(_, machine)| *times.entry(&machine.id).or_default() += 1);
    times.retain(|_, times| *times > 1);
    let mut owners = HashMap::with_capacity(times.len());
    for id in times.into_keys() {
        owners.insert(id.to_owned(), owner(platform, id).await?);
    }
    let of_owner = |(host, machine): (HostId, Machine)| {
        let moved = owners.get(&machine.id).is_some_and(|owner| *owner != Some(host));
        (!moved).then_some(machine)
    };
    Ok(machines.into_iter().filter_map(of_owner).collect())
}

async fn owner(platform: &Platform, id: &str) -> Result<Option<HostId>, Error> {
    let Ok(id) = id.parse() else { return Ok(None) };
    let found = lookup::by_id(platform, id).await?;
    Ok(found.map(|machine| machine.record.owner))
}

/// A machine whose host cannot be asked.
pub(in crate::machines) fn unreachable_machine(id: MachineId, record: &MachineRecord) -> Machine {
    let version = record.instance.map(|version| version.to_string()).unwrap_or_default();
    let since = rt::clock::rfc3339(record.claimed_ms);
    Machine {
        id: id.to_string(),
        name: record.name.to_string(),
        state: "unknown".into(),
        region: record.region.clone().unwrap_or_default(),
        image_ref: ImageRef::default(),
        instance_id: version.clone(),
        version,
        private_ip: String::new(),
        created_at: since.clone(),
        updated_at: since,
        config: None,
        incomplete_config: record.config.clone().map(Arc::new),
        events: vec![],
        checks: vec![],
        containers: vec![],
        busy_until: None,
        nonce: None,
        lease: None,
        host_status: "unreachable".into(),
        host_features: vec![],
        cordoned: false,
        isolation: None,
        private_ipv4: None,
        secrets_version: None,
        skip_secrets: false,
    }
}

/// Machines by app: those that hold a name.
pub(crate) async fn count_by_app(
    platform: &Platform,
    app: Option<AppId>,
) -> Result<BTreeMap<AppId, u64>, Error> {
    let prefix = app.map_or_else(|| records::NAMES.to_owned(), records::names_of);
    let names = platform.store().range(KeyRange::prefix(&prefix), None, None).await?;
    let mut counts = BTreeMap::new();
    for entry in names.entries {
        let app = entry.key.strip_prefix(records::NAMES).and_then(|rest| rest.split('/').next());
        if let Some(app) = app.and_then(|app| app.parse().ok()) {
            *counts.entry(AppId(app)).or_default() += 1;
        }
    }
    Ok(counts)
}
