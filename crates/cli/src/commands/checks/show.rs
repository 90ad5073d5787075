//! `updraft checks show`

use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick;
use clap::Args;
use std::fmt::Write;
use wire::machines::CheckReport;

/// Show the newest run of each health check of a machine: request and answer
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Id or name of the machine; chosen from a list if absent
    #[arg(value_name = "ID", add = complete::machines())]
    machine: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ShowArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let machine = pick::one(cx, &client, &app, args.machine).await?;
    let reports = client.machine_checks(&app, &machine).await;
    let reports = reports.context(|| format!("show the checks of machine {machine}"))?;
    match args.json {
        true => cx.ui().json(&reports),
        false => cx.ui().data(&reports.iter().map(text).collect::<Vec<_>>().join("\n")),
    }
}

fn text(report: &CheckReport) -> String {
    let CheckReport { name, kind, purpose, status, updated_at, passes, failures, .. } = report;
    let mut text = format!("{name} ({kind}, {purpose}): {status} since {updated_at}\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "  in a row: {passes} passed, {failures} failed");
    match &report.last_run {
        None => text.push_str("  it has not run yet\n"),
        Some(run) => {
            let verdict = if run.passed { "passed" } else { "failed" };
            let _ = writeln!(text, "  newest run: {verdict} at {}, {}ms", run.at, run.took_ms);
            run.request.lines().for_each(|line| text.push_str(&format!("  > {line}\n")));
            run.response.lines().for_each(|line| text.push_str(&format!("  < {line}\n")));
        }
    }
    text
}
