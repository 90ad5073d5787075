//! `updraft machine place`

use super::size_flags::SizeArgs;
use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::flyctl::flags::{PlaceMachines, Unsupported};
use crate::ui::table::table;
use clap::Args;
use wire::platform::{AskPlacements, PlacementWeights, RegionPlacement};

/// The organization that every platform has.
const PERSONAL: &str = "personal";

/// Show where new machines would be placed
///
/// It is advice: nothing is reserved.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// How many machines; 0 means as many as there is room for
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u32,
    /// Region, or several in order of preference [default: the nearest, then any]
    #[arg(short, long, add = complete::regions())]
    region: Option<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// How much a part counts: region=50 for an early region, spread=1 for few machines per host
    #[arg(long, value_name = "PART=NUMBER", value_delimiter = ',', value_parser = weight)]
    weights: Vec<(Part, u32)>,
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
    let ask = AskPlacements {
        org_slug: Some(org_slug),
        compute: args.size.guest(),
        region: args.region,
        count: Some(args.count),
        weights: weights(&args.weights),
        ..AskPlacements::default()
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

fn row(placed: RegionPlacement) -> Vec<String> {
    vec![placed.region, placed.count.to_string(), placed.concurrency.to_string()]
}

/// A part of the request that a weight is for.
#[derive(Clone, Copy, Debug)]
enum Part {
    Region,
    Spread,
}

fn weights(given: &[(Part, u32)]) -> Option<PlacementWeights> {
    let mut weights = PlacementWeights::default();
    for (part, weight) in given {
        match part {
            Part::Region => weights.region = Some(*weight),
            Part::Spread => weights.spread = Some(*weight),
        }
    }
    (!given.is_empty()).then_some(weights)
}

fn weight(text: &str) -> Result<(Part, u32), String> {
    let (part, number) = text.split_once('=').unwrap_or((text, ""));
    let part = match part {
        "region" => Part::Region,
        "spread" => Part::Spread,
        _ => return Err(format!("{part:?} has no weight; write region=50 or spread=1")),
    };
    let number = number.parse();
    number.map(|number| (part, number)).map_err(|_| format!("{text:?} has no number after ="))
}
