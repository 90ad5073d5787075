//! Commands that run in a guest.

use crate::agent::Agent;
use crate::host::registry::Worker;
use crate::machine::view::View;
use async_trait::async_trait;
use host_api::{CallContext, Exec, ExecOutput, ExecSession, ExecStart, HostError};
use model::id::MachineId;
use model::life::{State, Want};
use std::sync::Arc;
use tokio::sync::mpsc;

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
            self.agent(id).await
        };
        let agent = self.within(&context, agent).await?;
        let (input, from_guest) = agent.exec(exec, &self.0.context.tasks);
        let (to_client, output) = mpsc::channel(OUTPUT_QUEUE);
        let session = self.0.context.sessions.open(id);
        self.0.context.tasks.spawn_until_stop(async move {
            forward(from_guest, to_client).await;
            drop(session);
        });
        Ok(ExecSession { input, output })
    }
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
