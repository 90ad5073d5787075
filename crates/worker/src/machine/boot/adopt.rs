//! Takes over a VM of an earlier daemon, or one whose suspend was aborted.
//!
//! A VM that is known to run is never given up because of a transient error: the
//! attempt is repeated for as long as the VM runs, unless it is to stop. A guest with
//! an unknown protocol version is kept without a session.

use super::guest_config::guest_config;
use super::images::MachineImages;
use super::launch;
use super::launched::{LaunchError, Launched};
use super::session;
use crate::agent::{Agent, AgentError};
use crate::context::HostContext;
use crate::ports::VmExit;
use crate::record::Record;
use crate::volumes::attached::Growth;
use futures_util::future::BoxFuture;
use guest_protocol::{Phase, ToGuest};
use model::id::BootId;
use model::life::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pauses between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The result for a VM that was to be taken over.
pub(in super::super) enum Adopted {
    /// There is a session with its guest.
    Session(Launched),
    /// It runs, but there can be no session with its guest.
    WithoutSession { why: String, exited: BoxFuture<'static, VmExit> },
}

/// Why one attempt failed.
enum Failure {
    /// The VM does not run, or its guest never ran.
    Gone(String),
    /// Another attempt may succeed.
    Retry(String),
    Adopted(Adopted),
}

impl From<LaunchError> for Failure {
    fn from(err: LaunchError) -> Self {
        match err {
            LaunchError::Cancelled => Self::Retry("it was cancelled".into()),
            LaunchError::Transient(why) | LaunchError::Final(why) => Self::Retry(why),
        }
    }
}

/// Takes over a VM. After `cancel` no further attempt is made.
pub(in super::super) async fn adopt(
    host: Arc<HostContext>,
    record: Record,
    boot: BootId,
    cancel: CancellationToken,
) -> Result<Adopted, LaunchError> {
    let begun = Instant::now();
    // Its process is not known to run: after the time of a boot it counts as lost.
    let unproven = record.keep_scratch || record.state == State::Starting;
    let mut backoff = rt::Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let why = match try_adopt(&host, &record, boot).await {
            Ok(launched) => {
                tracing::info!(machine = %record.id, %boot, "adopted a running VM");
                return Ok(Adopted::Session(launched));
            }
            Err(Failure::Adopted(adopted)) if !unproven => return Ok(adopted),
            Err(Failure::Adopted(_)) => {
                return Err(LaunchError::Final("its guest uses an unknown protocol".into()));
            }
            Err(Failure::Gone(why)) => return Err(LaunchError::Final(why)),
            Err(Failure::Retry(why)) => why,
        };
        if cancel.is_cancelled() || (unproven && begun.elapsed() >= host.config.boot_deadline) {
            return Err(LaunchError::Transient(why));
        }
        tracing::warn!(machine = %record.id, %boot, error = why, "cannot take over a VM, trying again");
        host.log_line(&record, &format!("Taking over the running VM failed, trying again: {why}"));
        let pause = tokio::time::sleep(backoff.pause(&host.rng));
        if cancel.run_until_cancelled(pause).await.is_none() {
            return Err(LaunchError::Transient(why));
        }
    }
}

async fn try_adopt(
    host: &Arc<HostContext>,
    record: &Record,
    boot: BootId,
) -> Result<Launched, Failure> {
    let retry = |err: &crate::ports::PortError| Failure::Retry(rt::chain(err));
    if let Some(link) = launch::link(record, host.addresses(record)) {
        host.network.adopt(link).await.map_err(|err| retry(&err))?;
    }
    let mut vm =
        host.hypervisor.adopt(record.id, boot).await.map_err(|err| match err.transient {
            true => retry(&err),
            false => Failure::Gone(rt::chain(&err)),
        })?;
    // A suspend that was aborted or cut off may have left it paused.
    host.hypervisor.resume(record.id, boot).await.map_err(|err| retry(&err))?;
    let exited = std::mem::replace(&mut vm.exited, Box::pin(std::future::pending()));
    let mut launched = match session::open(host, record, vm).await {
        Ok(launched) => Launched { exited, ..launched },
        Err(err @ AgentError::Version(_)) => {
            let why = rt::chain(&err);
            return Err(Failure::Adopted(Adopted::WithoutSession { why, exited }));
        }
        // The port of a VM that has ended is closed; `hypervisor.adopt` then fails.
        Err(err) => return Err(Failure::Retry(rt::chain(&err))),
    };
    if launched.welcome.phase == Phase::AwaitingConfig {
        launched.secrets_version = Some(send_config(host, record, &launched.agent).await?);
    }
    if record.keep_scratch && record.state != State::Starting {
        // The daemon that restored it may have ended before it could notify it.
        session::notify_resumed(host, record, &launched.agent, &launched.welcome.phase).await;
    }
    Ok(launched)
}

/// Sends its config to a guest that never got it; the version of the secrets in it.
async fn send_config(
    host: &Arc<HostContext>,
    record: &Record,
    agent: &Agent,
) -> Result<u64, LaunchError> {
    let images = MachineImages::ensure(host, record).await;
    let images = images.map_err(|err| launch::image_error(&err))?;
    let facts = launch::host_facts(host, record).await?;
    let secrets = host.machine_secrets(record).await.map_err(LaunchError::Final)?;
    let volumes = launch::volumes(host, record, Growth::None).await?;
    let config = guest_config(record, &images, facts, &secrets, &volumes);
    let config = config.map_err(LaunchError::Final)?;
    let sent = agent.send(&ToGuest::Configure(Box::new(config))).await;
    sent.map(|()| secrets.version).map_err(|err| LaunchError::agent(&err))
}
