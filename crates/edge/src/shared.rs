//! What all cores share, and what one core has for itself.

use crate::admission::app::AppShared;
use crate::admission::idle_queue::IdleQueue;
use crate::config::EdgeConfig;
use crate::http::body::OpenBodies;
use crate::http::failure::Failure;
use crate::listen::connections::Connections;
use crate::metrics::Metrics;
use crate::ports::Directory;
use crate::table::host::FollowedHosts;
use crate::table::shared::{CachedTable, SharedTable};
use crate::upstream::budget::UpstreamBudget;
use crate::upstream::pool::Pool;
use http::HeaderValue;
use model::id::AppId;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Shared by all cores.
pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) table: Arc<SharedTable>,
    /// The hosts that the table follows.
    pub(crate) hosts: FollowedHosts,
    /// Apps without machines of which a failure was logged recently, and when.
    pub(crate) unplaced_logged: Mutex<Vec<(AppId, Instant)>>,
    pub(crate) metrics: Metrics,
    /// Tasks of the runtime that started the edge: calls to hosts run there.
    pub(crate) tasks: rt::Tasks,
    pub(crate) main: Handle,
    pub(crate) clock: rt::Clock,
    pub(crate) born: Instant,
    /// Apps that autostop should look at.
    pub(crate) idle_queue: Arc<IdleQueue>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) upstream: Arc<UpstreamBudget>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    /// Runs a call to a host, on the runtime that started the edge.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        let _main = self.main.enter();
        self.tasks.spawn_until_stop(call);
    }

    /// Adds a failure to the app's log; few per second, code and app.
    pub(crate) fn log_failure(&self, app: Option<&AppShared>, failure: &Failure) {
        const EVERY: Duration = Duration::from_millis(200);
        let app_name = failure.app.as_deref();
        tracing::debug!(app = app_name, machine = ?failure.machine, "{}", failure.line());
        let Some(app) = app else { return self.log_unplaced(failure) };
        let due = {
            let mut logged = app.failures_logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.retain(|(_, at)| at.elapsed() < EVERY);
            let due = !logged.iter().any(|(code, _)| *code == failure.code);
            if due {
                logged.push((failure.code, Instant::now()));
            }
            due
        };
        if !due {
            return;
        }
        let entry = self.table.get(&app.name);
        let now = entry.as_ref().map(|entry| entry.load());
        let rows = now.iter().flat_map(|now| &now.rows);
        let row = rows.into_iter().find(|row| Some(row.machine.id) == failure.machine);
        match row {
            Some(row) => row.machine.log("error", failure.line()),
            None => app.log(&self.hosts, "error", failure.line()),
        }
    }

    /// Adds a failure to the log of an app that no host has machines of: a host keeps
    /// the lines of any app. One a second and app, and of few apps at a time.
    fn log_unplaced(&self, failure: &Failure) {
        const EVERY: Duration = Duration::from_secs(1);
        const APPS: usize = 256;
        let id = failure.app.as_deref().and_then(|name| self.directory.app_id(name));
        let Some(app) = id else { return };
        {
            let logged = &self.unplaced_logged;
            let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.retain(|(_, at)| at.elapsed() < EVERY);
            if logged.len() >= APPS || logged.iter().any(|(logged, _)| *logged == app) {
                return;
            }
            logged.push((app, Instant::now()));
        }
        self.hosts.log(app, "error", failure.line());
    }

    /// Whether `every` has passed since the time kept in `last`, and keeps now.
    pub(crate) fn may_log(&self, last: &AtomicU64, every: Duration) -> bool {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        // From 1 on, so that 0 is "never".
        let now = ms(self.born.elapsed()) + 1;
        let before = last.load(SeqCst);
        let due = before == 0 || now >= before + ms(every);
        due && last.compare_exchange(before, now, SeqCst, SeqCst).is_ok()
    }
}

/// One core's own.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: CachedTable,
    pub(crate) pool: Arc<Pool>,
    /// Header values of this core's own: those of all cores would share a counter.
    pub(crate) region: HeaderValue,
    pub(crate) server: HeaderValue,
    /// Bodies of answers over HTTP/2, which their clients may cease to take.
    pub(crate) bodies: OpenBodies,
    /// Tasks of this core's runtime.
    pub(crate) tasks: rt::Tasks,
    /// Those that serve clients: they end before the others.
    pub(crate) clients: rt::Tasks,
    pub(crate) rng: rt::Rng,
}

impl Core {
    /// Forgets what is no longer used, until the core stops.
    pub(crate) async fn run_maintenance(self: Arc<Self>) {
        const SWEEP: Duration = Duration::from_millis(500);
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            sweep.tick().await;
            self.pool.sweep();
            self.table.sweep();
            self.bodies.sweep();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::ports::NoDirectory;

    /// What cores share, with an empty table and `max` connections.
    pub(crate) fn shared(max: usize) -> Shared {
        Shared {
            config: EdgeConfig::default(),
            directory: Arc::new(NoDirectory),
            table: Arc::new(SharedTable::new()),
            hosts: FollowedHosts::default(),
            unplaced_logged: Mutex::default(),
            metrics: Metrics::new(&mut Default::default(), "local", "0000"),
            tasks: rt::Tasks::new(),
            main: Handle::current(),
            clock: rt::Clock::system(),
            born: Instant::now(),
            idle_queue: Arc::default(),
            connections: Arc::new(Connections::new(max, None)),
            upstream: Arc::new(UpstreamBudget::new(max)),
        }
    }
}
