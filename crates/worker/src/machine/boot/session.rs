//! Opens the session with a VM's guest.

use super::launched::Launched;
use crate::agent::{Agent, AgentError, ApiFor, Listen, Ports, UnitStates};
use crate::context::HostContext;
use crate::guest_connections::OfApp;
use crate::ports::{GuestApi, Vm};
use crate::record::Record;
use crate::units;
use guest_protocol::{Phase, Resume, ToGuest};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};

/// Reports of a guest that may wait for the machine's task.
const REPORTS: usize = 64;
/// Time for a guest to read the message that comes before the greeting.
const EARLY_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a message before the greeting. The session finds out if it was lost.
pub(super) async fn send_early(mut vm: Vm, message: &ToGuest) -> Vm {
    let frame = guest_protocol::codec::encode(message);
    let _ = tokio::time::timeout(EARLY_MESSAGE_TIMEOUT, vm.agent.write_all(&frame)).await;
    vm
}

/// Opens a session with a VM's guest.
pub(super) async fn open(
    host: &Arc<HostContext>,
    record: &Record,
    vm: Vm,
) -> Result<Launched, AgentError> {
    let (reports_in, reports) = mpsc::channel(REPORTS);
    let (ports_in, ports) = watch::channel(Ports::new());
    let (unit_states_in, unit_states) = watch::channel(UnitStates::new());
    let listen = Listen {
        app: record.app.to_string(),
        machine: record.id.to_string(),
        boot: record.boot,
        logs: host.logs.clone(),
        reports: reports_in,
        ports: ports_in,
        units: units::metas(&record.config),
        unit_states: unit_states_in,
        api: ApiFor {
            machine: record.id,
            app: record.app_name.to_string(),
            handler: Some(guest_api(host, record)),
        },
    };
    let deadline = host.config.boot_deadline;
    let connected = Agent::connect(vm.agent, host.rng.bits(), listen, deadline, &host.tasks);
    let (agent, welcome) = connected.await?;
    let (exited, origin, stages, image) = (vm.exited, vm.origin, Vec::new(), None);
    Ok(Launched {
        agent,
        welcome,
        reports,
        ports,
        unit_states,
        image,
        exited,
        origin,
        stages,
        secrets_version: None,
    })
}

/// Answers the guest's connections to the platform's API.
fn guest_api(host: &HostContext, record: &Record) -> Arc<dyn GuestApi> {
    let (connections, app) = (host.guest_connections.clone(), record.app);
    host.guest_api.clone().unwrap_or_else(|| Arc::new(OfApp { connections, app }))
}

/// Notifies a guest that it was suspended and runs again.
pub(super) async fn notify_resumed(
    host: &HostContext,
    record: &Record,
    agent: &Agent,
    phase: &Phase,
) {
    if !matches!(phase, Phase::Running(_)) {
        return;
    }
    let hook = record.config.init.as_ref().and_then(|init| init.on_resume.clone());
    let (now, entropy) = (host.clock.now_ns(), host.rng.bytes(64));
    let resume = Resume { now, entropy, hook: hook.unwrap_or_default() };
    // A guest that has ended meanwhile is reported as lost.
    let _ = agent.send(&ToGuest::Resumed(resume)).await;
}
