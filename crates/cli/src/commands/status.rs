//! `updraft status`

use super::apps::json::AppJson;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick::{GROUP, label};
use crate::ui::table::{Fit, table, vertical};
use clap::Args;
use client::{Client, ListMachines};
use serde::Serialize;
use std::time::Duration;
use wire::machines::{App, Machine};

/// Show an app and its machines
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Also show destroyed machines
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Show it again and again, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Seconds between two looks with --watch
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    rate: u64,
}

/// The JSON of `--json`, by the names that scripts for flyctl know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status<'a> {
    #[serde(flatten)]
    app: AppJson<'a>,
    machines: &'a [Machine],
}

pub(super) async fn run(args: StatusArgs, cx: &mut Context<'_>) -> Result<()> {
    let name = cx.app(&args.app).await?;
    let client = cx.client()?;
    loop {
        let (app, machines) = fetch(&client, &name, args.all).await?;
        if args.json {
            return cx.ui().json(&Status { app: AppJson::from(&app), machines: &machines });
        }
        let text = text(&app, &machines, cx.ui().fit(&["ROLE", "VERSION", "CHECKS"]));
        if !args.watch {
            return cx.ui().data(&text);
        }
        let clear = if cx.ui().term.stdout { "\x1b[2J\x1b[H" } else { "" };
        cx.ui().data(&format!("{clear}{text}"))?;
        tokio::time::sleep(Duration::from_secs(args.rate)).await;
    }
}

async fn fetch(client: &Client, name: &str, all: bool) -> Result<(App, Vec<Machine>)> {
    let app = client.app(name).await.context(|| format!("show app {name}"))?;
    let which = ListMachines { include_deleted: all, ..ListMachines::default() };
    let machines = client.machines(name, &which).await;
    Ok((app, machines.context(|| format!("list the machines of app {name}"))?))
}

fn text(app: &App, machines: &[Machine], fit: Fit<'_>) -> String {
    let image = machines.first().and_then(|m| m.config.as_ref()).map(|c| c.image.clone());
    let fields = [
        ("Name", app.name.clone()),
        ("Owner", app.organization.slug.clone()),
        ("Hostname", app.hostname.clone().unwrap_or_default()),
        ("Image", image.unwrap_or_default()),
        ("Network", app.network.clone()),
    ];
    let rows: Vec<_> = machines
        .iter()
        .map(|m| {
            let lost = if m.host_status == "unreachable" { "💀" } else { "" };
            let version = label(m, "fly_release_version");
            let (id, region, state) = (m.id.clone(), m.region.clone(), m.state.clone());
            let row = [format!("{}{lost}", label(m, GROUP)), id, version, region, state];
            let rest = [label(m, "role"), checks(m), m.updated_at.clone()];
            row.into_iter().chain(rest).collect()
        })
        .collect();
    let header = ["PROCESS", "ID", "VERSION", "REGION", "STATE", "ROLE", "CHECKS", "LAST UPDATED"];
    format!("{}\nMachines\n{}", vertical("App", &fields), table(&header, &rows, fit))
}

/// `2 total, 1 passing, 1 critical`.
fn checks(machine: &Machine) -> String {
    if machine.checks.is_empty() {
        return String::new();
    }
    let mut text = format!("{} total", machine.checks.len());
    for status in ["passing", "warning", "critical"] {
        let count = machine.checks.iter().filter(|check| check.status == status).count();
        if count > 0 {
            text.push_str(&format!(", {count} {status}"));
        }
    }
    text
}
