//! `updraft machine trigger`

use super::OneArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;

/// Begin a run of a machine with a schedule now
#[derive(Clone, Debug, Args)]
pub struct TriggerArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: TriggerArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let run = client.run_now(&app, &id).await;
    let run = run.context(|| format!("begin a run of machine {id}"))?;
    if args.json {
        return cx.ui().json(&run);
    }
    cx.ui().data(&format!("Run {} is {}\n", run.id, run.status))
}
