//! What all cores share, and what one core has for itself.

use crate::config::EdgeConfig;
use crate::errors::Failure;
use crate::machine::AppShared;
use crate::metrics::Metrics;
use crate::ports::Workers;
use crate::table::{Cell, View};
use crate::upstream::Pool;
use http::HeaderValue;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by all cores.
pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    pub(crate) server: HeaderValue,
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) metrics: Metrics,
    /// Tasks of the runtime that started the edge: calls to hosts run there.
    pub(crate) tasks: rt::Tasks,
    pub(crate) main: Handle,
    pub(crate) clock: rt::Clock,
    pub(crate) born: Instant,
    /// Told when autostop should look at once.
    pub(crate) nudge: Arc<Notify>,
    pub(crate) connections: AtomicUsize,
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

    /// A failure, in the app's log; few per second, code and app.
    pub(crate) fn log_failure(&self, app: Option<&AppShared>, failure: &Failure) {
        const EVERY: Duration = Duration::from_millis(200);
        let (app_name, machine) = (failure.app.as_deref(), failure.machine.as_deref());
        tracing::debug!(app = app_name, machine, "{}", failure.line());
        let Some(app) = app else { return };
        let due = {
            let mut logged = app.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.retain(|(_, at)| at.elapsed() < EVERY);
            let due = !logged.iter().any(|(code, _)| *code == failure.code);
            if due {
                logged.push((failure.code, Instant::now()));
            }
            due
        };
        if due {
            self.workers.log(&app.name, machine, failure.line());
        }
    }

    /// Whether `every` has passed since the time kept in `last`, and keeps now.
    pub(crate) fn may_log(&self, last: &std::sync::atomic::AtomicU64, every: Duration) -> bool {
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
    pub(crate) view: View,
    pub(crate) pool: Arc<Pool>,
    /// Tasks of this core's runtime.
    pub(crate) tasks: rt::Tasks,
    pub(crate) rng: rt::Rng,
}

impl Core {
    /// Keeps the pool true to the table, until the core stops.
    pub(crate) async fn tend(self: Arc<Self>) {
        const SWEEP: Duration = Duration::from_millis(500);
        let mut changes = self.shared.cell.changes();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.pool.cut_stale(),
                    Err(_) => return,
                },
                _ = sweep.tick() => self.pool.sweep(),
            }
        }
    }
}
