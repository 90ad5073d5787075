//! `updraft volumes extend`

use super::described;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use crate::parse;
use clap::Args;

/// Make a volume larger
#[derive(Clone, Debug, Args)]
pub struct ExtendArgs {
    /// Id of the volume
    volume: String,
    #[command(flatten)]
    app: AppArgs,
    /// New size in GB, or +GB to add so many
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true)]
    size: String,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ExtendArgs, cx: &mut Context<'_>) -> Result<()> {
    let (text, adds) = match args.size.strip_prefix('+') {
        Some(more) => (more, true),
        None => (args.size.as_str(), false),
    };
    let given = parse::whole_gib(text).map_err(|why| {
        CliError::usage(format!("Cannot use --size {:?}", args.size)).because(why)
    })?;
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let size = match adds {
        false => given,
        true => {
            let volume = client.volume(&app, &args.volume).await;
            let volume = volume.context(|| format!("show volume {}", args.volume))?;
            volume.size_gb.saturating_add(given)
        }
    };
    let extended = client.extend_volume(&app, &args.volume, size).await;
    let extended = extended.context(|| format!("extend volume {}", args.volume))?;
    if args.json {
        return cx.ui().json(&extended);
    }
    cx.ui().data(&described(&extended.volume, &app))?;
    if let Some(machine) = extended.volume.attached_machine_id.filter(|_| extended.needs_restart) {
        let text = format!(
            "Machine {machine} sees the new size after a restart: `updraft machine restart \
             {machine} -a {app}`."
        );
        cx.ui().status(&text);
    }
    Ok(())
}
