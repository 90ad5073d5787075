//! Recovery after a start: every VM is taken over by its machine's task or removed.

use super::registry::{Host, KEPT_DESTROYED};
use super::start_error::StartError;
use crate::context::HostContext;
use crate::machine::view::{SHOWN_EVENTS, View};
use crate::machine::{AtStart, Handle};
use crate::record::Record;
use model::id::{BootId, MachineId};
use model::life::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Guests that do not answer within this time are adopted in the background.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is left of dead VMs is normally removed in much less time.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn recover(host: &Arc<Host>) -> Result<(), StartError> {
    let context = &host.context;
    let removed = context.db.forget(KEPT_DESTROYED).await.map_err(StartError::Database)?;
    removed.iter().for_each(|id| context.logs.remove(id));
    let records = context.db.machines().await.map_err(StartError::Database)?;
    let owners: BTreeMap<MachineId, &Record> = records.iter().map(|r| (r.id, r)).collect();
    let alive = remove_unowned_vms(context, &owners).await?;
    remove_unowned_links(context, &records, &alive).await?;
    remove_unowned_dirs(context, &owners);
    // Left by uploads that were cut off; there may never have been any.
    let _ = std::fs::remove_dir_all(context.config.data_dir.join("uploads"));
    let mut recovering = Vec::new();
    for record in records {
        let at_start = vm_at_start(context, &record, alive.contains(&record.id));
        let events = context.db.events(record.id, SHOWN_EVENTS).await;
        let events = events.map_err(StartError::Database)?;
        if record.state.holds_memory() || record.boot.is_some() {
            context.capacity.take(record.id, record.memory_mib());
        }
        let (id, boot, addresses) = (record.id, record.boot, context.addresses(&record));
        let destroyed = record.state == State::Destroyed;
        let view = View::new(record, addresses, events);
        if destroyed {
            host.insert(id, Handle::without_task(view));
            continue;
        }
        let handle = host.run_machine(view, at_start);
        if at_start != AtStart::NoVm {
            let running = matches!(at_start, AtStart::Running(_));
            let limit = if running { ADOPT_TIMEOUT } else { CLEAR_TIMEOUT };
            recovering.push((handle.views, boot, Instant::now() + limit));
        }
    }
    wait_until_recovered(recovering).await;
    Ok(())
}

/// What exists of a machine's VM.
fn vm_at_start(host: &HostContext, record: &Record, alive: bool) -> AtStart {
    let Some(boot) = record.boot else { return AtStart::NoVm };
    // Restored from its snapshot, but that was never recorded: it is still paused,
    // and the snapshot can be used again.
    if !alive || record.snapshot.is_some() {
        return AtStart::Leftover;
    }
    match record.exit.is_none() && host.is_saved(record.id, boot) {
        true => AtStart::Saved,
        false => AtStart::Running(boot),
    }
}

/// Waits until each VM is taken over or no longer named by its record: a machine
/// whose VM a power cut has ended must not be shown as `started`. A guest that does
/// not answer delays the start only by its timeout.
async fn wait_until_recovered(
    machines: Vec<(watch::Receiver<Arc<View>>, Option<BootId>, Instant)>,
) {
    for (mut views, boot, until) in machines {
        let recovered = |view: &Arc<View>| view.agent.is_some() || view.record.boot != boot;
        // The task of a machine that is destroyed meanwhile ends.
        let waited = tokio::time::timeout_at(until, views.wait_for(recovered)).await.is_ok();
        if !waited {
            let machine = views.borrow().record.id;
            tracing::warn!(%machine, "its VM is still being taken over or removed");
        }
    }
}

/// Removes VMs without an owner; returns the machines whose VM runs.
async fn remove_unowned_vms(
    host: &HostContext,
    owners: &BTreeMap<MachineId, &Record>,
) -> Result<BTreeSet<MachineId>, StartError> {
    let mut alive = BTreeSet::new();
    for vm in host.hypervisor.list().await.map_err(StartError::Port)? {
        let owner = owners.get(&vm.machine).filter(|record| record.boot == Some(vm.boot));
        match owner {
            Some(_) if vm.alive => {
                alive.insert(vm.machine);
            }
            // Its machine's task removes it, with everything else of that boot.
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

async fn remove_unowned_links(
    host: &HostContext,
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

fn remove_unowned_dirs(host: &HostContext, owners: &BTreeMap<MachineId, &Record>) {
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
