//! What all cores share about a machine, over table changes.
//!
//! Invariant: `in_flight_and_draining` holds the machine's requests in flight and
//! a draining bit. Autostop sets the bit only by changing 0 to DRAINING, and a
//! request counts itself before it looks at the bit. So a request either is seen
//! by autostop or sees that it must not be sent: an idle stop cuts off none.

use crate::admission::app::AppShared;
use crate::table::host::FollowedHost;
use host_api::WakeRefused;
use model::id::{Epoch, MachineId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(crate) const DRAINING: u64 = 1 << 63;

/// A wake under way or done; `None` while under way.
pub(crate) type PendingWake = watch::Receiver<Option<Result<(), WakeRefused>>>;

/// What all cores share about a machine, for as long as one host owns it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    /// The ownership under which `host` has it.
    pub(crate) ownership: Epoch,
    pub(crate) host: Arc<FollowedHost>,
    pub(crate) app: Arc<AppShared>,
    pub(super) in_flight_and_draining: AtomicU64,
    /// Grows whenever connections to it have become worthless.
    epoch: AtomicU64,
    /// Grows whenever connections to it must not carry another request.
    reuse_epoch: AtomicU64,
    /// The epoch after the last in which a connection to it was made.
    last_connected_epoch: AtomicU64,
    /// How often it has been asked to stop, by any party.
    stop_count: AtomicU64,
    /// Version of its newest route.
    pub(crate) route_version: AtomicU64,
    /// Autostop acts the moment it is idle.
    pub(crate) stop_when_idle: AtomicBool,
    /// Held while the host is asked to stop or start it, so that a wake is
    /// never overtaken by the stop it has to undo.
    pub(crate) lifecycle_lock: tokio::sync::Mutex<()>,
    /// Held by the request that connects while none has been able to.
    pub(crate) connect_lock: tokio::sync::Mutex<()>,
    /// Notified when the last request in flight ends, and at each new epoch.
    pub(super) idle_or_new_epoch: Notify,
    /// Notified at each new epoch.
    epoch_changed: Notify,
    times: Mutex<Times>,
}

/// Which of a machine's connections are good.
///
/// A new `reuse`: the machine is going down or has been, and may have resumed;
/// connections end with the request they carry. A new `boot`: it no longer runs,
/// or runs in another boot; connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionEpoch {
    pub(crate) boot: u64,
    reuse: u64,
}

#[derive(Debug)]
struct Times {
    idle_since: Instant,
    /// Autostop leaves it alone until then.
    no_stop_before: Option<Instant>,
    wake: Option<Wake>,
}

/// The newest wake of a machine.
#[derive(Debug)]
struct Wake {
    began: Instant,
    pending: PendingWake,
    /// The version of the route when it was done.
    done_at: u64,
}

impl Machine {
    pub(crate) fn new(
        id: MachineId,
        ownership: Epoch,
        host: Arc<FollowedHost>,
        app: Arc<AppShared>,
    ) -> Self {
        let idle_since = Instant::now();
        Self {
            id,
            ownership,
            host,
            app,
            in_flight_and_draining: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            reuse_epoch: AtomicU64::new(0),
            last_connected_epoch: AtomicU64::new(0),
            stop_count: AtomicU64::new(0),
            route_version: AtomicU64::new(0),
            stop_when_idle: AtomicBool::new(false),
            lifecycle_lock: tokio::sync::Mutex::new(()),
            connect_lock: tokio::sync::Mutex::new(()),
            idle_or_new_epoch: Notify::new(),
            epoch_changed: Notify::new(),
            times: Mutex::new(Times { idle_since, no_stop_before: None, wake: None }),
        }
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line about it to its app's log.
    pub(crate) fn log(&self, level: &str, message: String) {
        self.host.log(self.app.id, Some(self.id), level, message);
    }

    /// Requests and connections in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        let count = self.in_flight_and_draining.load(SeqCst) & !DRAINING;
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.in_flight_and_draining.load(SeqCst) & DRAINING != 0
    }

    /// Refuses requests from now on, if none is in flight.
    pub(crate) fn try_drain(&self) -> bool {
        self.in_flight_and_draining.compare_exchange(0, DRAINING, SeqCst, SeqCst).is_ok()
    }

    /// Returns true once nothing is in flight and requests are refused, or false
    /// once the stop that began in `epoch` is over, however it ended.
    pub(crate) async fn drained(&self, epoch: ConnectionEpoch) -> bool {
        loop {
            let mut notified = std::pin::pin!(self.idle_or_new_epoch.notified());
            notified.as_mut().enable();
            if self.connection_epoch() != epoch {
                return false;
            }
            let drained = self.try_drain();
            if drained && self.connection_epoch() != epoch {
                // It came up again meanwhile and has to take requests.
                self.end_drain();
                self.app.changed.notify_waiters();
                return false;
            }
            if drained || (self.is_draining() && self.in_flight() == 0) {
                return true;
            }
            notified.await;
        }
    }

    /// Accepts requests again.
    pub(crate) fn end_drain(&self) {
        self.in_flight_and_draining.fetch_and(!DRAINING, SeqCst);
        self.idle_from_now();
    }

    pub(crate) fn boot_epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    pub(crate) fn connection_epoch(&self) -> ConnectionEpoch {
        ConnectionEpoch { boot: self.boot_epoch(), reuse: self.reuse_epoch.load(SeqCst) }
    }

