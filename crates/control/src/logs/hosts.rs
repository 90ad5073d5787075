//! Asking the hosts for lines, and what an answer of one of them begins with.

use super::place::Place;
use crate::hosts::{READ_TIMEOUT, within};
use crate::{Error, Platform};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use host_api::{HostError, KnownHost, LogFilter};
use model::id::{AppId, HostId};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::logs::{LogEntry, LogQuery};

/// Lines of one host, and the host.
pub(super) type OfHost = (HostId, BoxStream<'static, LogEntry>);

/// A query of one app.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) platform: Platform,
    pub(super) app: AppId,
    /// Without `after`.
    pub(super) query: LogQuery,
    pub(super) after: Option<Place>,
}

impl Question {
    /// The query for a host.
    pub(super) fn for_host(&self, host: HostId) -> LogQuery {
        LogQuery { after: self.after.as_ref().map(|place| place.of(host)), ..self.query.clone() }
    }

    /// Asks all hosts.
    ///
    /// # Errors
    /// None of them has answered.
    pub(super) async fn ask_all(&self) -> Result<(Vec<OfHost>, Vec<(HostId, HostError)>), Error> {
        let hosts = self.platform.hosts().all();
        let asked = hosts.iter().map(|KnownHost { id, host }| async {
            let context = self.platform.context(READ_TIMEOUT);
            let asked = host.logs(context, self.app, self.for_host(*id));
            (*id, within(READ_TIMEOUT, asked).await)
        });
        let (mut streams, mut failed) = (Vec::new(), Vec::new());
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(lines) => streams.push((id, self.filtered(lines))),
                Err(err) => failed.push((id, err)),
            }
        }
        match failed.pop() {
            Some((_, err)) if streams.is_empty() => Err(err.into()),
            last => {
                failed.extend(last);
                Ok((streams, failed))
            }
        }
    }

    /// Without the lines that a host of an earlier version sends although they do not match.
    pub(super) fn filtered(
        &self,
        lines: BoxStream<'static, LogEntry>,
    ) -> BoxStream<'static, LogEntry> {
        let filter = Arc::new(LogFilter::new(&self.query));
        lines
            .filter(move |line| {
                // Lines of the host about its answer are kept.
                let about = line.is_position() || line.provider == "runner" && line.level == "warn";
                std::future::ready(about || filter.matches(line))
            })
            .boxed()
    }
}

/// A line that reports that those of a host are missing.
pub(super) fn away(platform: &Platform, HostId(host): HostId, err: &HostError) -> LogEntry {
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
