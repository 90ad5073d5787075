//! `updraft machine metadata`

use super::OneArgs;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use crate::parse::key_value;
use crate::ui::table::table;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use wire::machines::MetadataChange;

/// Commands about labels of a machine.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    List(ListArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
}

/// List the labels of a machine
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// Set labels of a machine, without a new version of it
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// Id or name of the machine
    #[arg(value_name = "ID", add = complete::machines())]
    id: String,
    /// Labels
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    app: AppArgs,
}

/// Remove labels of a machine, without a new version of it
#[derive(Clone, Debug, Args)]
pub struct UnsetArgs {
    /// Id or name of the machine
    #[arg(value_name = "ID", add = complete::machines())]
    id: String,
    /// Keys of the labels
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    app: AppArgs,
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::List(args) => list(args, cx).await,
        Command::Set(SetArgs { id, labels, app }) => {
            if let Some((key, _)) = labels.iter().find(|(_, value)| value.is_empty()) {
                let error = CliError::usage(format!("The label {key} has no value"));
                let hint = format!("`updraft machine metadata unset {id} {key}` removes it.");
                return Err(error.hint(hint));
            }
            let labels = labels.into_iter().map(|(key, value)| (key, Some(value)));
            change(cx, &app, &id, labels.collect()).await
        }
        Command::Unset(UnsetArgs { id, keys, app }) => {
            change(cx, &app, &id, keys.into_iter().map(|key| (key, None)).collect()).await
        }
    }
}

async fn list(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let labels = client.metadata(&app, &id).await;
    let labels = labels.context(|| format!("list the labels of machine {id}"))?;
    if args.json {
        return cx.ui().json(&labels);
    }
    let rows: Vec<_> = labels.into_iter().map(|(key, value)| vec![key, value]).collect();
    let fit = cx.ui().fit(&[]);
    cx.ui().data(&table(&["KEY", "VALUE"], &rows, fit))
}

async fn change(
    cx: &mut Context<'_>,
    app: &AppArgs,
    id: &str,
    metadata: BTreeMap<String, Option<String>>,
) -> Result<()> {
    let app = cx.app(app).await?;
    let change = MetadataChange { metadata, machine_version: None };
    let changed = cx.client()?.change_metadata(&app, id, &change).await;
    changed.context(|| format!("change the labels of machine {id}"))?;
    cx.ui().status(&format!("Changed the labels of machine {id}"));
    Ok(())
}
