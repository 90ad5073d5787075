//! `updraft checks list`

use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use client::ListMachines;
use std::collections::BTreeMap;
use wire::machines::CheckStatus;

/// List the health checks of an app's machines
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Only checks of this name
    #[arg(long, value_name = "NAME")]
    check_name: Option<String>,
    /// Print JSON: the checks by machine
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let machines = cx.client()?.machines(&app, &ListMachines::default()).await;
    let machines = machines.context(|| format!("list the machines of app {app}"))?;
    let is_wanted =
        |check: &CheckStatus| args.check_name.as_ref().is_none_or(|name| *name == check.name);
    let of_machines: BTreeMap<String, Vec<CheckStatus>> = machines
        .into_iter()
        .map(|machine| (machine.id, machine.checks.into_iter().filter(is_wanted).collect()))
        .collect();
    if args.json {
        return cx.ui().json(&of_machines);
    }
    let rows: Vec<_> = of_machines
        .into_iter()
        .flat_map(|(id, checks)| checks.into_iter().map(move |check| row(&id, check)))
        .collect();
    let fit = cx.ui().fit(&["OUTPUT"]);
    let header = ["NAME", "STATUS", "MACHINE", "LAST UPDATED", "OUTPUT"];
    cx.ui().data(&table(&header, &rows, fit))
}

fn row(machine: &str, check: CheckStatus) -> Vec<String> {
    let CheckStatus { name, status, output, updated_at } = check;
    vec![name, status, machine.to_owned(), updated_at, output]
}
