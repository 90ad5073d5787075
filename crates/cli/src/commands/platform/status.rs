//! `updraft platform status`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use wire::platform::HostInfo;

/// Show whether the platform's hosts answer, and how full they are
///
/// `updraft host status` has more about each. A host that does not answer is missing.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// What to show
    #[arg(value_parser = kind, default_value = "hosts", hide_default_value = true, value_name = "KIND")]
    kind: Kind,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Hosts,
}

/// Fly's incidents and maintenances are those of a hosted platform.
fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "hosts" => Ok(Kind::Hosts),
        _ => Err("there is only hosts: a self-hosted platform has no page of incidents".to_owned()),
    }
}

pub(super) async fn run(args: &StatusArgs, cx: &mut Context<'_>) -> Result<()> {
    let Kind::Hosts = args.kind;
    let hosts = cx.client()?.hosts().await.context(|| "show the hosts".into())?;
    if args.json {
        return cx.ui().json(&hosts);
    }
    let rows: Vec<_> = hosts.iter().map(row).collect();
    let fit = cx.ui().fit(&["ACCELERATOR", "NAME"]);
    let header = ["HOST", "NAME", "REGION", "ACCELERATOR", "MACHINES", "MEMORY USED"];
    cx.ui().data(&table(&header, &rows, fit))
}

fn row(host: &HostInfo) -> Vec<String> {
    let machines: u64 = host.machines.values().sum();
    let started = host.machines.get("started").copied().unwrap_or(0);
    let percent = host.memory_used_mib.saturating_mul(100) / host.memory_mib.max(1);
    vec![
        host.host.to_string(),
        host.name.clone(),
        host.region.clone(),
        host.accelerator.clone(),
        format!("{started} of {machines} started"),
        format!("{} of {} MiB ({percent}%)", host.memory_used_mib, host.memory_mib),
    ]
}
