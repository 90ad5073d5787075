//! `updraft logs`

use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick;
use crate::parse::{moment, shown};
use crate::reconnect::reconnect;
use clap::Args;
use client::{Client, LogEvent, LogSearch};
use wire::logs::{LOG_LEVELS, LogEntry};

/// Show what an app's machines write
///
/// Shows the newest lines, then new ones as they are written, until it
/// is interrupted. If the connection is lost, it is made again and continues
/// after the last line that was shown.
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
    /// Only lines that contain this text, in letters of either case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only lines of these levels
    #[arg(long, value_name = "LEVEL,…", value_delimiter = ',', value_parser = LOG_LEVELS)]
    level: Vec<String>,
    /// Only lines since then: how long ago, such as 15m, or a time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show what is there and end
    #[arg(short, long)]
    no_tail: bool,
    /// Newest lines to begin with [default: 100, with --since all]
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Print one JSON object per line
    #[arg(short, long)]
    json: bool,
}

/// Lines to begin with when nothing else is asked for.
const DEFAULT_LINES: u32 = 100;

pub(super) async fn run(args: LogsArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let instance = match (args.machine, args.select) {
        (None, true) => Some(pick::one(cx, &client, &app, None).await?),
        (machine, _) => machine,
    };
    let default = args.since.is_none().then_some(DEFAULT_LINES);
    let search = LogSearch {
        instance,
        region: args.region,
        search: args.search,
        levels: args.level,
        since: args.since,
        tail: args.tail.or(default),
    };
    if args.no_tail {
        return all(cx, &client, (&app, &search), args.json).await;
    }
    follow(cx, &client, (&app, &search), args.json).await
}

/// Shows the lines that are there.
async fn all(
    cx: &mut Context<'_>,
    client: &Client,
    (app, search): (&str, &LogSearch),
    json: bool,
) -> Result<()> {
    let attempt = || format!("read the logs of app {app}");
    let mut lines = client.logs(app, search).await.context(attempt)?;
    while let Some(entry) = lines.next().await.context(|| "read the logs".to_owned())? {
        show(cx, &entry, json)?;
    }
    Ok(())
}

/// Shows lines until it is interrupted.
async fn follow(
    cx: &mut Context<'_>,
    client: &Client,
    (app, search): (&str, &LogSearch),
    json: bool,
) -> Result<()> {
    let attempt = || format!("read the logs of app {app}");
    // The first try fails at once: an unknown app does not come by waiting.
    let mut events = client.follow_logs(app, search, None).await.context(attempt)?;
    let mut after = None;
    loop {
        // Why it has ended matters only if it cannot be continued.
        while let Ok(Some(LogEvent { id, data })) = events.next().await {
            if let Some(entry) = data {
                show(cx, &entry, json)?;
            }
            after = id.or(after);
        }
        cx.ui().status("The connection is lost; trying again.");
        let connect =
            async || client.follow_logs(app, search, after.as_deref()).await.context(attempt);
        events = reconnect(cx, connect).await?;
    }
}

fn show(cx: &mut Context<'_>, entry: &LogEntry, json: bool) -> Result<()> {
    if json { cx.ui().json_line(entry) } else { cx.ui().data(&line(entry)) }
}

/// `<RFC3339> app[<machine>] <region> [info]<message>`; the name of the container or
/// process, if there are several, comes before the message.
fn line(entry: &LogEntry) -> String {
    let LogEntry { provider, instance, region, level, meta, .. } = entry;
    let when = moment(entry.timestamp / 1_000_000);
    let name = meta.get("container").or(meta.get("process"));
    let name = name.map_or(String::new(), |name| format!("{}: ", shown(name)));
    format!("{when} {provider}[{instance}] {region} [{level}]{name}{}", shown(&entry.message))
}
