//! Removes what is left of a VM.

use crate::agent::Agent;
use crate::context::HostContext;
use crate::ports::{PortError, VmExit};
use crate::record::Record;
use futures_util::future::BoxFuture;
use guest_protocol::ToGuest;
use std::sync::Arc;
use std::time::Duration;

/// A guest that is powering itself off has this long before it is killed.
const POWER_OFF: Duration = Duration::from_secs(5);
/// Time for the console output of a VM that has just ended to become known.
const CONSOLE_TAIL_TIMEOUT: Duration = Duration::from_millis(50);

/// Why a VM is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum VmEnd {
    /// Its main process has ended.
    ProcessExited,
    /// The VM has ended by itself.
    VmLost,
    /// It is no longer wanted, or did not reach its state in time.
    Unwanted,
}

/// The means to end a VM in order before it is removed.
pub(in super::super) struct Teardown {
    /// The guest is asked to flush its disks and power off first.
    pub(super) agent: Option<Arc<Agent>>,
    pub(super) exited: Option<BoxFuture<'static, VmExit>>,
    /// Its network link may be kept for the machine's next start.
    pub(super) keep_link: bool,
}

impl Teardown {
    /// Nothing is known of it, so everything is removed.
    pub(in super::super) fn unknown() -> Self {
        Self { agent: None, exited: None, keep_link: false }
    }

    /// The VM is paused, so it is killed at once.
    pub(super) fn paused() -> Self {
        Self { keep_link: true, ..Self::unknown() }
    }
}

/// Removes everything of a boot, however long it takes: a machine whose VM cannot
/// be killed must not change to any other state.
pub(super) async fn clear(host: Arc<HostContext>, record: Record, vm: Teardown) -> VmExit {
    let mut exit = VmExit::default();
    if let Some(agent) = &vm.agent {
        // It may have ended meanwhile; the kill below makes sure.
        let _ = tokio::time::timeout(POWER_OFF, agent.send(&ToGuest::PowerOff)).await;
    }
    if let Some(exited) = vm.exited {
        let limit = if vm.agent.is_some() { POWER_OFF } else { CONSOLE_TAIL_TIMEOUT };
        exit = tokio::time::timeout(limit, exited).await.unwrap_or_default();
    }
    let pauses = (Duration::from_millis(100), Duration::from_secs(10));
    let mut backoff = rt::Backoff::new(pauses.0, pauses.1);
    let mut keep_link = vm.keep_link;
    while let Err(err) = try_clear(&host, &record, keep_link).await {
        keep_link = false;
        let text = rt::chain(&err);
        tracing::warn!(machine = %record.id, error = text, "cannot remove VM, trying again");
        host.log_line(&record, &format!("Waiting for the host: {text}"));
        tokio::time::sleep(backoff.pause(&host.rng)).await;
    }
    exit
}

async fn try_clear(host: &HostContext, record: &Record, keep_link: bool) -> Result<(), PortError> {
    if let Some(boot) = record.boot {
        host.hypervisor.kill(record.id, boot).await?;
    }
    match record.slot {
        Some(slot) if keep_link => {
            host.network.park(slot).await;
            Ok(())
        }
        Some(slot) => host.network.detach(slot).await,
        None => Ok(()),
    }
}
