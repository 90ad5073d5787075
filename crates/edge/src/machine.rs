//! What is shared about a machine and an app over all cores and table changes.
//!
//! Invariant: a machine's `word` holds its requests in flight and a draining
//! bit. Autostop sets the bit only by changing 0 to DRAINING, and a request
//! counts itself before it looks at the bit. So a request either is seen by
//! autostop or sees that it must not be sent: none is cut off by an idle stop.

use crate::errors::Code;
use crate::metrics::AppMetrics;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wire::routes::WakeRefused;

const DRAINING: u64 = 1 << 63;

/// A wake under way or done; `None` while under way.
pub(crate) type Flight = watch::Receiver<Option<Result<(), WakeRefused>>>;

/// What all cores share about an app.
#[derive(Debug)]
pub(crate) struct AppShared {
    pub(crate) name: String,
    /// Requests held.
    pub(crate) waiting: AtomicUsize,
    /// Told when something changed that a held request may wait for.
    pub(crate) changed: Notify,
    /// Failures logged a moment ago.
    pub(crate) logged: Mutex<Vec<(Code, Instant)>>,
    /// Milliseconds of the edge's life at which "still waiting" was last logged.
    pub(crate) said_waiting_at: AtomicU64,
    pub(crate) metrics: AppMetrics,
}

/// What all cores share about a machine, for as long as it is in the table.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) app: Arc<AppShared>,
    word: AtomicU64,
    /// Grows whenever connections to it have become worthless.
    epoch: AtomicU64,
    /// Grows whenever connections to it must not carry another request.
    turn: AtomicU64,
    /// The epoch after the last in which a connection to it was made.
    reached: AtomicU64,
    /// How often it has been asked to stop, by whomever.
    stops: AtomicU64,
    /// Autostop acts the moment it is idle.
    pub(crate) prompt: AtomicBool,
    /// Held while the host is told to stop or start it, so that a wake is
    /// never overtaken by the stop it has to undo.
    pub(crate) life: tokio::sync::Mutex<()>,
    /// Held by the one who connects while nobody has been able to.
    pub(crate) first: tokio::sync::Mutex<()>,
    /// Told when the last request in flight is over, and at each new epoch.
    empty: Notify,
    times: Mutex<Times>,
}

/// Which of a machine's connections are good. It is going down or has been, and
/// may have gone on: then they end with what they carry. It runs no longer, or
/// runs anew: then they are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era {
    pub(crate) epoch: u64,
    turn: u64,
}

#[derive(Debug)]
struct Times {
    idle_since: Instant,
    flight: Option<(Instant, u64, Flight)>,
}

impl Machine {
    pub(crate) fn new(id: &str, app: Arc<AppShared>) -> Self {
        Self {
            id: id.to_owned(),
            app,
            word: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            prompt: AtomicBool::new(false),
            life: tokio::sync::Mutex::new(()),
            first: tokio::sync::Mutex::new(()),
            empty: Notify::new(),
            times: Mutex::new(Times { idle_since: Instant::now(), flight: None }),
        }
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests and connections in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        u32::try_from(self.word.load(SeqCst) & !DRAINING).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.word.load(SeqCst) & DRAINING != 0
    }

    /// Keeps requests away, if none is in flight.
    pub(crate) fn drain(&self) -> bool {
        self.word.compare_exchange(0, DRAINING, SeqCst, SeqCst).is_ok()
    }

    /// Ends once nothing is in flight and requests are kept away: true. Or once
    /// the stop that began in `era` is over, whatever came of it: false.
    pub(crate) async fn emptied(&self, era: Era) -> bool {
        loop {
            let mut told = std::pin::pin!(self.empty.notified());
            told.as_mut().enable();
            if self.era() != era {
                return false;
            }
            let drained = self.drain();
            if drained && self.era() != era {
                // It came up again meanwhile, and must not be kept from requests.
                self.undrain();
                self.app.changed.notify_waiters();
                return false;
            }
            if drained || (self.is_draining() && self.in_flight() == 0) {
                return true;
            }
            told.await;
        }
    }

