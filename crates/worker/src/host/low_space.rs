//! Stops the machine whose disk grows most when the host's disk is nearly full: other
//! machines' file systems would fail next.

use super::registry::Host;
use crate::machine::{Call, Request};
use crate::ports::LowSpace;
use crate::volumes::disks::volume_of;
use host_api::{Source, Stop};
use model::id::MachineId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Time between two machines that are stopped: the space of the first is free by then,
/// and may be enough.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) async fn watch(host: Arc<Host>) {
    loop {
        let low = host.context.disks.low_space().await;
        let id = machine_of(&host, &low).await;
        match id {
            // A task that waits for space itself, to record a change, does not answer. The
            // next machine may be the one whose stop frees some.
            Some(id) => match tokio::time::timeout(PAUSE, stop(&host, id, &low)).await {
                Ok(()) => {}
                Err(_) => tracing::warn!(machine = %id, "a machine does not take its stop"),
            },
            None => tracing::warn!(disk = %low.disk, free = low.free, "the disk is nearly full"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The machine that writes to the disk.
async fn machine_of(host: &Host, low: &LowSpace) -> Option<MachineId> {
    if let Some(volume) = volume_of(&low.disk) {
        return host.context.db.volume(volume).await.ok().flatten()?.machine;
    }
    low.disk.parent()?.file_name()?.parse().ok()
}

async fn stop(host: &Host, id: MachineId, low: &LowSpace) {
    let reason = format!(
        "the host's disk is nearly full ({} MiB free) and this machine's disk has grown most \
         ({} MiB)",
        low.free >> 20,
        low.grown >> 20
    );
    tracing::warn!(machine = %id, reason, "stopping a machine");
    let Some(handle) = host.handle(id) else { return };
    let (reply, answer) = oneshot::channel();
    let request = Request::Stop(Stop::default(), Source::Host, Some(reason), reply);
    if handle.requests.send(Call::of_host(request)).await.is_err() {
        return;
    }
    if let Ok(Err(err)) = answer.await {
        tracing::warn!(machine = %id, error = %err, "cannot stop a machine");
    }
}
