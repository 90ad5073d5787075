//! `updraft secrets deploy`

use super::rollout::{self, RolloutArgs};
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use clap::Args;

/// Restart the machines that run with older secrets
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    rollout: RolloutArgs,
}

pub(super) async fn run(args: DeployArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let secrets = client.secrets(&app).await.context(|| format!("show the secrets of {app}"))?;
    rollout::run(&client, &app, (secrets.version.unwrap_or(0), None), args.rollout, cx).await
}
