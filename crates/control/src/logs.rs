//! Logs of an app: streams of lines over all hosts, and pages.

use crate::hosts::{READ_TIMEOUT, within};
use crate::{Error, Platform, lookup};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use host_api::{HostError, KnownHost};
use model::id::{AppId, HostId};
use rt::Backoff;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use wire::logs::{LogEntry, LogQuery};

/// Lines to begin with when nothing else is asked for, and at most.
const DEFAULT_LINES: u32 = 100;
const MAX_LINES: u32 = 10_000;

/// Lines of an app: the newest `tail`, or with `after` and no `tail` the oldest
/// after that time; in order of time as far as they are not followed. `instance` may be the
/// name of a machine. A followed stream ends when the platform stops.
///
/// # Errors
/// There is no such app or machine, or no host answered.
pub async fn stream(
    platform: &Platform,
    app: &str,
    mut query: LogQuery,
) -> Result<BoxStream<'static, LogEntry>, Error> {
    let default = query.after.is_none().then_some(DEFAULT_LINES);
    query.tail = query.tail.or(default).map(|tail| tail.min(MAX_LINES));
    let record = lookup::app(platform, app).await?.record;
    if let Some(machine) = query.instance.take() {
        query.instance = Some(lookup::machine(platform, app, &machine).await?.id.to_string());
    }
    let hosts = platform.hosts().all();
    let asked = hosts.iter().map(|KnownHost { id, host }| async {
        let asked = host.logs(platform.context(READ_TIMEOUT), record.id, query.clone());
        (*id, within(READ_TIMEOUT, asked).await)
    });
    let (mut streams, mut failed) = (Vec::new(), Vec::new());
    for (id, answer) in join_all(asked).await {
        match answer {
            Ok(lines) => streams.push((id, lines)),
            Err(err) => failed.push((id, err)),
        }
    }
    if streams.is_empty()
        && let Some((_, err)) = failed.pop()
    {
        return Err(err.into());
    }
    let notices = failed.iter().map(|(id, err)| away(platform, *id, err)).collect::<Vec<_>>();
    if query.follow {
        let mut all = Vec::new();
        for (id, lines) in streams {
            all.push(Follow::new(platform, id, record.id, &query, Some(lines)).stream());
        }
        for (id, _) in failed {
            all.push(Follow::new(platform, id, record.id, &query, None).stream());
        }
        let lines = stream::iter(notices).chain(stream::select_all(all));
        return Ok(lines.take_until(platform.tasks().stopping()).boxed());
    }
    let mut lines: Vec<LogEntry> = Vec::new();
    for (_, of_host) in streams {
        lines.extend(of_host.collect::<Vec<_>>().await);
    }
    lines.sort_by_key(|line| line.timestamp);
    cut(&mut lines, &query);
    Ok(stream::iter(notices.into_iter().chain(lines)).boxed())
}

/// The lines of one host, followed: the end of a stream is reported, and
/// is continued after its last line once the host answers.
struct Follow {
    platform: Platform,
    host: HostId,
    app: AppId,
    query: LogQuery,
    lines: Option<BoxStream<'static, LogEntry>>,
    /// Log and offset of each line that has been passed on and has the newest time: many
    /// lines may have one time, and the stream may break between them.
    newest: HashSet<(String, u64)>,
    pauses: Backoff,
}

impl Follow {
    fn new(
        platform: &Platform,
        host: HostId,
        app: AppId,
        query: &LogQuery,
        lines: Option<BoxStream<'static, LogEntry>>,
    ) -> Self {
        let after = query.after.unwrap_or_else(|| platform.clock().now_ns());
        let query = LogQuery { after: Some(after), tail: None, ..query.clone() };
        Self {
            platform: platform.clone(),
            host,
            app,
            query,
            lines,
            newest: HashSet::new(),
            pauses: pauses(),
        }
    }

