//! `updraft machine suspend`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Exit, Result};
use crate::machines::pick::Tally;
use crate::machines::wait::until;
use crate::parse::duration;
use clap::Args;
use client::{Client, WaitQuery};
use std::time::Duration;

/// Suspend machines: down, with their memory kept
///
/// A suspended machine takes neither CPU nor memory of the host. A start, or a
/// request through the edge, resumes it; a stop drops its
/// memory, so that the next start boots it.
#[derive(Clone, Debug, Args)]
pub struct SuspendArgs {
    #[command(flatten)]
    which: ManyArgs,
    /// Wait until each is suspended, for at most this long
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    wait_timeout: Option<Duration>,
}

pub(super) async fn run(args: SuspendArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let mut tally = Tally::default();
    for id in &ids {
        let asked = client.suspend_machine(&app, id).await;
        let mut outcome = asked.context(|| format!("suspend machine {id}"));
        if outcome.is_ok() {
            cx.ui().status(&format!("Suspending machine {id}"));
        }
        if let (Ok(()), Some(timeout)) = (&outcome, args.wait_timeout) {
            outcome = suspended(&client, &app, id, timeout).await;
            if outcome.is_ok() {
                cx.ui().status(&format!("{id} has been suspended"));
            }
        }
        tally.note(cx, outcome);
    }
    tally.finish()
}

async fn suspended(client: &Client, app: &str, id: &str, timeout: Duration) -> Result<()> {
    // A suspend that fails leaves the machine running, or down.
    let states = ["suspended", "started", "stopped", "failed", "destroyed"];
    let states = states.map(str::to_owned).to_vec();
    let reached = until(client, app, id, WaitQuery { states, timeout, ..WaitQuery::default() });
    match reached.await?.state.as_str() {
        "suspended" => Ok(()),
        other => {
            let error = CliError::new(Exit::Failed, format!("Machine {id} is not suspended"));
            let hint = format!("`updraft machine status {id} -a {app}` shows why.");
            Err(error.because(format!("It is {other}")).hint(hint))
        }
    }
}
