//! Takes over a VM of an earlier daemon.

use super::guest_config::guest_config;
use super::launch::{self, LaunchError, Launched};
use super::session;
use crate::agent::Agent;
use crate::context::HostContext;
use crate::record::Record;
use guest_protocol::{Phase, ToGuest};
use model::id::BootId;
use model::life::State;
use std::sync::Arc;

/// Takes over a VM of an earlier daemon.
pub(in super::super) async fn adopt(
    host: Arc<HostContext>,
    record: Record,
    boot: BootId,
) -> Result<Launched, LaunchError> {
    if let Some(link) = launch::link(&record, host.addresses(&record)) {
        host.network.adopt(link).await.map_err(|err| LaunchError::of(&err))?;
    }
    let vm = host.hypervisor.adopt(record.id, boot).await;
    let vm = vm.map_err(|err| LaunchError::of(&err))?;
    // A suspend that was aborted or cut off may have left it paused.
    let resumed = host.hypervisor.proceed(record.id, boot).await;
    resumed.map_err(|err| LaunchError::of(&err))?;
    let launched = session::open(&host, &record, vm).await;
    let launched = launched.map_err(|err| LaunchError::agent(&err))?;
    if launched.welcome.phase == Phase::AwaitingConfig {
        send_config(&host, &record, &launched.agent).await?;
    }
    if record.keep_scratch && record.state != State::Starting {
        // The daemon that restored it may have ended before it could notify it.
        session::notify_resumed(&host, &record, &launched.agent, &launched.welcome.phase).await;
    }
    tracing::info!(machine = %record.id, %boot, "adopted a running VM");
    Ok(launched)
}

/// Sends its config to a guest that never got it.
async fn send_config(
    host: &Arc<HostContext>,
    record: &Record,
    agent: &Agent,
) -> Result<(), LaunchError> {
    let image = host.ensure_image(record).await.map_err(|err| launch::image_error(&err))?;
    let facts = launch::host_facts(host, record);
    let config = guest_config(record, &image, facts).map_err(LaunchError::Final)?;
    let sent = agent.send(&ToGuest::Configure(Box::new(config))).await;
    sent.map_err(|err| LaunchError::agent(&err))
}
