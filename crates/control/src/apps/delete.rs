//! Deleting an app: it is marked, its machines and then its volumes are destroyed, then it is
//! forgotten.

use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT, within};
use crate::machines::{self, ListFilter, Release, list_app, release};
use crate::retry::Tries;
use crate::{Error, Kind, Platform, Rights, hosts, lookup, orgs, releases, tokens, volumes};
use futures_util::future::join_all;
use host_api::{Caller, HostError, WaitFor};
use model::id::{HostId, MachineId};
use model::life::State;
use std::time::Duration;
use store::records::{self, AppRecord, ReleasedRecord, Stored, encode};
use store::{Compare, KeyRange, Op, Txn};
use wire::machines::Machine;

/// Time that the answer to a delete waits for it to be done.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time that one machine has to be destroyed before the reconciler looks again.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(30);
/// Steps of one transaction; a store need not take more than 128.
const MAX_STEPS: usize = 100;

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The app is gone.
    Done,
    /// Something of it is still there; to be tried again later.
    Waiting(&'static str),
}

/// Records that the app is to be deleted, with its machines, running or not. The
/// deletion itself is carried out in the background, also after a crash; most are
/// done before this returns.
///
/// # Errors
/// There is no such app.
pub async fn request_deletion(platform: &Platform, app: &str) -> Result<(), Error> {
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let Stored { key, revision, record: mut app } = lookup::app(platform, app).await?;
        app.deleting = true;
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::put(key, encode(&app))],
            otherwise: vec![],
        };
        if !platform.store().txn(txn).await?.succeeded {
            continue;
        }
        // The control plane's own work: the leases of machines do not hold it up.
        let own = platform.on_behalf_of(Caller::Control, Rights::All, None);
        let done = platform.tasks().spawn(async move {
            if let Err(err) = finish_deletion(&own, &app).await {
                // The reconciler tries again.
                tracing::warn!(app = %app.name, error = %err, "delete an app");
            }
        });
        // Most clients use the name again at once.
        let _ = tokio::time::timeout(ANSWER_WITHIN, done).await;
        return Ok(());
    }
    Err(Error::contention("the app"))
}

/// Destroys the machines and volumes of an app that is being deleted, then forgets it. Does
/// what can be done now.
pub(crate) async fn finish_deletion(
    platform: &Platform,
    app: &AppRecord,
) -> Result<Progress, Error> {
    // Ids are all that is needed: configs may be large.
    let filter = ListFilter { summary: true, ..ListFilter::default() };
    let listed = list_app(platform, app.id, filter.clone()).await?;
    let destroyed = listed.machines.iter().map(|(host, machine)| destroy(platform, *host, machine));
    for outcome in join_all(destroyed).await {
        outcome?;
    }
    let left = list_app(platform, app.id, filter).await?;
    if !left.machines.is_empty() {
        return Ok(Progress::Waiting("machines are being destroyed"));
    }
    let names = KeyRange::prefix(&records::names_of(app.id));
    let names = platform.store().range(names, None, Some(1)).await?;
    if !names.entries.is_empty() {
        // A name without a machine is of a create that is under way or broke off,
        // or of a machine whose host cannot be reached.
        return Ok(Progress::Waiting("a machine is being created, or its host is away"));
    }
    // No machine is left that could have one.
    volumes::destroy_all_of(platform, app.id).await?;
    Ok(match forget(platform, app).await? {
        true => Progress::Done,
        false => Progress::Waiting("the app is being changed by others"),
    })
}

