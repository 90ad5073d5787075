//! Commands that run in a guest.

use crate::agent::Agent;
use crate::host::registry::Worker;
use crate::machine::view::View;
use crate::units;
use async_trait::async_trait;
use guest_protocol::UnitId;
use host_api::{CallContext, Exec, ExecOutput, ExecSession, ExecStart, HostError};
use model::id::MachineId;
use model::life::{State, Want};
use std::sync::Arc;
use tokio::sync::mpsc;
use wire::machines::MachineConfig;

/// Outputs of a command that may wait for its client.
const OUTPUT_QUEUE: usize = 16;

#[async_trait]
impl Exec for Worker {
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        let agent = async {
            self.owned(&context, id).await?;
            let agent = self.agent(id).await?;
            let unit = unit(&self.machine_handle(id)?.view().record.config, &exec)?;
            Ok((agent, unit))
        };
        let (agent, unit) = self.within(&context, agent).await?;
        let (input, from_guest) = agent.exec(exec, unit, &self.0.context.tasks);
        let (to_client, output) = mpsc::channel(OUTPUT_QUEUE);
        let session = self.0.context.sessions.open(id);
        self.0.context.tasks.spawn_until_stop(async move {
            forward(from_guest, to_client).await;
            drop(session);
        });
        Ok(ExecSession { input, output })
    }
}

/// The unit of the guest that a command is run in; `None` is none.
fn unit(config: &MachineConfig, exec: &ExecStart) -> Result<Option<UnitId>, HostError> {
    let containers = units::containers(config);
    let named = exec.container.as_deref().filter(|name| !name.is_empty());
    let Some(name) = named else {
        return Ok(units::first(config).filter(|_| !exec.machine));
    };
    let place = containers.iter().position(|container| container.name == name);
    let unit = place.and_then(|place| UnitId::try_from(place).ok());
    unit.map(Some).ok_or_else(|| {
        let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
        let short: String = name.chars().take(80).collect();
        HostError::Invalid(match names.as_slice() {
            [] => "container: the machine has no containers".to_owned(),
            names => format!(
                "container: the machine has no container {short:?}; it has {}",
                names.join(", ")
            ),
        })
    })
}

/// Ends when the command or its client does.
async fn forward(mut from: mpsc::Receiver<ExecOutput>, to: mpsc::Sender<ExecOutput>) {
    loop {
        tokio::select! {
            output = from.recv() => match output {
                Some(output) => {
                    if to.send(output).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
            () = to.closed() => return,
        }
    }
}

impl Worker {
    /// The session with a guest. A machine that is on its way up, after a resume or an
    /// aborted suspend too, is waited for; the caller bounds the time.
    pub(super) async fn agent(&self, id: MachineId) -> Result<Arc<Agent>, HostError> {
        let mut views = self.machine_handle(id)?.views;
        // A machine whose task has ended shows its last state.
        let _ = views.wait_for(|view| is_decided(view)).await;
        let view = views.borrow().clone();
        let state = view.record.state;
        let running = matches!(state, State::Started | State::Stopping);
        if let Some(why) = view.unreachable.as_ref().filter(|_| running) {
            return Err(HostError::Unsupported(format!(
                "machine is {state}, but {why}; restart it to get a guest of this version"
            )));
        }
        view.agent.clone().filter(|_| running).ok_or_else(|| {
            HostError::Conflict(format!("machine is {state}: it has to be started for this"))
        })
    }
}

/// Whether the guest can be reached, or will not be without a request.
fn is_decided(view: &View) -> bool {
    let record = &view.record;
    match record.state {
        State::Started => view.agent.is_some() || view.unreachable.is_some(),
        State::Created | State::Starting | State::Suspending | State::Replacing => {
            record.want != Want::Run
        }
        // The pause before a restart may be long; a restart by request has none.
        State::Restarting => record.want != Want::Run || record.restart_at.is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_runs_in_the_first_container_unless_it_names_another_or_none() {
        let config = |containers: serde_json::Value| -> MachineConfig {
            serde_json::from_value(json!({ "containers": containers })).unwrap()
        };
        let exec = |container: Option<&str>, machine| ExecStart {
            container: container.map(str::to_owned),
            machine,
            ..ExecStart::default()
        };
        let two = config(json!([{ "name": "a" }, { "name": "b" }]));
        assert_eq!(unit(&two, &exec(None, false)).unwrap(), Some(0));
        assert_eq!(unit(&two, &exec(Some(""), false)).unwrap(), Some(0));
        assert_eq!(unit(&two, &exec(Some("b"), false)).unwrap(), Some(1));
        assert_eq!(unit(&two, &exec(None, true)).unwrap(), None);
        let error = unit(&two, &exec(Some("c"), false)).unwrap_err().to_string();
        assert_eq!(error, "container: the machine has no container \"c\"; it has a, b");
        let none = config(json!([]));
        assert_eq!(unit(&none, &exec(None, false)).unwrap(), None);
        let error = unit(&none, &exec(Some("a"), false)).unwrap_err().to_string();
        assert_eq!(error, "container: the machine has no containers");
    }
}
