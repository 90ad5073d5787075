//! `updraft apps list`

use super::json::AppJson;
use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;

/// List apps
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    /// Only of this organisation
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let list = cx.client()?.apps(args.org.as_deref()).await.context(|| "list apps".into())?;
    if args.json {
        return cx.ui().json(&list.apps.iter().map(AppJson::from).collect::<Vec<_>>());
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
    let fit = cx.ui().fit(&["NETWORK"]);
    cx.ui().data(&table(&["NAME", "OWNER", "STATUS", "NETWORK", "MACHINES"], &rows, fit))
}
