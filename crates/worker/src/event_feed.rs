//! The events of all machines, for those that follow them.
//!
//! A follower has the number of the event up to which it has seen everything. What is newer comes
//! from the newest events in memory, which are the same for all followers, or from the database
//! where the follower is further behind. Nothing is queued for a follower, so a slow one costs
//! nothing.

use crate::db::{EventNumbers, EventPage, HostDb};
use futures_util::stream::{self, BoxStream, StreamExt};
use host_api::{EventFilter, FeedEvent, FeedItem};
use sqlite::Error;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Events in memory.
const RECENT: usize = 1024;
/// Events that are read from the database at a time.
const PAGE: usize = 256;
/// How often a follower whose filter lets nothing through is sent its position.
const POSITION_EVERY: Duration = Duration::from_secs(10);
/// Pause after the database could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// The newest events. While there are no followers none are kept.
#[derive(Debug)]
pub(crate) struct Feed {
    db: HostDb,
    /// Of machines that were asked for no code of it.
    region: String,
    recent: Mutex<Option<Recent>>,
    /// Number of the newest event that followers may read.
    last: watch::Sender<u64>,
}

/// All events with numbers from `base` (exclusive) to `last`, oldest first.
#[derive(Debug)]
struct Recent {
    base: u64,
    last: u64,
    events: VecDeque<Arc<FeedEvent>>,
}

impl Recent {
    fn push(&mut self, events: Vec<FeedEvent>, upto: u64) {
        self.events.extend(events.into_iter().map(Arc::new));
        while self.events.len() > RECENT {
            self.base = self.events.pop_front().map_or(self.base, |event| event.number);
        }
        self.last = upto;
    }

    /// Events after a number; `None` if they are not all here.
    fn after(&self, number: u64) -> Option<Vec<Arc<FeedEvent>>> {
        let first = self.events.partition_point(|event| event.number <= number);
        (number >= self.base).then(|| self.events.range(first..).cloned().collect())
    }
}

impl Feed {
    pub(crate) fn new(db: HostDb, region: String) -> Arc<Self> {
        let last = watch::Sender::new(0);
        Arc::new(Self { db, region, recent: Mutex::new(None), last })
    }

