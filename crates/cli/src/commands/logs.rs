//! `updraft logs`

use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Exit, Result};
use crate::machines::pick;
use crate::parse::{moment, shown};
use clap::Args;
use client::{Client, Lines};
use rt::Backoff;
use std::time::Duration;
use wire::logs::{LogEntry, LogQuery};

/// Show what an app's machines write
///
/// Shows the newest lines, then new ones as they are written, until it
/// is interrupted. If the connection is lost, it is made again.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Only this machine [alias: -i, --instance]
    #[arg(short, long, short_alias = 'i', alias = "instance", value_name = "ID")]
    machine: Option<String>,
    /// Choose the machine from a list
    #[arg(short, long, conflicts_with = "machine")]
    select: bool,
    /// Only this region
    #[arg(short, long)]
    region: Option<String>,
    /// Show what is there and end
    #[arg(short, long)]
    no_tail: bool,
    /// Newest lines to begin with
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: u32,
    /// Print one JSON object per line
    #[arg(short, long)]
    json: bool,
}

/// Tries in a row to get a lost connection back.
const TRIES: u32 = 10;

pub(super) async fn run(args: LogsArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app)?;
    let client = cx.client()?;
    let instance = match (args.machine, args.select) {
        (None, true) => Some(pick::one(cx, &client, &app, None).await?),
        (machine, _) => machine,
    };
    let (region, tail, follow) = (args.region, Some(args.tail), !args.no_tail);
    let mut query = LogQuery { instance, region, tail, follow, ..LogQuery::default() };
    let attempt = || format!("read the logs of app {app}");
    // The first try fails at once: an unknown app does not come by waiting.
    let mut lines = client.logs(&app, &query).await.context(attempt)?;
    loop {
        let lost = show(cx, &mut lines, &mut query, args.json).await?;
        if !follow {
            return lost.map_or(Ok(()), Err);
        }
        cx.ui().status("The connection is lost; trying again.");
        lines = again(cx, &client, &app, &query).await?;
    }
}

/// Shows lines to the end of the stream; why it broke, if it did.
async fn show(
    cx: &mut Context<'_>,
    lines: &mut Lines<LogEntry>,
    query: &mut LogQuery,
    json: bool,
) -> Result<Option<CliError>> {
    loop {
        match lines.next().await.context(|| "read the logs".to_owned()) {
            Ok(Some(entry)) => {
                query.after = query.after.max(Some(entry.timestamp));
                if json {
                    cx.ui().json_line(&entry)?;
                } else {
                    cx.ui().data(&line(&entry))?;
                }
            }
            Ok(None) => return Ok(None),
            Err(err) => return Ok(Some(err)),
        }
    }
}

async fn again(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    query: &LogQuery,
) -> Result<Lines<LogEntry>> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    // Only what is new: the last line shown is `after`.
    let query = LogQuery { tail: query.after.is_none().then_some(0), ..query.clone() };
    for left in (0..TRIES).rev() {
        tokio::time::sleep(backoff.pause(&cx.env.rng)).await;
        match client.logs(app, &query).await.context(|| format!("read the logs of app {app}")) {
            Err(err) if left == 0 || err.kind != Exit::Unreachable => return Err(err),
            Err(_) => {}
            Ok(lines) => return Ok(lines),
        }
    }
    Err(CliError::new(Exit::Unreachable, format!("Cannot read the logs of app {app}")))
}

/// `<RFC3339> app[<machine>] <region> [info]<message>`.
fn line(entry: &LogEntry) -> String {
    let LogEntry { provider, instance, region, level, .. } = entry;
    let when = moment(entry.timestamp / 1_000_000);
    format!("{when} {provider}[{instance}] {region} [{level}]{}", shown(&entry.message))
}
