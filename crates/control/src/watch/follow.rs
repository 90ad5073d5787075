//! The events of one host, followed for as long as the host is in the list.

use crate::Platform;
use crate::hosts::{READ_TIMEOUT, pauses, within};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{EventFilter, FeedItem, HostError};
use model::id::HostId;
use rt::Backoff;

/// The feed of one host. Where it breaks off it is continued after its last item once the
/// host answers again.
pub(super) struct HostFeed {
    platform: Platform,
    host: HostId,
    filter: EventFilter,
    items: Option<BoxStream<'static, FeedItem>>,
    /// Events have passed before the first position is known.
    missed: bool,
    pauses: Backoff,
}

impl HostFeed {
    /// Asks the host at once, so that nothing is missed from the answer on. One that does not
    /// answer is asked again when the feed is read. `resumed`: the reader has watched before.
    pub(super) async fn begin(
        platform: &Platform,
        host: HostId,
        filter: EventFilter,
        resumed: bool,
    ) -> Self {
        let platform = platform.clone();
        let mut feed =
            Self { platform, host, filter, items: None, missed: false, pauses: pauses() };
        feed.items = feed.ask().await;
        feed.missed = feed.filter.after.is_none() && (resumed || feed.items.is_none());
        feed
    }

    pub(super) fn stream(self) -> BoxStream<'static, (HostId, FeedItem)> {
        stream::unfold(self, async |mut feed| {
            let item = feed.next().await?;
            Some(((feed.host, item), feed))
        })
        .boxed()
    }

    /// `None` once the host is not in the list any more.
    async fn next(&mut self) -> Option<FeedItem> {
        loop {
            let Some(items) = &mut self.items else {
                tokio::time::sleep(self.pauses.pause(self.platform.rng())).await;
                self.platform.hosts().get(self.host)?;
                self.items = self.ask().await;
                continue;
            };
            let Some(item) = items.next().await else {
                self.items = None;
                continue;
            };
            self.pauses = pauses();
            self.filter.after = Some(match &item {
                FeedItem::Position { at } | FeedItem::Gap { at } => *at,
                FeedItem::Event(event) => event.number,
            });
            return Some(match item {
                FeedItem::Position { at } if std::mem::take(&mut self.missed) => {
                    FeedItem::Gap { at }
                }
                item => item,
            });
        }
    }

    async fn ask(&mut self) -> Option<BoxStream<'static, FeedItem>> {
        let host = self.platform.hosts().get(self.host)?;
        let asked = host.follow_events(self.platform.context(READ_TIMEOUT), self.filter.clone());
        let answer: Result<_, HostError> = within(READ_TIMEOUT, asked).await;
        answer
            .inspect_err(|err| tracing::debug!(host = self.host.0, error = %err, "follow events"))
            .ok()
    }
}
