//! `EventFeed` of the host in memory.

use super::FakeHost;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{CallContext, EventFeed, EventFilter, FeedEvent, FeedItem, HostError};
use std::collections::HashSet;
use std::sync::Arc;

/// The events of all machines, and how many of the oldest are not known any more.
#[derive(Debug, Default)]
pub(super) struct Feed {
    events: Vec<FeedEvent>,
    ids: HashSet<String>,
    removed: u64,
}

impl Feed {
    /// Adds an event, unless it is there.
    pub(super) fn add(&mut self, event: FeedEvent) {
        if self.ids.insert(event.event.id.clone()) {
            let number = self.events.len() as u64 + 1;
            self.events.push(FeedEvent { number, ..event });
        }
    }

    fn last(&self) -> u64 {
        self.events.len() as u64
    }
}

impl FakeHost {
    /// The host forgets all events that there have been so far: who followed them before
    /// and was away has a gap.
    pub fn forget_events(&self) {
        let mut state = self.lock();
        state.feed.removed = state.feed.last();
    }
}

#[async_trait]
impl EventFeed for FakeHost {
    async fn follow_events(
        &self,
        context: CallContext,
        filter: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError> {
        self.enter_call("follow_events", &context).await?;
        let (epoch, first) = {
            let state = self.lock();
            let (last, removed) = (state.feed.last(), state.feed.removed);
            let first = match filter.after {
                None => FeedItem::Position { at: last },
                Some(after) if after > last => FeedItem::Gap { at: last },
                Some(after) if after < removed => FeedItem::Gap { at: removed },
                Some(after) => FeedItem::Position { at: after },
            };
            (state.worker_epoch, first)
        };
        let (FeedItem::Position { at } | FeedItem::Gap { at }) = first else {
            unreachable!("a feed begins with a position");
        };
        let follow = Follow { host: self.clone(), epoch, filter, seen: at };
        let next = |mut follow: Follow| async { Some((follow.next().await?, follow)) };
        Ok(stream::iter([first]).chain(stream::unfold(follow, next)).boxed())
    }
}

/// Events after `seen`, until the worker starts again.
struct Follow {
    host: FakeHost,
    epoch: u64,
    filter: EventFilter,
    seen: u64,
}

impl Follow {
    async fn next(&mut self) -> Option<FeedItem> {
        let mut changed = self.host.0.changed.subscribe();
        loop {
            {
                let state = self.host.lock();
                let later = state.feed.events.iter().filter(|event| event.number > self.seen);
                let next = later.clone().find(|event| self.filter.matches(event)).cloned();
                if let Some(event) = next {
                    self.seen = event.number;
                    return Some(FeedItem::Event(Arc::new(event)));
                }
                if state.worker_epoch != self.epoch {
                    return None;
                }
            }
            // The sender lives as long as the host.
            let _ = changed.changed().await;
        }
    }
}