    /// Lets requests in again.
    pub(crate) fn undrain(&self) {
        self.word.fetch_and(!DRAINING, SeqCst);
        self.idle_from_now();
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// Its connections are worthless: it no longer runs, or runs anew.
    pub(crate) fn bump_epoch(&self) {
        self.epoch.fetch_add(1, SeqCst);
        self.empty.notify_waiters();
    }

    /// Its connections take no further request: it begins to go down, or goes on.
    pub(crate) fn close_resting(&self) {
        self.turn.fetch_add(1, SeqCst);
        self.empty.notify_waiters();
    }

    pub(crate) fn era(&self) -> Era {
        Era { epoch: self.epoch(), turn: self.turn.load(SeqCst) }
    }

    /// A connection to it was made in `epoch`; who could not may try again.
    pub(crate) fn note_reached(&self, epoch: u64) {
        self.reached.fetch_max(epoch + 1, SeqCst);
        self.app.changed.notify_waiters();
    }

    /// A connection to it has been made in `epoch`. Before that it has only said
    /// that it listens, and its guest may not have run an instruction yet.
    pub(crate) fn is_reached(&self, epoch: u64) -> bool {
        self.reached.load(SeqCst) > epoch
    }

    /// Ends once `epoch` is over.
    pub(crate) async fn epoch_over(&self, epoch: u64) {
        loop {
            let mut told = std::pin::pin!(self.empty.notified());
            told.as_mut().enable();
            if self.epoch() != epoch {
                return;
            }
            told.await;
        }
    }

    /// How often it has been asked to stop. A machine that ends by itself, or
    /// fails to come up, has not been asked.
    pub(crate) fn stops(&self) -> u64 {
        self.stops.load(SeqCst)
    }

    /// It has been asked to stop.
    pub(crate) fn note_stop(&self) {
        self.stops.fetch_add(1, SeqCst);
    }

    pub(crate) fn idle_since(&self) -> Instant {
        self.times().idle_since
    }

    pub(crate) fn idle_from_now(&self) {
        self.times().idle_since = Instant::now();
    }

    /// The wake under way, or one that succeeded too lately for `version` of the
    /// route to show it; else `start` makes one.
    pub(crate) fn flight(&self, version: u64, start: impl FnOnce() -> Flight) -> Flight {
        let mut times = self.times();
        if let Some(flight) = current(&times.flight, version) {
            return flight;
        }
        let flight = start();
        times.flight = Some((Instant::now(), version, flight.clone()));
        flight
    }

    pub(crate) fn is_waking(&self, version: u64) -> bool {
        self.joinable(version).is_some()
    }

    /// The wake under way, if there is one.
    pub(crate) fn joinable(&self, version: u64) -> Option<Flight> {
        current(&self.times().flight, version)
    }
}

/// A flight in the air, or one that has landed well and lately: the table, or a
/// core's copy of it, may trail the host's answer a little, and must not cause a
/// second wake. A route that is newer than the flight's begin does not trail.
fn current(flight: &Option<(Instant, u64, Flight)>, version: u64) -> Option<Flight> {
    // Counted from the begin; after this a host that never showed it is asked again.
    const TABLE_LAG: std::time::Duration = std::time::Duration::from_secs(30);
    let (since, begun_at, flight) = flight.as_ref()?;
    let fresh = match &*flight.borrow() {
        None => flight.has_changed().is_ok(),
        Some(Ok(())) => *begun_at == version && since.elapsed() < TABLE_LAG,
        Some(Err(_)) => false,
    };
    fresh.then(|| flight.clone())
}

/// The right to have one request or connection at a machine's service.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) machine: Arc<Machine>,
    load: Arc<AtomicU32>,
    nudge: Arc<Notify>,
}

