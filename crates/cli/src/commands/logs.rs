//! `updraft logs`

use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Exit, Result};
use crate::machines::pick;
use crate::parse::{moment, shown};
use clap::Args;
use client::{Client, Lines};
use rt::Backoff;
use std::collections::BTreeMap;
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

/// How much later than a newer line of another machine a line may arrive, in
/// nanoseconds.
const LATE: i64 = 60_000_000_000;
/// Tries in a row to get a lost connection back.
const TRIES: u32 = 10;

pub(super) async fn run(args: LogsArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let instance = match (args.machine, args.select) {
        (None, true) => Some(pick::one(cx, &client, &app, None).await?),
        (machine, _) => machine,
    };
    let (region, tail, follow) = (args.region, Some(args.tail), !args.no_tail);
    let first = LogQuery { instance, region, tail, follow, ..LogQuery::default() };
    let mut shown = ShownLines::new(cx.env.clock.now_ns());
    let mut query = first.clone();
    let attempt = || format!("read the logs of app {app}");
    // The first try fails at once: an unknown app does not come by waiting.
    let mut lines = client.logs(&app, &query).await.context(attempt)?;
    loop {
        let lost = show(cx, &mut lines, &mut shown, args.json).await?;
        if !follow {
            return lost.map_or(Ok(()), Err);
        }
        cx.ui().status("The connection is lost; trying again.");
        query = shown.rest_of(&first);
        lines = again(cx, &client, &app, &query).await?;
    }
}

/// The newest line shown of each machine. Lines of several hosts may arrive in
/// another order than they were written in, so one time for all machines would
/// drop those that arrive late.
struct ShownLines {
    /// When the first request was made, nanoseconds since the epoch.
    begun: i64,
    /// Times of the newest lines, by machine.
    newest: BTreeMap<String, i64>,
    /// The same, as they were when the connection was made again.
    before: BTreeMap<String, i64>,
}

impl ShownLines {
    fn new(begun: i64) -> Self {
        Self { begun, newest: BTreeMap::new(), before: BTreeMap::new() }
    }

    /// Whether the line was not shown over an earlier connection.
    fn is_new(&mut self, entry: &LogEntry) -> bool {
        let LogEntry { instance, timestamp, .. } = entry;
        if self.before.get(instance).is_some_and(|before| timestamp <= before) {
            return false;
        }
        let newest = self.newest.entry(instance.clone()).or_insert(*timestamp);
        *newest = (*newest).max(*timestamp);
        true
    }

    /// The query for what the `first` one has not shown, for a new connection. Its
    /// answer may repeat lines, which [`ShownLines::is_new`] leaves out.
    fn rest_of(&mut self, first: &LogQuery) -> LogQuery {
        self.before = self.newest.clone();
        let ends = self.newest.values().min().zip(self.newest.values().max());
        let after = match ends {
            Some((oldest, newest)) => *oldest.max(&newest.saturating_sub(LATE)),
            // There was nothing to show, so all that the same query shows is new.
            None if first.tail != Some(0) => return first.clone(),
            None => self.begun,
        };
        LogQuery { after: Some(after), tail: None, ..first.clone() }
    }
}

/// Shows lines to the end of the stream; why it broke, if it did.
async fn show(
    cx: &mut Context<'_>,
    lines: &mut Lines<LogEntry>,
    shown: &mut ShownLines,
    json: bool,
) -> Result<Option<CliError>> {
    loop {
        match lines.next().await.context(|| "read the logs".to_owned()) {
            Ok(Some(entry)) => {
                if !shown.is_new(&entry) {
                    continue;
                }
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
    for left in (0..TRIES).rev() {
        tokio::time::sleep(backoff.pause(&cx.env.rng)).await;
        match client.logs(app, query).await.context(|| format!("read the logs of app {app}")) {
            Err(err) if left == 0 || err.kind != Exit::Unreachable => return Err(err),
            Err(_) => {}
            Ok(lines) => return Ok(lines),
        }
    }
    Err(CliError::new(Exit::Unreachable, format!("Cannot read the logs of app {app}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn entry(instance: &str, timestamp: i64) -> LogEntry {
        let text = serde_json::json!({"offset": 1, "timestamp": timestamp, "provider": "app",
            "level": "info", "instance": instance, "region": "here", "message": "m"});
        serde_json::from_value(text).unwrap()
    }

    fn query(tail: u32) -> LogQuery {
        LogQuery { tail: Some(tail), follow: true, ..LogQuery::default() }
    }

    #[test]
    fn lines_written_while_the_connection_was_lost_are_shown_though_none_was_before() {
        let mut shown = ShownLines::new(5 * SECOND);
        assert_eq!(shown.rest_of(&query(100)), query(100));
        // Without lines to begin with: all since the first request.
        let rest = shown.rest_of(&query(0));
        assert_eq!((rest.after, rest.tail, rest.follow), (Some(5 * SECOND), None, true));
        assert!(shown.is_new(&entry("a", 6 * SECOND)));
    }

    #[test]
    fn a_late_line_of_one_machine_is_shown_and_no_line_twice() {
        let mut shown = ShownLines::new(0);
        for (instance, second) in [("a", 99), ("b", 101), ("a", 100), ("c", 10)] {
            assert!(shown.is_new(&entry(instance, second * SECOND)), "{instance} {second}");
        }
        // Not from the last line of the quiet machine `c` on.
        assert_eq!(shown.rest_of(&query(100)).after, Some(41 * SECOND));
        for (instance, second, new) in [
            ("a", 100, false),
            ("b", 101, false),
            ("a", 101, true),
            ("a", 101, true),
            ("new", 50, true),
        ] {
            let is_new = shown.is_new(&entry(instance, second * SECOND));
            assert_eq!(is_new, new, "{instance} {second}");
        }
        assert!(shown.rest_of(&query(100)).after == Some(41 * SECOND));
        assert!(!shown.is_new(&entry("a", 101 * SECOND)));
    }
}
