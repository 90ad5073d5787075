//! `updraft machine restart`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use crate::machines::wait::{DEFAULT, healthy, until};
use clap::Args;
use client::{Client, RestartMachine, WaitQuery};
use std::time::Duration;

/// Restart machines and wait until they run
#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    which: ManyArgs,
    /// End with SIGKILL at once
    #[arg(long)]
    force: bool,
    /// Signal to end with, in place of the config's
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds until SIGKILL, in place of the config's
    #[arg(long, value_name = "SECONDS")]
    time: Option<u32>,
    /// Do not wait until all health checks pass
    #[arg(long)]
    skip_health_checks: bool,
}

pub(super) async fn run(args: RestartArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let timeout = args.time.map(|secs| Duration::from_secs(secs.into()));
    let how = RestartMachine { signal: args.signal, timeout, force: args.force };
    restart_all(cx, &client, &app, &ids, &how, args.skip_health_checks).await
}

/// Restarts machines one after the other, each waited for; a failure does not end it.
pub(in crate::commands) async fn restart_all(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    ids: &[String],
    how: &RestartMachine,
    skip_health_checks: bool,
) -> Result<()> {
    let mut tally = Tally::default();
    for id in ids {
        cx.ui().status(&format!("Restarting machine {id}"));
        let mut outcome = restart(client, app, id, how).await;
        if outcome.is_ok() && !skip_health_checks {
            outcome = healthy(client, app, id, DEFAULT).await;
        }
        if outcome.is_ok() {
            cx.ui().status(&format!("Machine {id} restarted successfully!"));
        }
        tally.note(cx, outcome);
    }
    tally.finish()
}

async fn restart(client: &Client, app: &str, id: &str, how: &RestartMachine) -> Result<()> {
    // The newest event before it: "started" must be a later one.
    let before =
        client.events(app, id, 1, None).await.context(|| format!("restart machine {id}"))?;
    let asked = client.restart_machine(app, id, how).await;
    asked.context(|| format!("restart machine {id}"))?;
    let from_event = before.into_iter().next().map(|event| event.id);
    let (states, timeout) = (vec!["started".to_owned()], DEFAULT);
    let query = WaitQuery { states, from_event, timeout, ..WaitQuery::default() };
    until(client, app, id, query).await.map(drop)
}