/// Destroys a machine through the host that its record names, or, if its record has been
/// released, through the host that listed it.
async fn destroy(platform: &Platform, listed_by: HostId, machine: &Machine) -> Result<(), Error> {
    let id: MachineId =
        machine.id.parse().map_err(|err| Error::internal(format!("list machines: {err}")))?;
    let record = lookup::by_id_in_store(platform, id).await?.map(|found| found.record);
    if record.is_none() {
        expect_released(platform, listed_by, id).await?;
    }
    let host = hosts::get(platform, record.as_ref().map_or(listed_by, |record| record.owner))?;
    let context = platform.context(CHANGE_TIMEOUT);
    let context = match &record {
        Some(record) => context.at(record.epoch),
        None => context,
    };
    match within(CHANGE_TIMEOUT, host.destroy(context, id, true)).await {
        Ok(()) | Err(HostError::NotFound(_)) => {}
        Err(err @ HostError::Conflict(_)) => {
            // Its name stays as long as it is not certain that the machine goes.
            let shown = host.machine(platform.context(READ_TIMEOUT), id);
            let state = State::parse(&within(READ_TIMEOUT, shown).await?.state);
            if !matches!(state, Some(State::Destroying | State::Destroyed)) {
                return Err(err.into());
            }
        }
        Err(err) => return Err(err.into()),
    }
    if let Some(record) = &record {
        release(platform, (record.app, &record.name), id, Release::Name).await?;
    }
    let wait = WaitFor {
        states: vec![State::Destroyed.as_str().into()],
        timeout_ms: u64::try_from(DESTROY_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        ..WaitFor::default()
    };
    let waited = host.wait(platform.context(DESTROY_TIMEOUT), id, wait);
    match within(DESTROY_TIMEOUT, waited).await {
        Ok(_) | Err(HostError::NotFound(_) | HostError::DeadlineExceeded(_)) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// The store has recorded that the machine has no owner any more: one of which it knows nothing
/// may be of another platform whose app has the same number.
async fn expect_released(platform: &Platform, host: HostId, id: MachineId) -> Result<(), Error> {
    let key = records::released_key(id);
    let released: Option<Stored<ReleasedRecord>> = records::get(platform.store(), &key).await?;
    if released.is_some() || lookup::by_id_in_store(platform, id).await?.is_some() {
        return Ok(());
    }
    let why = format!("host {host} has machine {id}, which the global store has no record of");
    Err(Error::new(Kind::Conflict, why)
        .hint("check that this is the store of the platform, or restore it from a backup"))
}

/// Forgets the app; false if it has been changed meanwhile.
async fn forget(platform: &Platform, app: &AppRecord) -> Result<bool, Error> {
    let key = records::app_key(app.name.as_str());
    let record: Option<Stored<AppRecord>> = records::get(platform.store(), &key).await?;
    // Two passes may meet here, and the name may belong to another app by then.
    let same = record.filter(|stored| stored.record.id == app.id && stored.record.deleting);
    let Some(stored) = same else { return Ok(true) };
    forget_machines(platform, app).await?;
    tokens::delete_of_app(platform, app).await?;
    let mut then = vec![
        Op::delete(&key),
        Op::delete(records::secrets_key(app.id)),
        Op::delete(records::secret_keys_key(app.id)),
    ];
    then.extend(releases::forget(platform, app.id).await?);
    if let Some(used) = &app.idempotency_key {
        let org = orgs::get(platform, &app.org).await?;
        then.push(Op::delete(records::idempotency_key(org.id, used)));
    }
    let compare = vec![Compare::Modified(key, stored.revision)];
    Ok(platform.store().txn(Txn { compare, then, otherwise: vec![] }).await?.succeeded)
}

/// Deletes the records of the app's destroyed machines.
async fn forget_machines(platform: &Platform, app: &AppRecord) -> Result<(), Error> {
    let prefix = records::machines_of(app.id);
    let of_app = platform.store().range(KeyRange::prefix(&prefix), None, None).await?.entries;
    let deletes: Vec<Op> = of_app
        .iter()
        .filter_map(|entry| entry.key.strip_prefix(&prefix)?.parse::<MachineId>().ok())
        .flat_map(|id| machines::forget(platform, app.id, id))
        .collect();
    for part in deletes.chunks(MAX_STEPS) {
        platform.store().txn(Txn { then: part.to_vec(), ..Txn::default() }).await?;
    }
    Ok(())
}
