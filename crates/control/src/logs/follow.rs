//! The lines of one host as they come: the end of a stream is reported, and it is continued
//! after its last line once the host answers.

use super::hosts::{Question, away};
use super::page::MAX_LINES;
use crate::hosts::{READ_TIMEOUT, pauses, within};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::HostError;
use model::id::HostId;
use rt::Backoff;
use std::collections::HashSet;
use wire::logs::{LogEntry, LogQuery};

/// The lines of one host, followed.
pub(super) struct Follow {
    question: Question,
    host: HostId,
    query: LogQuery,
    lines: Option<BoxStream<'static, LogEntry>>,
    /// Log and offset of each line that has been passed on and has the newest time: hosts of
    /// earlier versions have many lines of one time, and the stream may break between them.
    newest: HashSet<(String, u64)>,
    pauses: Backoff,
}

impl Follow {
    pub(super) fn new(
        question: &Question,
        host: HostId,
        lines: Option<BoxStream<'static, LogEntry>>,
    ) -> Self {
        let query = question.for_host(host);
        let after = query.after.unwrap_or_else(|| question.platform.clock().now_ns());
        let query = LogQuery { after: Some(after), tail: None, ..query };
        let (question, newest, pauses) = (question.clone(), HashSet::new(), pauses());
        Self { question, host, query, lines, newest, pauses }
    }

    pub(super) fn stream(self) -> BoxStream<'static, (HostId, LogEntry)> {
        stream::unfold(self, async |mut own| Some(((own.host, own.next().await), own))).boxed()
    }

    async fn next(&mut self) -> LogEntry {
        loop {
            let Some(lines) = &mut self.lines else {
                tokio::time::sleep(self.pauses.pause(self.question.platform.rng())).await;
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
            return away(&self.question.platform, self.host, &broken);
        }
    }

    /// Notes a line; false for one that has been passed on before the stream broke.
    fn is_new(&mut self, line: &LogEntry) -> bool {
        if line.is_position() {
            if self.query.after.is_none_or(|after| line.timestamp > after) {
                self.query.after = Some(line.timestamp);
                self.newest.clear();
            }
            return true;
        }
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
        if self.newest.len() < MAX_LINES {
            self.newest.insert(place);
        }
        true
    }

    async fn ask(&mut self) -> Option<BoxStream<'static, LogEntry>> {
        let platform = &self.question.platform;
        let host = platform.hosts().get(self.host)?;
        // Lines of the newest time are asked for again.
        let again = i64::from(!self.newest.is_empty());
        let after = self.query.after.map(|after| after.saturating_sub(again));
        let query = LogQuery { after, ..self.query.clone() };
        let asked = host.logs(platform.context(READ_TIMEOUT), self.question.app, query);
        let answer = within(READ_TIMEOUT, asked).await;
        let lines = answer
            .inspect_err(|err| tracing::debug!(host = self.host.0, error = %err, "follow logs"))
            .ok()?;
        Some(self.question.filtered(lines))
    }
}
