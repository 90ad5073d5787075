//! Recovery after a start: every VM is taken over by its machine's task or removed.

use super::registry::Host;
use super::retention::MAX_BYTES;
use super::start_error::StartError;
use crate::context::{HostContext, blocking, remove_dir};
use crate::db::{Machines, UnreadableRow};
use crate::machine::view::{SHOWN_EVENTS, View};
use crate::machine::{AtStart, Handle};
use crate::ports::{OwnerLookup, PortError};
use crate::record::Record;
use crate::volumes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::address::Slot;
use model::id::{BootId, MachineId};
use model::life::{State, Want};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Guests that do not answer within this time are adopted in the background.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The remains of ended VMs are normally removed in much less time.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(30);

/// `owners` finds the ids of apps that records of the first version only name.
pub(super) async fn recover(
    host: &Arc<Host>,
    owners: Option<&dyn OwnerLookup>,
) -> Result<(), StartError> {
    let context = &host.context;
    let forgotten = host.forget_destroyed(Some(MAX_BYTES)).await;
    forgotten.map_err(StartError::Database)?;
    let Machines { records, unreadable } =
        context.db.machines(owners).await.map_err(StartError::Database)?;
    for row in &unreadable {
        let UnreadableRow { id, error, .. } = row;
        tracing::error!(
            machine = id,
            error,
            "a machine's record cannot be read; its VM is left alone"
        );
    }
    volumes::recovery::recover(context).await.map_err(StartError::Database)?;
    let alive = remove_unowned_vms(context, &records, &unreadable).await?;
    remove_unowned_links(context, &records, &unreadable, &alive).await?;
    remove_unowned_dirs(context, &records, &unreadable).await;
    let known = records.iter().map(|r| r.id.to_string());
    let known = known.chain(unreadable.iter().map(|row| row.id.clone())).collect();
    let apps = records.iter().map(|r| r.app);
    let apps = apps.chain(unreadable.iter().filter_map(|row| row.app_id));
    context.logs.retain(known, apps.map(|app| app.to_string()).collect());
    for row in unreadable.iter().filter(|row| row.may_exist()) {
        book_unreadable(context, row).await;
    }
    host.set_unreadable(unreadable);
    // Those that have expired, too: their holders may still renew them.
    let mut leases = context.db.held_leases(0).await.map_err(StartError::Database)?;
    let mut recovering = Vec::new();
    for record in records {
        let at_start = vm_at_start(context, &record, alive.contains(&record.id)).await;
        let events = context.db.events(record.id, SHOWN_EVENTS, None).await;
        let events = events.map_err(StartError::Database)?;
        if record.state.holds_memory() || record.boot.is_some() || record.want == Want::Run {
            context.capacity.take(record.id, context.booked_mib(&record));
        }
        if record.state != State::Destroyed {
            let disk = context.disk_path(&record);
            if let Err(err) = context.disks.book(&disk, record.scratch_bytes()).await {
                tracing::warn!(machine = %record.id, error = rt::chain(&err), "more disk is promised than there is");
            }
        }
        let (id, boot, addresses) = (record.id, record.boot, context.addresses(&record));
        let destroyed = record.state == State::Destroyed;
        let view = View::new(record, addresses, events);
        if destroyed {
            host.insert(id, Handle::without_task(view));
            continue;
        }
        let lease = leases.remove(&id.to_string());
        let handle = host.run_machine(view, lease, at_start);
        if at_start != AtStart::NoVm {
            let running = matches!(at_start, AtStart::Running(_));
            let limit = if running { ADOPT_TIMEOUT } else { CLEAR_TIMEOUT };
            recovering.push((handle.views, boot, Instant::now() + limit));
        }
    }
    wait_until_recovered(recovering).await;
    Ok(())
}

/// Books memory and disk of a machine whose VM may run, as far as they are known.
async fn book_unreadable(host: &HostContext, row: &UnreadableRow) {
    let Ok(id) = row.id.parse::<MachineId>() else { return };
    let parts = &row.parts;
    // A state of a newer version may be one with a VM.
    if State::parse(&row.state).is_none_or(|state| state.holds_memory()) {
        let overhead = host.hypervisor.overhead_mib(parts.vcpus());
        host.capacity.take(id, parts.memory_mib().saturating_add(overhead));
    }
    let dir = host.machine_dir(id);
    let disks = blocking(move || scratch_disks(&dir)).await.unwrap_or_else(|err| {
        tracing::warn!(machine = %id, error = %err, "cannot find the disks of a machine");
        Vec::new()
    });
    for (disk, bytes) in disks {
        if let Err(err) = host.disks.book(&disk, bytes).await {
            tracing::warn!(machine = %id, error = rt::chain(&err), "more disk is promised than there is");
        }
    }
}

/// The writable disks in a machine's directory, with their lengths.
fn scratch_disks(dir: &Utf8Path) -> std::io::Result<Vec<(Utf8PathBuf, u64)>> {
    let mut disks = Vec::new();
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_name().ends_with(".ext4") {
            disks.push((entry.path().to_owned(), entry.metadata()?.len()));
        }
    }
    Ok(disks)
}

