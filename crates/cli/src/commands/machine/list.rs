//! `updraft machine list`

use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick::{GROUP, label};
use crate::parse::{key_value, size_name};
use crate::ui::table::table;
use clap::Args;
use client::ListMachines;
use wire::machines::{ImageRef, Machine};

/// List an app's machines
///
/// A narrow terminal gets fewer columns; --json has everything.
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Only machines in these states, separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only machines of this region
    #[arg(short, long, add = complete::regions())]
    region: Option<String>,
    /// Only machines with this label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// Also destroyed machines, as long as they are remembered
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

const HEADER: &[&str] = &[
    "ID",
    "NAME",
    "STATE",
    "CHECKS",
    "REGION",
    "ROLE",
    "IMAGE",
    "IP ADDRESS",
    "VOLUME",
    "CREATED",
    "LAST UPDATED",
    "PROCESS GROUP",
    "SIZE",
];

/// The columns that a narrow terminal does without; `--json` and `machine status` have it.
const DISPENSABLE: &[&str] =
    &["CREATED", "VOLUME", "PROCESS GROUP", "ROLE", "IP ADDRESS", "CHECKS", "LAST UPDATED"];

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let which = ListMachines {
        include_deleted: args.all,
        states: args.state,
        region: args.region,
        metadata: args.metadata,
        ..ListMachines::default()
    };
    let machines = cx.client()?.machines(&app, &which).await;
    let machines = machines.context(|| format!("list the machines of app {app}"))?;
    if args.json {
        return cx.ui().json(&machines);
    }
    if args.quiet {
        let ids: String = machines.iter().map(|machine| format!("{}\n", machine.id)).collect();
        return cx.ui().bytes(ids.as_bytes());
    }
    if machines.is_empty() {
        let text = match which.is_filtered() {
            true => format!("No machine of app {app} matches"),
            false => format!("No machines are available on this app {app}"),
        };
        cx.ui().status(&text);
        return Ok(());
    }
    let rows: Vec<_> = machines.iter().map(row).collect();
    let fit = cx.ui().fit(DISPENSABLE);
    cx.ui().data(&table(HEADER, &rows, fit))
}

fn row(machine: &Machine) -> Vec<String> {
    let lost = if machine.host_status == "unreachable" { "*" } else { "" };
    let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
    let guest = config.and_then(|config| config.guest.as_ref());
    let mounts = config.and_then(|config| config.mounts.as_ref());
    let volume = mounts.and_then(|mounts| mounts.first()).and_then(|mount| mount.volume.clone());
    vec![
        format!("{lost}{}", machine.id),
        machine.name.clone(),
        machine.state.clone(),
        passing(machine),
        machine.region.clone(),
        label(machine, "role"),
        image(&machine.image_ref),
        machine.private_ip.clone(),
        volume.unwrap_or_default(),
        machine.created_at.clone(),
        machine.updated_at.clone(),
        label(machine, GROUP),
        guest.map(size_name).unwrap_or_default(),
    ]
}

/// `1/2` checks pass, or nothing.
pub(super) fn passing(machine: &Machine) -> String {
    let passing = machine.checks.iter().filter(|check| check.status == "passing").count();
    match machine.checks.len() {
        0 => String::new(),
        all => format!("{passing}/{all}"),
    }
}

/// `repository:tag`, or with the digest if there is no tag.
pub(super) fn image(image: &ImageRef) -> String {
    match image.tag.as_str() {
        "" => format!("{}@{}", image.repository, image.digest),
        tag => format!("{}:{tag}", image.repository),
    }
}
