//! `updraft apps list`

use crate::context::Context;
use crate::error::{Doing, Result};
use crate::table::table;
use clap::Args;

/// List apps
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    /// Only of this organisation
    #[arg(short, long)]
    org: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let list = cx.client()?.apps(args.org.as_deref()).await.doing(|| "list apps".into())?;
    if args.json {
        return cx.ui().json(&list.apps);
    }
    if args.quiet {
        let names: String = list.apps.iter().map(|app| format!("{}\n", app.name)).collect();
        return cx.ui().bytes(names.as_bytes());
    }
    let rows: Vec<_> = list
        .apps
        .into_iter()
        .map(|app| {
            let machines = app.machine_count.to_string();
            vec![app.name, app.organization.slug, app.status, app.network, machines]
        })
        .collect();
    cx.ui().data(&table(&["NAME", "OWNER", "STATUS", "NETWORK", "MACHINES"], &rows))
}