/// The VM of a machine as it was found.
async fn vm_at_start(host: &HostContext, record: &Record, alive: bool) -> AtStart {
    let Some(boot) = record.boot else { return AtStart::NoVm };
    // Restored from its snapshot, but that was never recorded: it is still paused,
    // and the snapshot can be used again.
    if !alive || record.snapshot.is_some() {
        return AtStart::Leftover;
    }
    match record.exit.is_none() && host.is_saved(record.id, boot).await {
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
        let recovered = |view: &Arc<View>| {
            view.agent.is_some() || view.unreachable.is_some() || view.record.boot != boot
        };
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
    host: &Arc<HostContext>,
    records: &[Record],
    unreadable: &[UnreadableRow],
) -> Result<BTreeSet<MachineId>, StartError> {
    let boots: BTreeMap<_, _> = records.iter().map(|r| (r.id, r.boot)).collect();
    let mut alive = BTreeSet::new();
    for vm in host.hypervisor.list().await.map_err(StartError::Port)? {
        let owned = boots.get(&vm.machine).is_some_and(|boot| *boot == Some(vm.boot));
        if owned && vm.alive {
            alive.insert(vm.machine);
        }
        // The rest of an owned VM is removed by its machine's task.
        let left_alone = unreadable.iter().any(|row| row.id == vm.machine.to_string());
        if owned || left_alone {
            continue;
        }
        tracing::info!(machine = %vm.machine, boot = %vm.boot, "removing a VM without owner");
        let context = host.clone();
        let kill = move || {
            let context = context.clone();
            async move { context.hypervisor.kill(vm.machine, vm.boot).await }.boxed()
        };
        remove_now_or_later(host, "a VM without owner", kill).await;
    }
    Ok(alive)
}

/// Removes links of slots whose machine has no running VM.
async fn remove_unowned_links(
    host: &Arc<HostContext>,
    records: &[Record],
    unreadable: &[UnreadableRow],
    alive: &BTreeSet<MachineId>,
) -> Result<(), StartError> {
    let running = records.iter().filter(|r| alive.contains(&r.id)).filter_map(|r| r.slot);
    let kept: BTreeSet<Slot> =
        running.chain(unreadable.iter().filter_map(|row| row.slot)).collect();
    let owned: BTreeSet<Slot> = records.iter().filter_map(|r| r.slot).collect();
    for slot in host.network.list().await.map_err(StartError::Port)? {
        if kept.contains(&slot) {
            continue;
        }
        if owned.contains(&slot) {
            // The machine's next start replaces the link, its removal removes it.
            if let Err(err) = host.network.detach(slot).await {
                tracing::warn!(?slot, error = rt::chain(&err), "cannot remove an unused link");
            }
            continue;
        }
        host.blocked_slots.block(slot);
        let context = host.clone();
        let detach = move || {
            let context = context.clone();
            async move {
                let detached = context.network.detach(slot).await;
                if detached.is_ok() {
                    context.blocked_slots.unblock(slot);
                }
                detached
            }
            .boxed()
        };
        remove_now_or_later(host, "a network link without owner", detach).await;
    }
    Ok(())
}

/// Tries a removal once; after a failure it is repeated in the background, so that no
/// leftover keeps the host from starting.
async fn remove_now_or_later<F>(host: &Arc<HostContext>, what: &'static str, remove: F)
where
    F: Fn() -> BoxFuture<'static, Result<(), PortError>> + Send + Sync + 'static,
{
    let Err(err) = remove().await else { return };
    tracing::warn!(error = rt::chain(&err), "cannot remove {what}, trying again in the background");
    let rng = host.rng.clone();
    host.tasks.spawn_until_stop(async move {
        let mut backoff = rt::Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            tokio::time::sleep(backoff.pause(&rng)).await;
            match remove().await {
                Ok(()) => return tracing::info!("removed {what}"),
                Err(err) => tracing::warn!(error = rt::chain(&err), "cannot remove {what}"),
            }
        }
    });
}

/// Removes directories without an owner, and what uploads that were cut off left.
async fn remove_unowned_dirs(host: &HostContext, records: &[Record], unreadable: &[UnreadableRow]) {
    let existing = records.iter().filter(|r| r.state != State::Destroyed);
    let kept: BTreeSet<String> = existing
        .map(|record| record.id.to_string())
        .chain(unreadable.iter().map(|row| row.id.clone()))
        .collect();
    let data_dir = host.config.data_dir.clone();
    let removed = blocking(move || {
        remove_dir(&data_dir.join("uploads"))?;
        for entry in data_dir.join("machines").read_dir_utf8()?.flatten() {
            if kept.contains(entry.file_name()) {
                continue;
            }
            if let Err(err) = std::fs::remove_dir_all(entry.path()) {
                let path = entry.path();
                tracing::warn!(%path, error = %err, "cannot remove a directory without owner");
            }
        }
        Ok(())
    });
    if let Err(err) = removed.await {
        tracing::warn!(error = %err, "cannot remove directories without owner");
    }
}
