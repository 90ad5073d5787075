//! `updraft machine wait`

use super::OneArgs;
use crate::context::Context;
use crate::error::Result;
use crate::machines::wait::until;
use crate::parse::duration;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;

/// The states that can be waited for.
const STATES: [&str; 6] = ["started", "stopped", "suspended", "failed", "destroyed", "settled"];

/// Wait until a machine is in a state
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    #[command(flatten)]
    which: OneArgs,
    /// State to wait for, or several separated by commas; settled is any that is not about to change
    #[arg(long, value_name = "STATE", default_value = "settled", value_delimiter = ',', value_parser = STATES)]
    state: Vec<String>,
    /// For at most this long
    #[arg(short, long, value_name = "TIME", default_value = "5m0s", value_parser = duration)]
    wait_timeout: Duration,
}

pub(super) async fn run(args: WaitArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let query =
        WaitQuery { states: args.state, timeout: args.wait_timeout, ..WaitQuery::default() };
    let spinner = cx.ui().spinner(&format!("Waiting for machine {id}"));
    let reached = until(&client, &app, &id, query).await;
    drop(spinner);
    cx.ui().status(&format!("Machine {id} is {}", reached?.state));
    Ok(())
}
