//! `updraft machine wait`

use super::OneArgs;
use crate::context::Context;
use crate::error::Result;
use crate::parse::duration;
use crate::wait::until;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;

/// Wait until a machine is in a state
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    #[command(flatten)]
    which: OneArgs,
    /// State to wait for: started, stopped, suspended, failed, destroyed or settled (not about to change)
    #[arg(long, default_value = "settled")]
    state: String,
    /// For at most this long
    #[arg(short, long, value_name = "TIME", default_value = "5m0s", value_parser = duration)]
    wait_timeout: Duration,
}

pub(super) async fn run(args: WaitArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let states = args.state.split(',').map(str::to_owned).collect();
    let query = WaitQuery { states, timeout: args.wait_timeout, ..WaitQuery::default() };
    let spinner = cx.ui().spinner(&format!("Waiting for machine {id}"));
    let reached = until(&client, &app, &id, query).await;
    drop(spinner);
    cx.ui().status(&format!("Machine {id} is {}", reached?.state));
    Ok(())
}
