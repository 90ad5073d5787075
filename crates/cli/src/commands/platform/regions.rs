//! `updraft platform regions`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use wire::platform::Region;

/// List the regions of the platform
///
/// The nearest one, marked with *, is used where a command names none. The capacity is how many
/// more machines there is memory for.
#[derive(Clone, Debug, Args)]
pub struct RegionsArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: RegionsArgs, cx: &mut Context<'_>) -> Result<()> {
    let list = cx.client()?.regions().await.context(|| "list the regions".into())?;
    if args.json {
        return cx.ui().json(&list.regions);
    }
    let rows: Vec<_> = list.regions.iter().map(|region| row(region, &list.nearest)).collect();
    let fit = cx.ui().fit(&["CAPACITY"]);
    cx.ui().data(&table(&["NAME", "CODE", "CAPACITY"], &rows, fit))
}

fn row(region: &Region, nearest: &str) -> Vec<String> {
    let mark = if region.code == nearest { "*" } else { "" };
    let deprecated = if region.deprecated { " (deprecated)" } else { "" };
    vec![
        format!("{}{deprecated}", region.name),
        format!("{}{mark}", region.code),
        region.capacity.to_string(),
    ]
}
