//! `updraft volumes show`

use super::described;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use clap::Args;

/// Show a volume
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Id of the volume
    volume: String,
    #[command(flatten)]
    app: AppArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ShowArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let volume = client.volume(&app, &args.volume).await;
    let volume = volume.context(|| format!("show volume {}", args.volume))?;
    match args.json {
        true => cx.ui().json(&volume),
        false => cx.ui().data(&described(&volume, &app)),
    }
}
