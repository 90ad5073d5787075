//! Watches: the events of a machine, an app or an organization as they happen, over all hosts.
//!
//! Every event has an id from which a later watch continues without a gap: it contains the
//! position in the feed of each host (`positions`). `follow` reads the feed of one host; this
//! file merges them. Between hosts there is no order but that of arrival.

mod follow;
mod positions;

use crate::{Error, Platform, lookup, orgs};
use follow::HostFeed;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, SelectAll};
use host_api::{EventFilter, FeedItem, KnownHost};
use model::id::HostId;
use positions::Positions;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use tokio::sync::watch;

/// What is watched.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All machines of an organization, by its slug.
    Org(&'a str),
    /// All machines of an app.
    App(&'a str),
    /// One machine of an app, by id or name.
    Machine(&'a str, &'a str),
}

/// One item of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchItem {
    /// A watch that begins after this id misses nothing that this one has not passed on.
    pub id: String,
    /// The item itself.
    pub news: News,
}

/// Contents of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something happened to a machine: a [`wire::machines::WatchEvent`] in JSON.
    Event(Arc<str>),
    /// Events of a host may have been missed: read the machines again.
    Gap(HostId),
    /// Nothing; the id is newer.
    Position,
}

/// Events from now on, or after the event with the id `after`. The stream ends when the platform
/// stops.
///
/// # Errors
/// There is no such organization, app or machine, or the id is none.
pub async fn watch(
    platform: &Platform,
    scope: Scope<'_>,
    after: Option<&str>,
) -> Result<BoxStream<'static, WatchItem>, Error> {
    let (filter, stopping) = (filter(platform, scope).await?, platform.tasks().stopping());
    let after = after.map(str::parse::<Positions>).transpose();
    let after = after.map_err(|rule| Error::invalid("Last-Event-ID", rule))?;
    let mut hosts = platform.hosts().watch();
    let known = ids(&hosts.borrow_and_update());
    let known_positions = known.into_iter().map(|host| (host, begin(after.as_ref(), host)));
    let positions = Positions(known_positions.collect());
    let (platform, resumed, feeds) = (platform.clone(), after.is_some(), SelectAll::new());
    let mut merge = Merge { platform, filter, hosts, feeds, positions, resumed };
    let filter = |after| EventFilter { after, ..merge.filter.clone() };
    let begun = merge.positions.0.iter().map(|(host, after)| {
        HostFeed::begin(&merge.platform, *host, filter(*after), merge.resumed)
    });
    let begun = join_all(begun).await;
    merge.feeds.extend(begun.into_iter().map(HostFeed::stream));
    let items = stream::unfold(merge, async |mut merge| Some((merge.next().await, merge)));
    Ok(items.take_until(stopping).boxed())
}

/// Where the feed of a host begins. What a host that has joined since has done is all new.
fn begin(after: Option<&Positions>, host: HostId) -> Option<u64> {
    after.and_then(|Positions(after)| after.get(&host).copied().unwrap_or(Some(0)))
}

async fn filter(platform: &Platform, scope: Scope<'_>) -> Result<EventFilter, Error> {
    let all = EventFilter::default();
    Ok(match scope {
        Scope::Org(slug) => EventFilter { org: Some(orgs::get(platform, slug).await?.id), ..all },
        Scope::App(name) => {
            EventFilter { app: Some(lookup::app(platform, name).await?.record.id), ..all }
        }
        Scope::Machine(app, machine) => {
            let found = lookup::machine(platform, app, machine).await?;
            EventFilter { machine: Some(found.id), ..all }
        }
    })
}

fn ids(hosts: &[KnownHost]) -> Vec<HostId> {
    hosts.iter().map(|known| known.id).collect()
}

/// The feeds of all hosts as one.
struct Merge {
    platform: Platform,
    filter: EventFilter,
    hosts: watch::Receiver<Vec<KnownHost>>,
    feeds: SelectAll<BoxStream<'static, (HostId, FeedItem)>>,
    positions: Positions,
    /// The reader has watched before.
    resumed: bool,
}

impl Merge {
    async fn next(&mut self) -> WatchItem {
        loop {
            tokio::select! {
                Some((host, item)) = self.feeds.next(), if !self.feeds.is_empty() => {
                    return self.news(host, item);
                }
                Ok(()) = self.hosts.changed() => self.add_hosts().await,
                // There is no host, and there will be none.
                else => std::future::pending().await,
            }
        }
    }

    /// Follows the hosts that have joined.
    async fn add_hosts(&mut self) {
        let known = ids(&self.hosts.borrow_and_update());
        self.positions.0.retain(|host, _| known.contains(host));
        for host in known {
            if let Entry::Vacant(new) = self.positions.0.entry(host) {
                new.insert(Some(0));
                let filter = EventFilter { after: Some(0), ..self.filter.clone() };
                let feed = HostFeed::begin(&self.platform, host, filter, true).await;
                self.feeds.push(feed.stream());
            }
        }
    }

    fn news(&mut self, host: HostId, item: FeedItem) -> WatchItem {
        let (at, news) = match item {
            FeedItem::Event(event) => {
                (event.number, News::Event(self.platform.event_texts().of(host, &event)))
            }
            FeedItem::Gap { at } => (at, News::Gap(host)),
            FeedItem::Position { at } => (at, News::Position),
        };
        self.positions.0.insert(host, Some(at));
        WatchItem { id: self.positions.to_string(), news }
    }
}