impl Ticket {
    /// Takes one of `hard` places; none if they are taken or it is draining.
    pub(crate) fn take(
        machine: &Arc<Machine>,
        load: &Arc<AtomicU32>,
        hard: u32,
        nudge: &Arc<Notify>,
    ) -> Option<Self> {
        if load.fetch_add(1, SeqCst) >= hard {
            load.fetch_sub(1, SeqCst);
            return None;
        }
        let before = machine.word.fetch_add(1, SeqCst);
        let ticket = Self { machine: machine.clone(), load: load.clone(), nudge: nudge.clone() };
        // Dropping it gives both places back.
        (before & DRAINING == 0).then_some(ticket)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.load.fetch_sub(1, SeqCst);
        if self.machine.word.fetch_sub(1, SeqCst) & !DRAINING == 1 {
            self.machine.empty.notify_waiters();
            self.machine.idle_from_now();
            if self.machine.prompt.load(SeqCst) {
                self.nudge.notify_one();
            }
        }
        // A held request counts itself before it looks at the load, so either
        // it sees the free place or is seen here.
        if self.machine.app.waiting.load(SeqCst) > 0 {
            self.machine.app.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Arc<Machine> {
        Arc::new(Machine::new("m1", Arc::new(crate::table::tests::app_shared("web"))))
    }

    #[tokio::test]
    async fn an_idle_stop_and_a_request_exclude_each_other() {
        let (m, load, nudge) = (machine(), Arc::default(), Arc::default());
        let ticket = Ticket::take(&m, &load, 9, &nudge).unwrap();
        assert!(!m.drain(), "a request is in flight");
        drop(ticket);
        assert!(m.drain());
        assert!(Ticket::take(&m, &load, 9, &nudge).is_none(), "draining");
        assert_eq!((m.in_flight(), load.load(SeqCst)), (0, 0));
        m.undrain();
        assert!(Ticket::take(&m, &load, 9, &nudge).is_some());
    }

    #[tokio::test]
    async fn a_machine_is_emptied_by_its_last_request() {
        let (m, load, nudge) = (machine(), Arc::default(), Arc::default());
        let tickets = [(); 2].map(|()| Ticket::take(&m, &load, 9, &nudge).unwrap());
        let mut emptied = std::pin::pin!(m.emptied(m.era()));
        let [first, last] = tickets;
        drop(first);
        tokio::select! {
            biased;
            _ = &mut emptied => panic!("one is in flight"),
            () = tokio::task::yield_now() => {}
        }
        drop(last);
        assert!(emptied.await);
        assert!(Ticket::take(&m, &load, 9, &nudge).is_none(), "no more come in");
    }

    #[tokio::test]
    async fn a_stop_that_is_over_keeps_no_request_away() {
        let (m, load, nudge) = (machine(), Arc::default(), Arc::default());
        let ticket = Ticket::take(&m, &load, 9, &nudge);
        for over in [Machine::bump_epoch, Machine::close_resting] {
            let era = m.era();
            let both = tokio::join!(m.emptied(era), async { over(&m) });
            assert!(!both.0, "it runs anew, or goes on, with a request in flight");
        }
        let before = m.era();
        m.close_resting();
        drop(ticket);
        assert!(!m.emptied(before).await);
        assert!(Ticket::take(&m, &load, 9, &nudge).is_some());
    }

    #[tokio::test]
    async fn the_hard_limit_is_never_passed() {
        let (m, load, nudge) = (machine(), Arc::default(), Arc::default());
        let taken: Vec<_> = (0..9).filter_map(|_| Ticket::take(&m, &load, 3, &nudge)).collect();
        assert_eq!((taken.len(), m.in_flight()), (3, 3));
    }

    #[tokio::test]
    async fn each_boot_has_to_be_reached() {
        let m = machine();
        assert!(!m.is_reached(0));
        m.note_reached(0);
        assert!(m.is_reached(0));
        m.bump_epoch();
        assert!(!m.is_reached(m.epoch()), "connections of before say nothing of this boot");
        m.note_reached(1);
        m.note_reached(0);
        assert!(m.is_reached(1), "one that was late changes nothing");
    }

    #[tokio::test]
    async fn one_flight_at_a_time() {
        let m = machine();
        let (tx, rx) = watch::channel(None);
        m.flight(1, || rx);
        m.flight(2, || unreachable!("one is under way"));
        tx.send(Some(Ok(()))).unwrap();
        assert!(m.is_waking(1), "the table does not show it yet");
        assert!(!m.is_waking(2), "this is news");
    }
}
