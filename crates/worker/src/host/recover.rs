//! The host after a start: every VM has an owner, or is gone.

use super::{REMEMBERED, Shared, StartError};
use crate::machine::view::{SHOWN_EVENTS, View};
use crate::machine::{self, Found};
use crate::record::Record;
use model::id::{BootId, MachineId};
use model::life::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A guest that has not answered by then is taken over beside.
const ADOPT: Duration = Duration::from_secs(5);
/// What is left of dead VMs is normally removed in much less.
const CLEAR: Duration = Duration::from_secs(30);

pub(super) async fn recover(host: &Arc<Shared>) -> Result<(), StartError> {
    let forgotten = host.db.forget(REMEMBERED).await.map_err(StartError::Database)?;
    forgotten.iter().for_each(|id| host.logs.remove(id));
    let records = host.db.machines().await.map_err(StartError::Database)?;
    let owners: BTreeMap<MachineId, &Record> = records.iter().map(|r| (r.id, r)).collect();
    let alive = sort_out_vms(host, &owners).await?;
    sort_out_links(host, &records, &alive).await?;
    remove_strange_dirs(host, &owners);
    // Remains of uploads that were cut off; there may never have been any.
    let _ = std::fs::remove_dir_all(host.config.data_dir.join("uploads"));
    let mut settling = Vec::new();
    for record in records {
        let found = found(host, &record, alive.contains(&record.id));
        let events = host.db.events(record.id, SHOWN_EVENTS).await.map_err(StartError::Database)?;
        if record.state.holds_memory() || record.boot.is_some() {
            host.capacity.take(record.id, record.memory_mib());
        }
        let (id, boot, addresses) = (record.id, record.boot, host.addresses(&record));
        let destroyed = record.state == State::Destroyed;
        let view = View::new(record, addresses, events);
        if destroyed {
            host.add_handle(id, machine::remembered(view));
            continue;
        }
        let handle = machine::start(host, view, found);
        if found != Found::Nothing {
            let patience = if matches!(found, Found::Alive(_)) { ADOPT } else { CLEAR };
            settling.push((handle.views.clone(), boot, Instant::now() + patience));
        }
        host.add_handle(id, handle);
    }
    settle(settling).await;
    Ok(())
}

/// What there is of a machine's VM.
fn found(host: &Shared, record: &Record, alive: bool) -> Found {
    let Some(boot) = record.boot else { return Found::Nothing };
    // Resumed, but that was never recorded: it stands still since, and its
    // snapshot is as good as it was.
    if !alive || record.snapshot.is_some() {
        return Found::Remains;
    }
    match record.exit.is_none() && host.is_saved(record.id, boot) {
        true => Found::Saved,
        false => Found::Alive(boot),
    }
}

/// Waits until each VM that was there is taken over or no longer named by its
/// record: nobody is to be told `started` of a machine whose VM the power cut has
/// taken. A guest that does not answer must not hold up everybody for long.
async fn settle(settling: Vec<(watch::Receiver<Arc<View>>, Option<BootId>, Instant)>) {
    for (mut views, boot, until) in settling {
        let settled = |view: &Arc<View>| view.agent.is_some() || view.record.boot != boot;
        // The task of a machine that is destroyed meanwhile ends.
        let waited = tokio::time::timeout_at(until, views.wait_for(settled)).await.is_ok();
        if !waited {
            let machine = views.borrow().record.id;
            tracing::warn!(%machine, "is still being taken over or cleared away");
        }
    }
}

/// Removes VMs without an owner; returns the machines whose VM runs.
async fn sort_out_vms(
    host: &Arc<Shared>,
    owners: &BTreeMap<MachineId, &Record>,
) -> Result<BTreeSet<MachineId>, StartError> {
    let mut alive = BTreeSet::new();
    for vm in host.hypervisor.list().await.map_err(StartError::Port)? {
        let owner = owners.get(&vm.machine).filter(|record| record.boot == Some(vm.boot));
        match owner {
            Some(_) if vm.alive => {
                alive.insert(vm.machine);
            }
            // Its owner's task removes it, with everything else of that boot.
            Some(_) => {}
            None => {
                tracing::info!(machine = %vm.machine, boot = %vm.boot, "removing a VM without owner");
                let killed = host.hypervisor.kill(vm.machine, vm.boot).await;
                killed.map_err(StartError::Port)?;
            }
        }
    }
    Ok(alive)
}

async fn sort_out_links(
    host: &Arc<Shared>,
    records: &[Record],
    alive: &BTreeSet<MachineId>,
) -> Result<(), StartError> {
    let held: BTreeSet<_> =
        records.iter().filter(|r| alive.contains(&r.id)).filter_map(|r| r.slot).collect();
    for slot in host.network.list().await.map_err(StartError::Port)? {
        if !held.contains(&slot) {
            host.network.detach(slot).await.map_err(StartError::Port)?;
        }
    }
    Ok(())
}

fn remove_strange_dirs(host: &Shared, owners: &BTreeMap<MachineId, &Record>) {
    let dir = host.config.data_dir.join("machines");
    let Ok(entries) = dir.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().parse().ok().and_then(|id: MachineId| owners.get(&id));
        if owner.is_some_and(|record| record.state != State::Destroyed) {
            continue;
        }
        if let Err(err) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path(), error = %err, "cannot remove a directory without owner");
        }
    }
}
