//! `updraft volumes list`

use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use wire::machines::Volume;

/// List the volumes of an app
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let volumes =
        client.volumes(&app).await.context(|| format!("list the volumes of app {app}"))?;
    if args.json {
        return cx.ui().json(&volumes);
    }
    let rows: Vec<_> = volumes.iter().map(row).collect();
    let header =
        ["ID", "STATE", "NAME", "SIZE", "REGION", "ZONE", "ENCRYPTED", "ATTACHED VM", "CREATED AT"];
    let fit = cx.ui().fit(&["ENCRYPTED", "ZONE", "CREATED AT"]);
    cx.ui().data(&table(&header, &rows, fit))
}

fn row(volume: &Volume) -> Vec<String> {
    let state = match volume.host_status.as_str() {
        "ok" => volume.state.clone(),
        host => format!("{} (host {host})", volume.state),
    };
    vec![
        volume.id.clone(),
        state,
        volume.name.clone(),
        format!("{}GB", volume.size_gb),
        volume.region.clone(),
        volume.zone.clone(),
        volume.encrypted.to_string(),
        volume.attached_machine_id.clone().unwrap_or_default(),
        volume.created_at.clone(),
    ]
}
