//! Logs of an app over all hosts: lines as they come (`follow`), pages (`page`), and places from
//! which a reader continues (`place`).

mod follow;
mod hosts;
mod page;
mod place;

pub use page::Page;
pub use place::Place;

use crate::{Error, Platform, lookup};
use follow::Follow;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hosts::{Question, away};
use model::id::HostId;
use page::MAX_LINES;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::logs::{LogEntry, LogQuery};

/// Lines to begin with when nothing else is asked for.
const DEFAULT_LINES: u32 = 100;
/// How long a page that would be empty waits for a line: clients ask again at once.
const LONG_POLL: Duration = Duration::from_secs(1);

/// One item of a followed log.
#[derive(Clone, Debug)]
pub struct LogItem {
    /// From here on the log continues without a gap; `None` while a host is yet to answer.
    pub place: Option<Place>,
    /// The line; `None` where only the place is new.
    pub line: Option<LogEntry>,
}

/// Lines of an app that are there: the newest `tail`, or with `after` and no `tail` all after
/// that, in order of time. `instance` may be the name of a machine.
///
/// # Errors
/// There is no such app or machine, or no host answered.
pub async fn stream(
    platform: &Platform,
    app: &str,
    query: LogQuery,
    after: Option<Place>,
) -> Result<BoxStream<'static, LogEntry>, Error> {
    let question = question(platform, app, query, after).await?;
    let most = question.query.tail.map_or(MAX_LINES, |tail| tail as usize);
    let first = page::page(&question, most).await?;
    Ok(page::all(question, first).take_until(platform.tasks().stopping()).boxed())
}

/// Lines of an app as they come, after those that are there, until the platform stops. Those of
/// one host are in order of time.
///
/// # Errors
/// As [`stream`].
pub async fn follow(
    platform: &Platform,
    app: &str,
    query: LogQuery,
    after: Option<Place>,
) -> Result<BoxStream<'static, LogItem>, Error> {
    let query = LogQuery { follow: true, ..query };
    let question = question(platform, app, query, after).await?;
    let (streams, failed) = question.ask_all().await?;
    let begin = |host| question.after.as_ref().map(|after| after.of(host));
    let mut places: BTreeMap<HostId, Option<i64>> =
        streams.iter().map(|(host, _)| (*host, begin(*host))).collect();
    let now = platform.clock().now_ns();
    places.extend(failed.iter().map(|(host, _)| (*host, begin(*host).or(Some(now)))));
    let mut notices = Vec::new();
    let mut all = Vec::new();
    for (host, err) in failed {
        let line = Some(away(platform, host, &err));
        notices.push(LogItem { place: place_of(&places), line });
        all.push(Follow::new(&question, host, None).stream());
    }
    for (host, lines) in streams {
        all.push(Follow::new(&question, host, Some(lines)).stream());
    }
    let items = stream::select_all(all).map(move |(host, line)| {
        // Reports of missing hosts are of no host.
        if line.is_position() || line.offset > 0 {
            let place = places.entry(host).or_insert(None);
            *place = (*place).max(Some(line.timestamp.max(0)));
        }
        let place = place_of(&places);
        LogItem { place, line: (!line.is_position()).then_some(line) }
    });
    let items = stream::iter(notices).chain(items);
    Ok(items.take_until(platform.tasks().stopping()).boxed())
}

/// The place, once every host has one.
fn place_of(places: &BTreeMap<HostId, Option<i64>>) -> Option<Place> {
    let places = places.iter().map(|(host, time)| Some((*host, (*time)?)));
    places.collect::<Option<_>>().map(Place::of_hosts)
}

/// The newest lines, or with `after` the oldest ones after it; `most` at most. If there is none
/// after it, the answer waits a moment for one.
///
/// # Errors
/// As [`stream`].
pub async fn page(
    platform: &Platform,
    app: &str,
    query: LogQuery,
    after: Option<Place>,
    most: Option<usize>,
) -> Result<Page, Error> {
    let most = most.unwrap_or(if after.is_some() { MAX_LINES } else { DEFAULT_LINES as usize });
    let most = most.min(MAX_LINES);
    let tail = after.is_none().then(|| u32::try_from(most).unwrap_or(u32::MAX));
    let query = LogQuery { tail, ..query };
    let question = question(platform, app, query.clone(), after).await?;
    let first = page::page(&question, most).await?;
    let Some(next) = first.next.clone().filter(|_| first.lines.is_empty() && first.is_last) else {
        return Ok(first);
    };
    let query = LogQuery { tail: None, ..query };
    let mut lines = follow(platform, app, query, Some(next.clone())).await?;
    let line = async { while lines.next().await.is_some_and(|item| item.line.is_none()) {} };
    if tokio::time::timeout(LONG_POLL, line).await.is_err() {
        return Ok(first);
    }
    let query = LogQuery { tail: None, ..question.query };
    page::page(&Question { after: Some(next), query, ..question }, most).await
}

async fn question(
    platform: &Platform,
    app: &str,
    query: LogQuery,
    after: Option<Place>,
) -> Result<Question, Error> {
    let default = after.is_none().then_some(DEFAULT_LINES);
    let tail = query.tail.or(default).map(|tail| tail.min(MAX_LINES as u32));
    let app_id = lookup::app(platform, app).await?.record.id;
    let instance = match &query.instance {
        Some(machine) => Some(lookup::machine(platform, app, machine).await?.id.to_string()),
        None => None,
    };
    let query = LogQuery { instance, tail, after: None, positions: true, ..query };
    Ok(Question { platform: platform.clone(), app: app_id, query, after })
}
