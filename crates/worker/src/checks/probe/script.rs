//! A command in the guest.

use super::{ANSWER, Outcome};
use crate::agent::Agent;
use crate::context::HostContext;
use guest_protocol::UnitId;
use host_api::{ExecError, ExecOutput, ExecStart};
use std::time::Duration;
use tokio::time::timeout;

/// Runs a command as a check; exit code 0 passes. It is killed at the timeout. `None` if
/// the session with the guest has ended, as in a suspend.
pub(super) async fn run(
    host: &HostContext,
    (agent, unit): (&Agent, Option<UnitId>),
    argv: &[String],
    limit: Duration,
) -> Option<Outcome> {
    let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let exec =
        ExecStart { argv: argv.to_vec(), timeout_ms: Some(timeout_ms), ..ExecStart::default() };
    // Dropped at the end of this function, which kills a command that still runs.
    let (_input, mut outputs) = agent.exec(exec, unit, &host.tasks);
    let mut output = Vec::new();
    let end = timeout(limit, async {
        loop {
            match outputs.recv().await? {
                ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                    let room = ANSWER.saturating_sub(output.len()).min(bytes.len());
                    output.extend_from_slice(&bytes[..room]);
                }
                end @ (ExecOutput::Exited { .. } | ExecOutput::Failed(_)) => return Some(end),
            }
        }
    });
    Some(match end.await {
        Err(_) => Outcome::failed(format!("the command did not end within {limit:?}")),
        Ok(Some(ExecOutput::Exited { code, .. })) => exited(code, output),
        Ok(Some(ExecOutput::Failed(ExecError::Lost(_)))) | Ok(None) => return None,
        Ok(Some(ExecOutput::Failed(err))) => Outcome::failed(err.to_string()),
        Ok(Some(ExecOutput::Stdout(_) | ExecOutput::Stderr(_))) => return None,
    })
}

fn exited(code: i32, output: Vec<u8>) -> Outcome {
    let mut response = format!("exit code {code}\n").into_bytes();
    response.extend_from_slice(&output);
    let silent = output.iter().all(u8::is_ascii_whitespace);
    let output = if silent { format!("exit code {code}").into_bytes() } else { output };
    Outcome { passed: code == 0, output, response }
}
