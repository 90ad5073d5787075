//! `updraft machine place`

use super::size_flags::SizeArgs;
use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::flyctl::flags::{PlaceMachines, Unsupported};
use crate::ui::table::table;
use clap::Args;
use std::collections::BTreeMap;
use wire::placements::{PlacedInRegion, PlacementRequest};

/// The organization that every platform has.
const PERSONAL: &str = "personal";

/// Show where new machines would be placed
///
/// It is advice: nothing is reserved.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// How many machines; 0 means as many as there is room for
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,
    /// Region, or several in order of preference [default: the nearest, then any]
    #[arg(short, long, add = complete::regions())]
    region: Option<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// How much something counts, such as region=50 or spread=1; may be repeated
    #[arg(long, value_name = "WHAT=NUMBER", value_delimiter = ',', value_parser = weight)]
    weights: Vec<(String, i64)>,
    /// Organization of the machines [default without a terminal: personal]
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    #[command(flatten)]
    unsupported: Unsupported<PlaceMachines>,
}

pub(super) async fn run(args: PlaceArgs, cx: &mut Context<'_>) -> Result<()> {
    let org_slug = cx.find_org(args.org).await?.unwrap_or_else(|| PERSONAL.into());
    let weights: BTreeMap<String, i64> = args.weights.into_iter().collect();
    let ask = PlacementRequest {
        org_slug,
        compute: args.size.guest(),
        region: args.region,
        count: Some(args.count),
        weights: (!weights.is_empty()).then_some(weights),
        ..PlacementRequest::default()
    };
    let placements = cx.client()?.placements(&ask).await;
    let placements = placements.context(|| "find places for machines".into())?;
    if args.json {
        return cx.ui().json(&placements);
    }
    if placements.regions.is_empty() {
        cx.ui().status("No region has room for such a machine");
        return Ok(());
    }
    let rows: Vec<_> = placements.regions.into_iter().map(row).collect();
    let fit = cx.ui().fit(&["CONCURRENCY"]);
    cx.ui().data(&table(&["REGION", "COUNT", "CONCURRENCY"], &rows, fit))
}

fn row(placed: PlacedInRegion) -> Vec<String> {
    vec![placed.region, placed.count.to_string(), placed.concurrency.to_string()]
}

fn weight(text: &str) -> Result<(String, i64), String> {
    let pair = text.split_once('=').and_then(|(what, number)| {
        let number = number.parse().ok()?;
        (!what.is_empty()).then(|| (what.to_owned(), number))
    });
    pair.ok_or_else(|| format!("{text:?} is not of the form WHAT=NUMBER, such as region=50"))
}
