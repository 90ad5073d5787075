//! `updraft machine runs`

use super::OneArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use wire::machines::ScheduleRun;

/// List the runs of a machine with a schedule
#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    #[command(flatten)]
    which: OneArgs,
    /// How many, at most 100
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: RunsArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let runs = client.runs(&app, &id, args.limit).await;
    let runs = runs.context(|| format!("list the runs of machine {id}"))?;
    if args.json {
        return cx.ui().json(&runs);
    }
    let rows: Vec<_> = runs.into_iter().map(row).collect();
    let fit = cx.ui().fit(&["REASON"]);
    let header = ["TRIGGER", "STATUS", "SCHEDULED", "STARTED", "DURATION", "EXIT CODE", "REASON"];
    cx.ui().data(&table(&header, &rows, fit))
}

fn row(run: ScheduleRun) -> Vec<String> {
    let duration = run.duration_ms.map(|ms| format!("{:.1}s", ms as f64 / 1000.0));
    let code = run.exit_code.map(|code| code.to_string());
    vec![
        run.trigger,
        run.status,
        run.scheduled_at,
        run.started_at.unwrap_or_default(),
        duration.unwrap_or_default(),
        code.unwrap_or_default(),
        run.reason.unwrap_or_default(),
    ]
}