    fn stream(self) -> BoxStream<'static, LogEntry> {
        stream::unfold(self, async |mut own| Some((own.next().await, own))).boxed()
    }

    async fn next(&mut self) -> LogEntry {
        loop {
            let Some(lines) = &mut self.lines else {
                tokio::time::sleep(self.pauses.pause(self.platform.rng())).await;
                self.lines = self.ask().await;
                continue;
            };
            if let Some(line) = lines.next().await {
                self.pauses = pauses();
                if self.is_new(&line) {
                    return line;
                }
                continue;
            }
            self.lines = None;
            let broken = HostError::unreachable("the host does not send them any more");
            return away(&self.platform, self.host, &broken);
        }
    }

    /// Notes a line; false for one that has been passed on before the stream broke.
    fn is_new(&mut self, line: &LogEntry) -> bool {
        let place = (line.instance.clone(), line.offset);
        if self.query.after.is_none_or(|after| line.timestamp > after) {
            self.query.after = Some(line.timestamp);
            self.newest.clear();
        } else if self.query.after != Some(line.timestamp) {
            return true;
        }
        if self.newest.contains(&place) {
            return false;
        }
        if self.newest.len() < MAX_LINES as usize {
            self.newest.insert(place);
        }
        true
    }

    async fn ask(&mut self) -> Option<BoxStream<'static, LogEntry>> {
        let host = self.platform.hosts().get(self.host)?;
        // Lines of the newest time are asked for again.
        let again = i64::from(!self.newest.is_empty());
        let after = self.query.after.map(|after| after.saturating_sub(again));
        let query = LogQuery { after, ..self.query.clone() };
        let asked = host.logs(self.platform.context(READ_TIMEOUT), self.app, query);
        let answer = within(READ_TIMEOUT, asked).await;
        answer
            .inspect_err(|err| tracing::debug!(host = self.host.0, error = %err, "follow logs"))
            .ok()
    }
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}

/// Cuts the lines of several hosts down to what was asked for.
fn cut(lines: &mut Vec<LogEntry>, query: &LogQuery) {
    if let Some(tail) = query.tail {
        lines.drain(..lines.len().saturating_sub(tail as usize));
    } else {
        cut_page(lines, MAX_LINES as usize);
    }
}

/// Cuts the lines after a time down to the oldest. A page that is full may have
/// been cut off between lines of one time, and the next one begins after the time
/// of its last line: so it ends before that time, unless it has no other.
fn cut_page(lines: &mut Vec<LogEntry>, limit: usize) {
    if lines.len() < limit {
        return;
    }
    lines.truncate(limit);
    let last = lines.last().map(|line| line.timestamp);
    if let Some(end) = lines.iter().rposition(|line| Some(line.timestamp) != last) {
        lines.truncate(end + 1);
    }
}

/// A line that reports that those of a host are missing.
fn away(platform: &Platform, HostId(host): HostId, err: &HostError) -> LogEntry {
    LogEntry {
        offset: 0,
        timestamp: platform.clock().now_ns(),
        provider: "runner".into(),
        level: "warn".into(),
        instance: String::new(),
        region: String::new(),
        message: format!("The logs of host {host} are missing: {err}"),
        meta: BTreeMap::new(),
    }
}

/// A page of lines and the time after which the next one begins.
#[derive(Clone, Debug)]
pub struct Page {
    /// Lines in order of time.
    pub lines: Vec<LogEntry>,
    /// Time of the last line, nanoseconds since the epoch; `None` while the log is
    /// empty.
    pub next: Option<i64>,
}

/// The newest lines, or the oldest ones after `query.after`.
///
/// # Errors
/// As [`stream`].
pub async fn page(platform: &Platform, app: &str, query: LogQuery) -> Result<Page, Error> {
    let after = query.after;
    let lines = stream(platform, app, LogQuery { follow: false, ..query }).await?;
    let lines: Vec<LogEntry> = lines.collect().await;
    // Notices of this moment are of no host, and are ahead of lines yet to come.
    let of_hosts = lines.iter().filter(|line| !line.instance.is_empty());
    let next = of_hosts.map(|line| line.timestamp).max().or(after);
    Ok(Page { lines, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(times: &[i64]) -> Vec<LogEntry> {
        let line = |timestamp: &i64| LogEntry {
            offset: 0,
            timestamp: *timestamp,
            provider: "app".into(),
            level: "info".into(),
            instance: "m".into(),
            region: "local".into(),
            message: String::new(),
            meta: BTreeMap::new(),
        };
        times.iter().map(line).collect()
    }

    fn times(lines: Vec<LogEntry>) -> Vec<i64> {
        lines.into_iter().map(|line| line.timestamp).collect()
    }

    #[test]
    fn a_page_after_a_time_has_the_oldest_lines_and_separates_none_of_one_time() {
        let page = |of: &[i64], limit| {
            let mut lines = lines(of);
            cut_page(&mut lines, limit);
            times(lines)
        };
        assert_eq!(page(&[1, 2], 3), [1, 2]);
        assert_eq!(page(&[1, 2, 3], 3), [1, 2]);
        assert_eq!(page(&[1, 2, 2, 3], 3), [1]);
        assert_eq!(page(&[1, 2, 2, 3], 4), [1, 2, 2]);
        assert_eq!(page(&[2, 2, 2], 2), [2, 2]);
        for after in [None, Some(0)] {
            let mut newest = lines(&[1, 2, 3]);
            cut(&mut newest, &LogQuery { after, tail: Some(2), ..LogQuery::default() });
            assert_eq!(times(newest), [2, 3]);
        }
    }
}
