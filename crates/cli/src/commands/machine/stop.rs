//! `updraft machine stop`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use crate::machines::wait::until;
use crate::parse::duration;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;
use wire::machines::{Span, StopMachine};

/// Stop machines
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    which: ManyArgs,
    /// Signal to end with, in place of the config's
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds until SIGKILL, in place of the config's
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Wait until each is down, for at most this long
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    wait_timeout: Option<Duration>,
}

pub(super) async fn run(args: StopArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let timeout = args.timeout.map(|secs| Span::Text(format!("{secs}s")));
    let how = StopMachine { signal: args.signal, timeout };
    let mut tally = Tally::default();
    for id in &ids {
        let asked = client.stop_machine(&app, id, &how).await;
        let mut outcome = asked.context(|| format!("stop machine {id}"));
        if outcome.is_ok() {
            cx.ui().status(&format!("Stopping machine {id}"));
        }
        if let (Ok(()), Some(timeout)) = (&outcome, args.wait_timeout) {
            let states = vec!["stopped".to_owned()];
            let query = WaitQuery { states, timeout, ..WaitQuery::default() };
            outcome = until(&client, &app, id, query).await.map(drop);
            if outcome.is_ok() {
                cx.ui().status(&format!("{id} has been successfully stopped"));
            }
        }
        tally.note(cx, outcome);
    }
    tally.finish()
}
