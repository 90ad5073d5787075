//! `updraft machine start`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{Doing, Result};
use crate::parse::duration;
use crate::pick::Tally;
use crate::wait::until;
use clap::Args;
use client::{Client, WaitQuery};
use std::time::Duration;

/// Start machines
///
/// A suspended machine goes on where it stood.
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
        let outcome = start(&client, (&app, id), args.wait_timeout).await;
        if let Ok(text) = &outcome {
            cx.ui().status(text);
        }
        tally.note(cx, outcome.map(drop));
    }
    tally.finish()
}

async fn start(client: &Client, (app, id): (&str, &str), wait: Option<Duration>) -> Result<String> {
    let started = client.start_machine(app, id).await;
    let started = started.doing(|| format!("start machine {id}"))?;
    if let Some(timeout) = wait {
        let states = vec!["started".to_owned()];
        until(client, app, id, WaitQuery { states, timeout, ..WaitQuery::default() }).await?;
    }
    Ok(match started.previous_state.as_str() {
        "started" => format!("{id} was started already"),
        _ if started.resumed => format!("{id} has been resumed"),
        _ => format!("{id} has been started"),
    })
}
