//! Whether the parts of the program work, for a health endpoint, and a watchdog that
//! notices a stalled runtime.

use crate::Tasks;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Problems of the program by part; none means that it is healthy. Cheap to clone;
/// all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(watch::Sender<BTreeMap<&'static str, String>>);

impl Health {
    /// Healthy until a part reports a problem.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part has a problem.
    pub fn set_problem(&self, part: &'static str, problem: impl Into<String>) {
        let problem = problem.into();
        self.0.send_if_modified(|problems| {
            let before = problems.insert(part, problem.clone());
            before.is_none_or(|before| before != problem)
        });
    }

    /// A part works.
    pub fn clear(&self, part: &'static str) {
        self.0.send_if_modified(|problems| problems.remove(part).is_some());
    }

    /// All problems, by part.
    pub fn problems(&self) -> BTreeMap<&'static str, String> {
        self.0.borrow().clone()
    }

    /// All problems, now and at every change.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.subscribe()
    }
}

/// When the watchdog acts.
#[derive(Clone, Copy, Debug)]
pub struct WatchdogLimits {
    /// Time between two heartbeats of the runtime.
    pub interval: Duration,
    /// Without a heartbeat for this long the program is unhealthy.
    pub stalled: Duration,
    /// Without a heartbeat for this long it has failed and ends.
    pub failed: Duration,
}

impl Default for WatchdogLimits {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            stalled: Duration::from_secs(5),
            failed: Duration::from_secs(120),
        }
    }
}

/// Name of the runtime among the parts of [`Health`].
pub const RUNTIME: &str = "runtime";

/// What the watchdog finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    Regular,
    Stalled(Duration),
    Failed(Duration),
}

fn pulse(since_beat: Duration, limits: WatchdogLimits) -> Pulse {
    match since_beat {
        since if since >= limits.failed => Pulse::Failed(since),
        since if since >= limits.stalled => Pulse::Stalled(since),
        _ => Pulse::Regular,
    }
}

/// Watches the runtime that this is called on, from a thread of its own, until
/// `tasks` is stopped.
///
/// # Errors
/// The thread cannot be started.
pub fn watch_runtime(tasks: &Tasks, health: Health, limits: WatchdogLimits) -> std::io::Result<()> {
    let (beats, received) = std::sync::mpsc::sync_channel(1);
    let failures = tasks.failure_handler();
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        use std::sync::mpsc::RecvTimeoutError;
        let mut last = Instant::now();
        loop {
            match received.recv_timeout(limits.interval) {
                Ok(()) => last = Instant::now(),
                Err(RecvTimeoutError::Timeout) => {}
                // The heartbeat ends with the runtime or at a stop.
                Err(RecvTimeoutError::Disconnected) => return health.clear(RUNTIME),
            }
            match pulse(last.elapsed(), limits) {
                Pulse::Regular => health.clear(RUNTIME),
                Pulse::Stalled(_) => {
                    health.set_problem(RUNTIME, "no task has run for a while: a thread is blocked");
                }
                Pulse::Failed(since) => {
                    failures.report(RUNTIME, format!("no task has run for {since:?}"));
                    return;
                }
            }
        }
    })?;
    tasks.spawn_until_stop(async move {
        let mut ticks = tokio::time::interval(limits.interval);
        loop {
            ticks.tick().await;
            // A full channel holds a beat that the thread has yet to see.
            if let Err(std::sync::mpsc::TrySendError::Disconnected(())) = beats.try_send(()) {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_by_its_age() {
        let limits = WatchdogLimits::default();
        let at = |secs| pulse(Duration::from_secs(secs), limits);
        assert_eq!(at(4), Pulse::Regular);
        assert_eq!(at(5), Pulse::Stalled(Duration::from_secs(5)));
        assert_eq!(at(120), Pulse::Failed(Duration::from_secs(120)));
    }

    #[test]
    fn a_blocked_runtime_is_unhealthy_until_it_runs_again() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (tasks, health) = (Tasks::new(), Health::new());
        let limits = WatchdogLimits {
            interval: Duration::from_millis(5),
            stalled: Duration::from_millis(100),
            failed: Duration::from_secs(600),
        };
        runtime.block_on(async { watch_runtime(&tasks, health.clone(), limits) }).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { released.recv() });
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut problems = health.watch();
        other.block_on(async {
            problems.wait_for(|problems| problems.contains_key(RUNTIME)).await.unwrap();
            release.send(()).unwrap();
            problems.wait_for(BTreeMap::is_empty).await.unwrap();
        });
        tasks.stop();
    }
}