    /// Its connections are worthless: it no longer runs, or runs in another boot.
    pub(crate) fn invalidate_connections(&self) {
        self.epoch.fetch_add(1, SeqCst);
        self.idle_or_new_epoch.notify_waiters();
        self.epoch_changed.notify_waiters();
    }

    /// Its connections take no further request: it begins to go down, or resumes.
    pub(crate) fn retire_connections(&self) {
        self.reuse_epoch.fetch_add(1, SeqCst);
        self.idle_or_new_epoch.notify_waiters();
        self.epoch_changed.notify_waiters();
    }

    /// Returns once its connection epoch is not `known`.
    pub(crate) async fn epoch_changed(&self, known: ConnectionEpoch) {
        self.epoch_is_not(|now| now == known).await;
    }

    /// Returns once the boot of `epoch` has ended.
    pub(crate) async fn boot_ended(&self, epoch: u64) {
        self.epoch_is_not(|now| now.boot == epoch).await;
    }

    async fn epoch_is_not(&self, same: impl Fn(ConnectionEpoch) -> bool) {
        loop {
            let mut notified = std::pin::pin!(self.epoch_changed.notified());
            notified.as_mut().enable();
            if !same(self.connection_epoch()) {
                return;
            }
            notified.await;
        }
    }

    /// A connection to it was made in `epoch`: requests that could not connect may
    /// try again.
    pub(crate) fn record_connected(&self, epoch: u64) {
        self.last_connected_epoch.fetch_max(epoch + 1, SeqCst);
        self.app.changed.notify_waiters();
    }

    /// A connection to it has been made in `epoch`. Before that it has only
    /// announced its port, and its guest may not have run an instruction yet.
    pub(crate) fn has_connected(&self, epoch: u64) -> bool {
        self.last_connected_epoch.load(SeqCst) > epoch
    }

    /// How often it has been asked to stop. A machine that ends by itself, or
    /// fails to come up, has not been asked.
    pub(crate) fn stop_count(&self) -> u64 {
        self.stop_count.load(SeqCst)
    }

    pub(crate) fn record_stop(&self) {
        self.stop_count.fetch_add(1, SeqCst);
    }

    pub(crate) fn idle_since(&self) -> Instant {
        self.times().idle_since
    }

    pub(crate) fn idle_from_now(&self) {
        self.times().idle_since = Instant::now();
    }

    /// Keeps autostop from it for `time`.
    pub(crate) fn postpone_autostop(&self, time: Duration) {
        let mut times = self.times();
        times.idle_since = Instant::now();
        times.no_stop_before = Some(times.idle_since + time);
    }

    /// How long autostop has to leave it alone.
    pub(crate) fn autostop_postponed(&self) -> Duration {
        let until = self.times().no_stop_before;
        until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The wake under way, or one that succeeded too recently for `version` of
    /// the route to show it; else `start` begins one.
    pub(crate) fn wake_or_join(
        &self,
        version: u64,
        start: impl FnOnce() -> PendingWake,
    ) -> PendingWake {
        let mut times = self.times();
        if let Some(pending) = current(&times.wake, version) {
            return pending;
        }
        let pending = start();
        let began = Instant::now();
        times.wake = Some(Wake { began, pending: pending.clone(), done_at: 0 });
        pending
    }

    /// The wake under way has been answered by the host; its result follows.
    pub(crate) fn record_wake_done(&self) {
        if let Some(wake) = &mut self.times().wake {
            wake.done_at = self.route_version.load(SeqCst);
        }
    }

    pub(crate) fn is_waking(&self, version: u64) -> bool {
        self.current_wake(version).is_some()
    }

    /// The wake under way, if there is one.
    pub(crate) fn current_wake(&self, version: u64) -> Option<PendingWake> {
        current(&self.times().wake, version)
    }
}

/// A wake in progress, or one that succeeded recently: the table may trail the
/// host's answer a little, and must not cause a second wake. A route that is newer
/// than the host's answer does not trail.
fn current(wake: &Option<Wake>, version: u64) -> Option<PendingWake> {
    // Counted from the begin; after this a host that never showed it is asked again.
    const TABLE_LAG: Duration = Duration::from_secs(30);
    let wake = wake.as_ref()?;
    let is_current = match &*wake.pending.borrow() {
        None => wake.pending.has_changed().is_ok(),
        Some(Ok(())) => version <= wake.done_at && wake.began.elapsed() < TABLE_LAG,
        Some(Err(_)) => false,
    };
    is_current.then(|| wake.pending.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::machine;

    #[tokio::test]
    async fn each_boot_has_to_be_connected_to() {
        let m = machine();
        assert!(!m.has_connected(0));
        m.record_connected(0);
        assert!(m.has_connected(0));
        m.invalidate_connections();
        assert!(!m.has_connected(m.boot_epoch()), "earlier connections do not count");
        m.record_connected(1);
        m.record_connected(0);
        assert!(m.has_connected(1), "a late one changes nothing");
    }

    #[tokio::test]
    async fn one_wake_at_a_time() {
        let m = machine();
        let (tx, rx) = watch::channel(None);
        m.wake_or_join(1, || rx);
        m.wake_or_join(2, || unreachable!("one is under way"));
        m.route_version.store(1, SeqCst);
        m.record_wake_done();
        tx.send(Some(Ok(()))).unwrap();
        assert!(m.is_waking(1), "the table does not show it yet");
        assert!(!m.is_waking(2), "the route is newer");
    }
}
