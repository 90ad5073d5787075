//! `updraft volumes create`

use super::described;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use crate::parse;
use clap::Args;
use wire::machines::CreateVolume;

/// Most volumes of one command.
const MAX_COUNT: u32 = 100;

/// Create a volume for machines of an app
///
/// A volume is on one host, and a machine that mounts it runs there. An app that has to survive
/// the loss of a host needs a volume on another one, and copies its data itself.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Name: letters, digits and underscores; several volumes may have the same
    name: String,
    #[command(flatten)]
    app: AppArgs,
    /// Region; without it that of the API
    #[arg(short, long, add = crate::complete::regions())]
    region: Option<String>,
    /// Size in GB or with a unit, such as 10GB
    #[arg(short, long, value_name = "SIZE", default_value = "1", value_parser = parse::whole_gib)]
    size: u32,
    /// How many to create
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "1")]
    count: u32,
    /// What is made on it: ext4, or raw for a block device
    #[arg(long, value_name = "TYPE", default_value = "ext4", value_parser = ["ext4", "raw"])]
    fstype: String,
    /// Do not ask for encryption, which is not there yet
    #[arg(long)]
    no_encryption: bool,
    /// Prefer a host without a volume of this name [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_unique_zone: Option<bool>,
    /// Prefer a host without any volume of the app
    #[arg(long)]
    unique_zone_app_wide: bool,
    /// Days that snapshots are kept
    #[arg(long, value_name = "DAYS")]
    snapshot_retention: Option<u32>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: CreateArgs, cx: &mut Context<'_>) -> Result<()> {
    if !(1..=MAX_COUNT).contains(&args.count) {
        let error = CliError::usage(format!("Cannot create {} volumes", args.count));
        return Err(error.hint(format!("--count is from 1 to {MAX_COUNT}.")));
    }
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let ask = CreateVolume {
        name: args.name.clone(),
        region: args.region,
        size_gb: Some(args.size),
        encrypted: Some(!args.no_encryption),
        fstype: Some(args.fstype),
        require_unique_zone: args.require_unique_zone,
        unique_zone_app_wide: args.unique_zone_app_wide.then_some(true),
        snapshot_retention: args.snapshot_retention,
        ..CreateVolume::default()
    };
    let mut made = Vec::new();
    for _ in 0..args.count {
        let volume = client.create_volume(&app, &ask).await;
        let volume = volume.context(|| format!("create volume {}", args.name))?;
        if !args.json {
            cx.ui().data(&described(&volume, &app))?;
        }
        made.push(volume);
    }
    match (args.json, made.as_slice()) {
        (false, _) => Ok(()),
        (true, [one]) => cx.ui().json(one),
        (true, all) => cx.ui().json(&all),
    }
}
