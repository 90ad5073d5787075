//! `updraft machine kill`

use super::OneArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;
use wire::machines::SignalName;

/// Kill a machine's main process (SIGKILL)
#[derive(Clone, Debug, Args)]
pub struct KillArgs {
    #[command(flatten)]
    which: OneArgs,
}

pub(super) async fn run(args: KillArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let killed = client.signal_machine(&app, &id, SignalName::Number(9)).await;
    killed.context(|| format!("kill machine {id}"))?;
    cx.ui().status(&format!("Sent SIGKILL to machine {id}"));
    Ok(())
}
