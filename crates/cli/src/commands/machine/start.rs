//! `updraft machine start`

use super::{MachineRef, ManyArgs};
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use crate::machines::wait::until;
use crate::parse::duration;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;

/// Start machines
///
/// A suspended machine is resumed with its memory.
#[derive(Clone, Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    which: ManyArgs,
    /// Wait until each runs, for at most this long
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    wait_timeout: Option<Duration>,
}

pub(super) async fn run(args: StartArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let mut tally = Tally::default();
    for id in &ids {
        let machine = MachineRef { client: &client, app: &app, id };
        let outcome = start(machine, args.wait_timeout).await;
        if let Ok(text) = &outcome {
            cx.ui().status(text);
        }
        tally.note(cx, outcome.map(drop));
    }
    tally.finish()
}

async fn start(machine: MachineRef<'_>, wait: Option<Duration>) -> Result<String> {
    let MachineRef { client, app, id } = machine;
    let started = client.start_machine(app, id).await;
    let started = started.context(|| format!("start machine {id}")).map_err(|err| {
        match err.causes.iter().any(|cause| cause.contains("is a standby")) {
            true => err.hint(format!(
                "`updraft machine update {id} --standby-for '' -a {app}` makes it an ordinary machine."
            )),
            false => err,
        }
    })?;
    if let Some(timeout) = wait {
        let states = vec!["started".to_owned()];
        until(client, app, id, WaitQuery { states, timeout, ..WaitQuery::default() }).await?;
    }
    Ok(match started.previous_state.as_str() {
        "started" => format!("{id} was started already"),
        // With a wait it is up by now, whichever way.
        state @ ("stopping" | "suspending") if wait.is_none() => {
            format!("{id} is still {state}; it starts again once it is down")
        }
        _ if started.resumed => format!("{id} has been resumed"),
        _ => format!("{id} has been started"),
    })
}
