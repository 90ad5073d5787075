//! A host whose routes are followed, and whether it can be reached.
//!
//! A host cannot be reached while its route stream is down, and for [`SUSPECT`]
//! after a connect to one of its machines has got no answer from the host itself.
//! Its last routes stay in the table and may still be valid, so its machines are
//! not taken out: they are the last choice.

use crate::ports::EdgeHost;
use host_api::{HostError, LogLine};
use model::id::{AppId, HostId, MachineId};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a host that did not answer a connect is the last choice. A host that is
/// really gone loses its route stream meanwhile, by the pings of its connection.
const SUSPECT: Duration = Duration::from_secs(10);

/// One host of the table.
#[derive(Debug)]
pub(crate) struct FollowedHost {
    pub(crate) id: HostId,
    /// How it is called.
    pub(crate) api: EdgeHost,
    born: Instant,
    /// Its route stream has ended, or cannot be opened.
    stream_is_down: AtomicBool,
    /// Milliseconds after `born` until which it is suspected to be gone; 0 is never.
    suspect_until_ms: AtomicU64,
    /// Milliseconds after `born` at which something has last come from it.
    answered_at_ms: AtomicU64,
}

impl FollowedHost {
    pub(crate) fn new(api: EdgeHost) -> Self {
        Self {
            id: api.id,
            api,
            born: Instant::now(),
            stream_is_down: AtomicBool::new(false),
            suspect_until_ms: AtomicU64::new(0),
            answered_at_ms: AtomicU64::new(0),
        }
    }

    /// Adds a line to the log of an app.
    pub(crate) fn log(&self, app: AppId, machine: Option<MachineId>, level: &str, message: String) {
        let (provider, level) = ("proxy".into(), level.into());
        self.api.logs.append(LogLine { app, machine, provider, level, message });
    }

    /// Machines of other hosts are preferred while this is false.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.stream_is_down.load(SeqCst) && !self.is_suspect()
    }

    fn is_suspect(&self) -> bool {
        let until = self.suspect_until_ms.load(SeqCst);
        // The time is only looked at where it matters: this is on every request's way.
        until != 0 && self.at_ms(Instant::now()) < until
    }

    /// Its routes are followed (again).
    pub(crate) fn record_stream_open(&self) {
        self.stream_is_down.store(false, SeqCst);
        self.record_answer();
    }

    /// Its route stream has ended, or could not be opened. True if that is news.
    pub(crate) fn record_stream_down(&self) -> bool {
        !self.stream_is_down.swap(true, SeqCst)
    }

    /// Something has come from it.
    pub(crate) fn record_answer(&self) {
        let now = self.at_ms(Instant::now());
        // Read first: cores that only read share the cache line.
        if self.answered_at_ms.load(SeqCst) != now {
            self.answered_at_ms.store(now, SeqCst);
        }
        if self.suspect_until_ms.load(SeqCst) != 0 {
            self.suspect_until_ms.store(0, SeqCst);
        }
    }

    /// Notes what a connect to one of its machines, begun at `began`, shows about the
    /// host: an error of the machine is an answer of the host.
    pub(crate) fn record_connect<T>(&self, began: Instant, made: &io::Result<T>) {
        let Err(err) = made else { return self.record_answer() };
        let is_of_host = err.get_ref().is_some_and(|cause| cause.is::<HostError>());
        match err.kind() {
            ErrorKind::HostUnreachable if is_of_host => self.suspect(),
            // One that answers others is only slow.
            ErrorKind::TimedOut if is_of_host => {
                if self.answered_at_ms.load(SeqCst) < self.at_ms(began) {
                    self.suspect();
                }
            }
            _ if is_of_host => {}
            // The time is over, and the reason is unknown.
            ErrorKind::TimedOut if err.get_ref().is_none() => {}
            _ => self.record_answer(),
        }
    }

    fn suspect(&self) {
        let now = Instant::now();
        let before = self.suspect_until_ms.swap(self.at_ms(now + SUSPECT), SeqCst);
        if before <= self.at_ms(now) {
            tracing::warn!(host = %self.id, "the host does not answer: others are preferred");
        }
    }

    /// From 1 on, so that 0 is "never".
    fn at_ms(&self, moment: Instant) -> u64 {
        let ms = moment.saturating_duration_since(self.born).as_millis();
        u64::try_from(ms).unwrap_or(u64::MAX - 1) + 1
    }
}

/// The hosts that are followed now, the first known first.
#[derive(Debug, Default)]
pub(crate) struct FollowedHosts(Mutex<Vec<Arc<FollowedHost>>>);

impl FollowedHosts {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<FollowedHost>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, host: Arc<FollowedHost>) {
        self.lock().push(host);
    }

    pub(super) fn remove(&self, id: HostId) {
        self.lock().retain(|host| host.id != id);
    }

    /// Adds a line that concerns no machine to the log of an app, at the first host that
    /// can be reached: each keeps the lines of any app, and the same one has them as long
    /// as it can be reached.
    pub(crate) fn log(&self, app: AppId, level: &str, message: String) {
        let host = self.lock().iter().find(|host| host.is_reachable()).cloned();
        if let Some(host) = host {
            host.log(app, None, level, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::host;
    use tokio::time::advance;

    const CONNECT: Duration = Duration::from_secs(5);

    fn failed(kind: ErrorKind) -> io::Result<()> {
        Err(kind.into())
    }

    fn host_failed(kind: ErrorKind) -> io::Result<()> {
        Err(io::Error::new(kind, HostError::unreachable("it is away")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_the_last_choice_while_its_stream_is_down() {
        let host = host(1);
        assert!(host.is_reachable());
        assert!(host.record_stream_down() && !host.record_stream_down(), "reported once");
        advance(SUSPECT * 9).await;
        assert!(!host.is_reachable());
        host.record_stream_open();
        assert!(host.is_reachable());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connect_that_gets_no_answer_counts_for_a_while_or_until_the_host_answers() {
        let host = host(1);
        for answered in [false, true] {
            advance(CONNECT).await;
            host.record_connect(Instant::now() - CONNECT / 2, &host_failed(ErrorKind::TimedOut));
            assert!(!host.is_reachable());
            advance(SUSPECT - Duration::from_millis(1)).await;
            assert!(!host.is_reachable());
            match answered {
                true => host.record_connect(Instant::now(), &Ok(())),
                false => advance(Duration::from_millis(1)).await,
            }
            assert!(host.is_reachable());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_machine_does_is_no_fault_of_its_host() {
        let host = host(1);
        for kind in [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::NotFound,
            ErrorKind::HostUnreachable,
            ErrorKind::TimedOut,
        ] {
            host.record_connect(Instant::now(), &failed(kind));
            assert!(host.is_reachable(), "{kind}");
        }
        // A host that answers others.
        let began = Instant::now();
        advance(CONNECT / 2).await;
        host.record_answer();
        advance(CONNECT / 2).await;
        host.record_connect(began, &host_failed(ErrorKind::TimedOut));
        assert!(host.is_reachable());
        host.record_connect(Instant::now(), &host_failed(ErrorKind::Other));
        assert!(host.is_reachable());
        host.record_connect(Instant::now(), &host_failed(ErrorKind::HostUnreachable));
        assert!(!host.is_reachable());
    }
}
