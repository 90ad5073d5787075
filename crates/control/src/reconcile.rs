//! Passes that take no input: they compare what is recorded with what the
//! hosts have, and finish what a crash or a lost answer left half done.

use crate::api::{Api, ApiError};
use crate::ports::{KeyRange, Op, Revision, Txn};
use crate::records::{self, AppRecord, OwnedRecord, Stored};
use model::id::{HostId, MachineId};
use model::life::State;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use wire::machines::Machine;
use wire::worker::{HostError, MachineFilter, WaitFor};

const EVERY: Duration = Duration::from_secs(10);
/// Time one machine of a deleted app has to go before the next pass looks again.
const GOING: Duration = Duration::from_secs(30);

/// Passes whose history is kept for those who watch the store: ten minutes.
const HISTORY: usize = 60;

/// Steps of one transaction; a store need not take more than 128.
const PART: usize = 100;

/// Id and state of the machines of each host that answered.
type Known = HashMap<HostId, HashMap<String, State>>;

impl Api {
    /// Starts the reconcilers; they end with the tasks of the world.
    pub fn run(&self) {
        let api = self.clone();
        self.world.tasks.spawn_until_stop(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut seen = VecDeque::new();
            loop {
                ticks.tick().await;
                api.reconcile().await;
                if let Err(err) = api.compact(&mut seen).await {
                    tracing::warn!(error = err.error, "compact the global store");
                }
            }
        });
    }

    /// Forgets what the store was like some passes ago, so that it grows with
    /// what is in it and not with what has happened. `seen` are the revisions
    /// of the last passes.
    async fn compact(&self, seen: &mut VecDeque<Revision>) -> Result<(), ApiError> {
        let now = self.store().range(KeyRange::key(records::APPS), None, 1).await?.revision;
        seen.push_back(now);
        if seen.len() <= HISTORY {
            return Ok(());
        }
        let former = seen.pop_front().unwrap_or(0);
        if former > 0 && former < now {
            self.store().compact(former).await?;
        }
        Ok(())
    }

    /// One pass of every reconciler. What fails is logged and tried again in
    /// the next.
    pub async fn reconcile(&self) {
        if let Err(err) = self.reconcile_claims().await {
            tracing::warn!(error = err.error, "reconcile claims of machines");
        }
        if let Err(err) = self.reconcile_deletions().await {
            tracing::warn!(error = err.error, "reconcile deletions of apps");
        }
    }

    /// Forgets machines that their hosts do not know, and frees the names of
    /// destroyed ones. A young claim stays: its create may be on the way.
    async fn reconcile_claims(&self) -> Result<(), ApiError> {
        // Records first: a machine that is created after that is not in them.
        let owned: Vec<Stored<OwnedRecord>> =
            records::list(self.store(), records::MACHINES).await?;
        let known = self.known_machines().await;
        for Stored { key, record, .. } in owned {
            let Some(id) = key.strip_prefix(records::MACHINES) else { continue };
            let Ok(machine) = id.parse::<MachineId>() else { continue };
            // A host that does not answer may have it.
            let Some(of_host) = known.get(&machine.host()) else { continue };
            match of_host.get(id) {
                Some(State::Destroyed) => {
                    self.release(&record.app, &record.name, id, false).await?
                }
                Some(_) => {}
                None if !self.is_old(&record) => {}
                None => {
                    // The list may be older than the machine: the host has the last word.
                    if self.is_unknown(machine).await {
                        tracing::info!(machine = id, app = record.app, "forget an unknown machine");
                        self.release(&record.app, &record.name, id, true).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn known_machines(&self) -> Known {
        let filter =
            MachineFilter { include_deleted: true, summary: true, ..MachineFilter::default() };
        let mut known = Known::new();
        for (number, host) in self.world.hosts.all() {
            match host.machines(filter.clone()).await {
                Ok(machines) => {
                    let entry =
                        |machine: Machine| Some((machine.id, State::parse(&machine.state)?));
                    known.insert(number, machines.into_iter().filter_map(entry).collect());
                }
                Err(err) => tracing::warn!(host = number.0, error = %err, "list machines"),
            }
        }
        known
    }

    /// The owning host itself says that there is no such machine.
    async fn is_unknown(&self, id: MachineId) -> bool {
        let Ok(host) = self.host(id) else { return false };
        matches!(host.machine(&id.to_string()).await, Err(HostError::NotFound(_)))
    }

    async fn reconcile_deletions(&self) -> Result<(), ApiError> {
        let apps: Vec<Stored<AppRecord>> = records::list(self.store(), records::APPS).await?;
        for app in apps.into_iter().filter(|app| app.record.deleting) {
            self.finish_deletion(&app.record.name).await?;
        }
        Ok(())
    }

    /// Destroys the machines of an app that is to be gone, then forgets it.
    /// Does what can be done now; a later pass does the rest.
    pub(crate) async fn finish_deletion(&self, app: &str) -> Result<(), ApiError> {
        let machines = self.machines_of(app, MachineFilter::default()).await?;
        let destroyed = machines.iter().map(|machine| self.clear_away(app, machine));
        for outcome in futures_util::future::join_all(destroyed).await {
            outcome?;
        }
        let left = self.machines_of(app, MachineFilter::default()).await?;
        let names = self.store().range(KeyRange::prefix(&records::names_of(app)), None, 1).await?;
        if !left.is_empty() || !names.entries.is_empty() {
            // A name without a machine is a create on its way, or cut off.
            return Ok(());
        }
        self.forget(app).await
    }

    async fn clear_away(&self, app: &str, machine: &Machine) -> Result<(), ApiError> {
        let id: MachineId =
            machine.id.parse().map_err(|err| ApiError::internal(format!("{err}")))?;
        let host = self.host(id)?;
        match host.destroy(&machine.id, true).await {
            Ok(()) | Err(HostError::NotFound(_) | HostError::Conflict(_)) => {}
            Err(err) => return Err(err.into()),
        }
        self.release(app, &machine.name, &machine.id, false).await?;
        let wait = WaitFor {
            states: vec![State::Destroyed.as_str().into()],
            timeout_ms: u64::try_from(GOING.as_millis()).unwrap_or(u64::MAX),
            ..WaitFor::default()
        };
        match host.wait(&machine.id, wait).await {
            Ok(_) | Err(HostError::NotFound(_) | HostError::Timeout(_)) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    async fn forget(&self, app: &str) -> Result<(), ApiError> {
        let key = records::app_key(app);
        let record: Option<Stored<AppRecord>> = records::get(self.store(), &key).await?;
        // Two passes may meet here, and the name may have a new owner by then.
        let Some(stored) = record.filter(|stored| stored.record.deleting) else { return Ok(()) };
        self.forget_machines(app).await?;
        let mut then = vec![Op::Delete(KeyRange::key(&key))];
        if let Some(used) = &stored.record.idempotency_key {
            then.push(Op::Delete(KeyRange::key(records::idempotency_key(used))));
        }
        let compare = vec![crate::ports::Compare::Modified(key, stored.revision)];
        self.store().txn(Txn { compare, then, otherwise: vec![] }).await?;
        Ok(())
    }

    /// A new app of the same name must not inherit the machines of this one.
    async fn forget_machines(&self, app: &str) -> Result<(), ApiError> {
        let owned: Vec<Stored<OwnedRecord>> =
            records::list(self.store(), records::MACHINES).await?;
        let of_app = owned.into_iter().filter(|owned| owned.record.app == app);
        let forget: Vec<Op> = of_app.map(|owned| Op::Delete(KeyRange::key(owned.key))).collect();
        for part in forget.chunks(PART) {
            self.store().txn(Txn { then: part.to_vec(), ..Txn::default() }).await?;
        }
        Ok(())
    }
}
