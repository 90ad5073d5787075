//! The host after a start: every VM has an owner, or is gone.

use super::{REMEMBERED, Shared, StartError};
use crate::machine::view::{SHOWN_EVENTS, View};
use crate::machine::{self, Found, adopt, give_orders};
use crate::record::Record;
use futures_util::StreamExt;
use futures_util::stream;
use model::id::MachineId;
use model::life::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wire::guest::Phase;

/// VMs taken over at once.
const AT_ONCE: usize = 8;

pub(super) async fn recover(host: &Arc<Shared>) -> Result<(), StartError> {
    let forgotten = host.db.forget(REMEMBERED).await.map_err(StartError::Database)?;
    forgotten.iter().for_each(|id| host.logs.remove(id));
    let records = host.db.machines().await.map_err(StartError::Database)?;
    let owners: BTreeMap<MachineId, &Record> = records.iter().map(|r| (r.id, r)).collect();
    let alive = sort_out_vms(host, &owners).await?;
    sort_out_links(host, &records, &alive).await?;
    remove_strange_dirs(host, &owners);
    let found = stream::iter(records.clone())
        .map(|record| async {
            let found = find(host, &record, &alive).await;
            (record, found)
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for (record, found) in found {
        let events = host.db.events(record.id, SHOWN_EVENTS).await.map_err(StartError::Database)?;
        if record.state.holds_memory() {
            host.capacity.take(record.id, record.memory_mib());
        }
        let (id, addresses) = (record.id, host.addresses(&record));
        let view = View::new(record, addresses, events);
        host.add_handle(id, machine::start(host, view, found));
    }
    Ok(())
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

async fn find(host: &Arc<Shared>, record: &Record, alive: &BTreeSet<MachineId>) -> Found {
    let Some(boot) = record.boot else { return Found::Nothing };
    if !alive.contains(&record.id) {
        return Found::Remains;
    }
    match adopt(host, record, boot).await {
        Ok(launched) => {
            if launched.welcome.phase == Phase::AwaitsOrders
                && let Err(err) = give_orders(host, record, &launched.agent).await
            {
                tracing::warn!(machine = %record.id, error = ?err, "cannot give orders to an adopted VM");
                return Found::Remains;
            }
            tracing::info!(machine = %record.id, %boot, "adopted a running VM");
            Found::Up(Box::new(launched))
        }
        Err(why) => {
            tracing::warn!(machine = %record.id, %boot, error = why, "cannot adopt a VM, removing it");
            Found::Remains
        }
    }
}
