//! The host after a start: every VM has an owner, or is gone.

use super::{REMEMBERED, Shared, StartError};
use crate::machine::view::{SHOWN_EVENTS, View};
use crate::machine::{self, Found, adopt, give_orders};
use crate::record::Record;
use futures_util::StreamExt;
use futures_util::stream;
use model::id::{BootId, MachineId};
use model::life::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::guest::Phase;

/// What is left of VMs is normally removed in less; longer it goes on beside.
const SETTLE: Duration = Duration::from_secs(20);
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
    // Remains of uploads that were cut off; there may never have been any.
    let _ = std::fs::remove_dir_all(host.config.data_dir.join("uploads"));
    let found = stream::iter(records.clone())
        .map(|record| async {
            let found = find(host, &record, &alive).await;
            (record, found)
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut settling = Vec::new();
    for (record, found) in found {
        let events = host.db.events(record.id, SHOWN_EVENTS).await.map_err(StartError::Database)?;
        if record.state.holds_memory() {
            host.capacity.take(record.id, record.memory_mib());
        }
        let (id, addresses) = (record.id, host.addresses(&record));
        let lost = record.boot.filter(|_| matches!(found, Found::Remains));
        let destroyed = record.state == State::Destroyed;
        let view = View::new(record, addresses, events);
        if destroyed {
            host.add_handle(id, machine::remembered(view));
            continue;
        }
        let handle = machine::start(host, view, found);
        if lost.is_some() {
            settling.push((handle.views.clone(), lost));
        }
        host.add_handle(id, handle);
    }
    settle(settling).await;
    Ok(())
}

/// Waits until the records no longer name VMs that are gone: nobody is to be
/// told `started` of a machine whose VM the power cut has taken.
async fn settle(settling: Vec<(watch::Receiver<Arc<View>>, Option<BootId>)>) {
    let all = async {
        for (mut views, lost) in settling {
            // The task of a machine that is destroyed meanwhile ends.
            let _ = views.wait_for(|view| view.record.boot != lost).await;
        }
    };
    if tokio::time::timeout(SETTLE, all).await.is_err() {
        tracing::warn!("some machines still wait for what is left of their VMs to be removed");
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
