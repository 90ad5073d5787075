//! Pages of an app's log, and everything from a time on.
//!
//! A host sends its lines in the order of time, one page of its own after the other; what it has
//! searched without a match is bounded by that page. A page here is made of one page of each host.

use super::hosts::{OfHost, Question, away};
use super::place::Place;
use crate::Error;
use crate::hosts::READ_TIMEOUT;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use model::id::HostId;
use std::collections::BTreeMap;
use tokio::time::timeout;
use wire::logs::LogEntry;

/// Lines of one page.
pub(super) const MAX_LINES: usize = 10_000;

/// Some lines in the order of time, and where the next page begins.
#[derive(Clone, Debug)]
pub struct Page {
    /// Reports of hosts that have not answered.
    pub notices: Vec<LogEntry>,
    /// Lines.
    pub lines: Vec<LogEntry>,
    /// `None` while the log is empty.
    pub next: Option<Place>,
    /// There is no more at this moment.
    pub is_last: bool,
}

/// The page of one host.
struct HostPage {
    host: HostId,
    lines: Vec<LogEntry>,
    /// All lines up to then are in it.
    until: i64,
    is_last: bool,
}

/// The newest lines, or the oldest ones of the question's place on.
pub(super) async fn page(question: &Question, most: usize) -> Result<Page, Error> {
    let (streams, failed) = question.ask_all().await?;
    let of_hosts = join_all(streams.into_iter().map(|of_host| host_page(question, of_host))).await;
    let notices = failed.iter().map(|(id, err)| away(&question.platform, *id, err)).collect();
    let mut next: BTreeMap<HostId, i64> =
        of_hosts.iter().map(|page| (page.host, page.until)).collect();
    let is_newest = question.after.is_none() || question.query.tail.is_some();
    let (lines, end) = if is_newest { newest(of_hosts, most) } else { oldest(of_hosts, most) };
    if let Some(end) = end {
        next.values_mut().for_each(|until| *until = (*until).min(end));
    }
    for (host, until) in &mut next {
        // Never back, whatever the host has answered.
        *until = (*until).max(question.after.as_ref().map_or(0, |after| after.of(*host)));
    }
    for (host, _) in &failed {
        let unread = question.after.as_ref().map(|after| after.of(*host));
        next.insert(*host, unread.unwrap_or_else(|| question.platform.clock().now_ns()));
    }
    let any = next.values().any(|time| *time > 0);
    Ok(Page { notices, lines, next: any.then(|| Place::of_hosts(next)), is_last: end.is_none() })
}

async fn host_page(question: &Question, (host, mut stream): OfHost) -> HostPage {
    let begin = question.for_host(host).after.unwrap_or(0);
    let mut page = HostPage { host, lines: Vec::new(), until: begin, is_last: true };
    // A host that stops in the middle of its answer keeps its place.
    while let Ok(Some(line)) = timeout(READ_TIMEOUT, stream.next()).await {
        if line.is_position() {
            page.until = line.timestamp.max(begin);
            page.is_last = line.offset == 0;
            break;
        }
        page.until = page.until.max(line.timestamp);
        page.lines.push(line);
        // Until there is a position: a host of an earlier version ends a page without one.
        page.is_last = false;
        if page.lines.len() > MAX_LINES {
            break;
        }
    }
    page
}

/// Of what the hosts have found, the oldest lines; the time of the end, if more follow.
fn oldest(pages: Vec<HostPage>, most: usize) -> (Vec<LogEntry>, Option<i64>) {
    let mut end = pages.iter().filter(|page| !page.is_last).map(|page| page.until).min();
    let mut lines: Vec<_> = pages.into_iter().flat_map(|page| page.lines).collect();
    lines.retain(|line| end.is_none_or(|end| line.timestamp <= end));
    lines.sort_by_key(|line| line.timestamp);
    if let Some(last) = cut(&mut lines, most) {
        end = Some(last);
    }
    (lines, end)
}