    /// Reads what is committed and shows it to the followers.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.db.events_committed().notified().await;
            while let Err(err) = self.read_new().await {
                tracing::error!(error = rt::chain(&err), "cannot read the events of machines");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn read_new(&self) -> Result<(), Error> {
        if self.last.receiver_count() == 0 {
            *self.lock() = None;
            return Ok(());
        }
        let known = self.lock().as_ref().map(|recent| recent.last);
        let Some(mut known) = known else {
            // Followers find what was committed before in the database.
            let EventNumbers { last, .. } = self.db.event_numbers(EventFilter::default()).await?;
            *self.lock() = Some(Recent { base: last, last, events: VecDeque::new() });
            self.last.send_replace(last);
            return Ok(());
        };
        loop {
            let EventPage { events, upto, more } = self.page(known, EventFilter::default()).await?;
            known = upto;
            if let Some(recent) = &mut *self.lock() {
                recent.push(events, upto);
            }
            self.last.send_replace(upto);
            if !more {
                return Ok(());
            }
        }
    }

    async fn page(&self, after: u64, filter: EventFilter) -> Result<EventPage, Error> {
        let mut page = self.db.events_after(after, filter, PAGE).await?;
        let regions = page.events.iter_mut().map(|event| &mut event.region);
        regions
            .filter(|region| region.is_empty())
            .for_each(|region| region.clone_from(&self.region));
        Ok(page)
    }

    /// The position of a new follower, and every event after it that the filter lets through.
    /// Ends when the database cannot be read.
    pub(crate) async fn follow(
        self: Arc<Self>,
        filter: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, Error> {
        // First: from now on the newest events are kept.
        let last = self.last.subscribe();
        let numbers = self.db.event_numbers(filter.clone()).await?;
        let first = begin(filter.after, numbers);
        let (FeedItem::Position { at } | FeedItem::Gap { at }) = first else {
            unreachable!("a feed begins with a position");
        };
        let follower = Follower {
            behind: at < numbers.last,
            feed: self,
            filter,
            seen: at,
            shown: at,
            last,
            pending: VecDeque::new(),
        };
        let rest =
            stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)));
        Ok(stream::iter([first]).chain(rest).boxed())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a follower begins that has seen everything up to `after`.
fn begin(after: Option<u64>, numbers: EventNumbers) -> FeedItem {
    match after {
        None => FeedItem::Position { at: numbers.last },
        // Of a database that was lost since.
        Some(after) if after > numbers.last => FeedItem::Gap { at: numbers.last },
        Some(after) if after < numbers.removed => FeedItem::Gap { at: after },
        Some(after) => FeedItem::Position { at: after },
    }
}

struct Follower {
    feed: Arc<Feed>,
    filter: EventFilter,
    /// Everything up to this number is in `pending` or has been passed on.
    seen: u64,
    /// The number that the reader knows.
    shown: u64,
    /// There is more in the database.
    behind: bool,
    last: watch::Receiver<u64>,
    pending: VecDeque<Arc<FeedEvent>>,
}

impl Follower {
    async fn next(&mut self) -> Option<FeedItem> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.shown = event.number;
                return Some(FeedItem::Event(event));
            }
            let last = *self.last.borrow_and_update();
            if self.behind {
                self.read_page().await?;
            } else if last > self.seen {
                self.take_recent(last);
            } else if tokio::time::timeout(POSITION_EVERY, self.last.changed()).await.is_err()
                && self.seen > self.shown
            {
                self.shown = self.seen;
                return Some(FeedItem::Position { at: self.seen });
            }
        }
    }

    fn take_recent(&mut self, last: u64) {
        let recent = self.feed.lock().as_ref().and_then(|recent| recent.after(self.seen));
        let Some(events) = recent else {
            self.behind = true;
            return;
        };
        let upto = events.last().map_or(last, |event| event.number.max(last));
        let wanted = events.into_iter().filter(|event| self.filter.matches(event));
        self.pending.extend(wanted);
        self.seen = upto;
    }

    async fn read_page(&mut self) -> Option<()> {
        let page = self.feed.page(self.seen, self.filter.clone()).await.inspect_err(|err| {
            tracing::error!(error = rt::chain(err), "cannot read the events of machines");
        });
        let EventPage { events, upto, more } = page.ok()?;
        (self.seen, self.behind) = (upto, more);
        self.pending.extend(events.into_iter().map(Arc::new));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Change;
    use crate::machine::new_event;
    use crate::record::Record;
    use crate::record::tests::sample;
    use host_api::Source;
    use model::id::{EventId, MachineId};
    use model::life::State;
    use std::collections::BTreeSet;

    struct World {
        db: HostDb,
        feed: Arc<Feed>,
        tasks: rt::Tasks,
        machines: Vec<Record>,
        next_event: u64,
        _dir: tempfile::TempDir,
    }

    async fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        let db = HostDb::open(&path, rt::FailureHandler::abort()).unwrap();
        let (feed, tasks) = (Feed::new(db.clone(), "here".into()), rt::Tasks::new());
        tasks.spawn_until_stop(feed.clone().run());
        let mut machines = Vec::new();
        for n in 1..=8 {
            let name = format!("m-{n}").parse().unwrap();
            let record = Record { id: MachineId::from_random(n), name, ..sample() };
            let make = move |slot| Record { slot: Some(slot), ..record };
            machines.push(db.add(make, 100, BTreeSet::new(), Change::default()).await.unwrap());
        }
        World { db, feed, tasks, machines, next_event: 0, _dir: dir }
    }

    impl World {
        /// Adds events of one machine in one change.
        async fn add(&mut self, machine: usize, count: usize) {
            let record = self.machines[machine].clone();
            let event = |n| {
                let id = EventId::new(n, 0);
                new_event(id, "start", State::Started, Source::User, n)
            };
            let numbers = self.next_event + 1..=self.next_event + count as u64;
            self.next_event += count as u64;
            let change = Change { events: numbers.map(event).collect(), ..Change::default() };
            self.db.save(record, change).await.unwrap();
        }

        async fn follow(&self, after: Option<u64>, machine: Option<usize>) -> Items {
            let machine = machine.map(|n| self.machines[n].id);
            let filter = EventFilter { after, machine, ..EventFilter::default() };
            self.feed.clone().follow(filter).await.unwrap()
        }
    }

    type Items = BoxStream<'static, FeedItem>;

    async fn numbers(items: &mut Items, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            match items.next().await.unwrap() {
                FeedItem::Event(event) => {
                    assert_eq!(
                        (event.region.as_str(), event.event.timestamp as u64),
                        ("here", event.number)
                    );
                    numbers.push(event.number);
                }
                FeedItem::Position { .. } => {}
                gap @ FeedItem::Gap { .. } => panic!("{gap:?}"),
            }
        }
        numbers
    }

    #[tokio::test]
    async fn followers_that_are_behind_get_everything_in_order() {
        let mut world = world().await;
        world.add(0, 3).await;
        let mut now = world.follow(None, None).await;
        let mut slow = world.follow(None, None).await;
        let mut one = world.follow(Some(0), Some(1)).await;
        // More than there is in memory, less than is kept of a machine.
        for round in 0..20 {
            for machine in 0..8 {
                world.add(machine, 9).await;
            }
            let first = 4 + round * 72;
            assert_eq!(numbers(&mut now, 72).await, (first..first + 72).collect::<Vec<_>>());
        }
        assert_eq!(numbers(&mut slow, 1440).await, (4..=1443).collect::<Vec<_>>());
        let of_one = numbers(&mut one, 180).await;
        assert_eq!((of_one[0], of_one[9], of_one[179]), (13, 85, 1389));
        let mut last = world.follow(Some(1443), None).await;
        world.add(2, 1).await;
        assert_eq!(numbers(&mut last, 1).await, [1444]);
        assert_eq!(numbers(&mut now, 1).await, [1444]);
        world.tasks.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn removed_events_and_another_database_are_gaps() {
        let mut world = world().await;
        world.add(0, 10).await;
        world.add(1, 500).await;
        for (after, first) in [
            (Some(9), FeedItem::Gap { at: 9 }),
            // The newest 200 of a machine are kept.
            (Some(309), FeedItem::Gap { at: 309 }),
            (Some(310), FeedItem::Position { at: 310 }),
            (Some(510), FeedItem::Position { at: 510 }),
            (Some(511), FeedItem::Gap { at: 510 }),
            (None, FeedItem::Position { at: 510 }),
        ] {
            let mut items = world.follow(after, None).await;
            assert_eq!(items.next().await, Some(first), "{after:?}");
        }
        // The events of another machine are all there.
        let mut other = world.follow(Some(9), Some(0)).await;
        assert_eq!(other.next().await, Some(FeedItem::Position { at: 9 }));
        let mut rest = world.follow(Some(4), None).await;
        assert_eq!(rest.next().await, Some(FeedItem::Gap { at: 4 }));
        assert_eq!(numbers(&mut rest, 206).await[5..8], [10, 311, 312]);
        world.tasks.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn numbers_are_not_given_again_after_their_events_are_removed() {
        let mut world = world().await;
        world.add(0, 5).await;
        let mut gone = world.machines[0].clone();
        (gone.state, gone.slot) = (State::Destroyed, None);
        world.db.save(gone, Change::default()).await.unwrap();
        assert_eq!(world.db.forget(u64::MAX, 0).await.unwrap().len(), 1);
        assert_eq!(
            world.db.event_numbers(EventFilter::default()).await.unwrap(),
            EventNumbers { last: 5, removed: 5 }
        );
        let mut now = world.follow(Some(5), None).await;
        world.add(1, 1).await;
        assert_eq!(numbers(&mut now, 1).await, [6]);
        world.tasks.shutdown(Duration::from_secs(5)).await;
    }
}