fn newest(pages: Vec<HostPage>, most: usize) -> (Vec<LogEntry>, Option<i64>) {
    let mut lines: Vec<_> = pages.into_iter().flat_map(|page| page.lines).collect();
    lines.sort_by_key(|line| line.timestamp);
    lines.drain(..lines.len().saturating_sub(most));
    (lines, None)
}

/// Cuts lines down to the oldest, between lines of different times (those of different hosts,
/// and of earlier versions, may have the same), unless all have one time. The time of the last
/// one, if there were more.
fn cut(lines: &mut Vec<LogEntry>, most: usize) -> Option<i64> {
    let first_left_out = lines.get(most)?.timestamp;
    let kept = lines[..most].iter().rposition(|line| line.timestamp < first_left_out);
    let kept = kept.map_or_else(
        || lines.iter().take_while(|line| line.timestamp == first_left_out).count(),
        |last| last + 1,
    );
    let is_cut = kept < lines.len();
    lines.truncate(kept);
    lines.last().map(|line| line.timestamp).filter(|_| is_cut)
}

/// All lines from the question's place on, up to this moment, without a bound: a page is read
/// when the one before it has been taken.
pub(super) fn all(question: Question, first: Page) -> BoxStream<'static, LogEntry> {
    let more = |page: &Page| page.next.clone().filter(|_| !page.is_last);
    let begin = (more(&first), question);
    let rest = stream::unfold(begin, move |(next, question)| async move {
        let question = Question { after: Some(next?), ..question };
        match page(&question, MAX_LINES).await {
            Ok(page) => {
                let next = more(&page);
                Some((page.lines, (next, question)))
            }
            Err(err) => {
                tracing::debug!(error = %err, "a log is not read to its end");
                None
            }
        }
    });
    stream::iter(first.notices.into_iter().chain(first.lines))
        .chain(rest.map(stream::iter).flatten())
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(times: &[i64]) -> Vec<LogEntry> {
        let line = |time: &i64| LogEntry { provider: "app".into(), ..LogEntry::position(*time) };
        times.iter().map(line).collect()
    }

    fn times(lines: Vec<LogEntry>) -> Vec<i64> {
        lines.into_iter().map(|line| line.timestamp).collect()
    }

    #[test]
    fn a_page_ends_between_times() {
        for (of, most, kept, end) in [
            (&[1, 2][..], 3, &[1, 2][..], None),
            (&[1, 2, 3], 3, &[1, 2, 3], None),
            (&[1, 2, 3], 2, &[1, 2], Some(2)),
            (&[1, 2, 2, 3], 2, &[1], Some(1)),
            (&[1, 2, 2, 3], 3, &[1, 2, 2], Some(2)),
            (&[2, 2, 2, 3], 2, &[2, 2, 2], Some(2)),
            (&[2, 2, 2], 2, &[2, 2, 2], None),
        ] {
            let mut lines = lines(of);
            assert_eq!(cut(&mut lines, most), end, "{of:?} {most}");
            assert_eq!(times(lines), kept, "{of:?} {most}");
        }
    }

    #[test]
    fn hosts_are_merged_up_to_where_all_have_been_read() {
        let page = |host, of: &[i64], until, is_last| {
            let host = HostId(host);
            HostPage { host, lines: lines(of), until, is_last }
        };
        let (merged, end) = oldest(vec![page(0, &[1, 5, 9], 9, false), page(1, &[2], 2, true)], 9);
        assert_eq!((times(merged), end), (vec![1, 2, 5, 9], Some(9)));
        let (merged, end) = oldest(vec![page(0, &[1, 5], 5, false), page(1, &[2, 7], 7, true)], 9);
        assert_eq!((times(merged), end), (vec![1, 2, 5], Some(5)), "7 is for the next page");
        let (merged, end) = oldest(vec![page(0, &[1], 1, true), page(1, &[2], 2, true)], 9);
        assert_eq!((times(merged), end), (vec![1, 2], None));
        let (merged, _) = newest(vec![page(0, &[1, 4], 4, true), page(1, &[2, 3], 3, true)], 3);
        assert_eq!(times(merged), [2, 3, 4]);
    }
}
