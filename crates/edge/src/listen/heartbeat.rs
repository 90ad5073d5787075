//! Notices a core whose thread is blocked: the connections on it stall, while the
//! other cores and the runtime that started the edge run on.

use rt::Health;
use rt::health::WatchdogLimits;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Name of the cores among the parts of [`Health`].
const CORES: &str = "edge cores";

/// When each core has last run a task.
#[derive(Debug)]
pub(crate) struct Heartbeats(Mutex<Vec<Instant>>);

impl Heartbeats {
    fn new(cores: usize) -> Self {
        Self(Mutex::new(vec![Instant::now(); cores]))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self, core: usize) {
        if let Some(last) = self.lock().get_mut(core) {
            *last = Instant::now();
        }
    }

    /// The core that has been without a heartbeat for longest.
    fn oldest(&self) -> (usize, Duration) {
        let beats = self.lock();
        let ages = beats.iter().enumerate().map(|(core, last)| (core, last.elapsed()));
        ages.max_by_key(|(_, age)| *age).unwrap_or_default()
    }

    /// Beats for a core, in a task of it.
    pub(crate) async fn run(self: Arc<Self>, core: usize) {
        let mut ticks = tokio::time::interval(WatchdogLimits::default().interval);
        loop {
            ticks.tick().await;
            self.beat(core);
        }
    }
}

/// Watches `cores` cores from a thread of its own, until `tasks` is asked to stop. One that
/// is blocked for long is a failure of the program.
pub(crate) fn watch(
    cores: usize,
    tasks: &rt::Tasks,
    health: Health,
    limits: WatchdogLimits,
) -> io::Result<Arc<Heartbeats>> {
    let beats = Arc::new(Heartbeats::new(cores));
    if cores == 0 {
        return Ok(beats);
    }
    let (running, ended) = sync_channel::<()>(0);
    let (watched, failures) = (beats.clone(), tasks.failure_handler());
    std::thread::Builder::new().name("edge-watchdog".into()).spawn(move || {
        // Nothing is sent: the other end is dropped at the stop.
        while ended.recv_timeout(limits.interval) == Err(RecvTimeoutError::Timeout) {
            let (core, age) = watched.oldest();
            if age >= limits.failed {
                return failures.report(CORES, format!("core {core} has run no task for {age:?}"));
            }
            match age >= limits.stalled {
                true => health.set_problem(CORES, format!("core {core} is blocked")),
                false => health.clear(CORES),
            }
        }
        health.clear(CORES);
    })?;
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        stopping.await;
        drop(running);
    });
    Ok(beats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_core_that_is_blocked_is_a_problem_until_it_runs_again() {
        let (tasks, health) = (rt::Tasks::new(), Health::new());
        let limits = WatchdogLimits {
            interval: Duration::from_millis(5),
            stalled: Duration::from_millis(100),
            failed: Duration::from_secs(600),
        };
        let beats = watch(2, &tasks, health.clone(), limits).unwrap();
        let mut problems = health.watch();
        // The beats are what the test is about; nothing is waited for.
        let ticks = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                beats.beat(0);
            }
        };
        tokio::select! {
            () = ticks => {}
            seen = problems.wait_for(|problems| problems.contains_key(CORES)) => {
                assert_eq!(seen.unwrap()[CORES], "core 1 is blocked");
            }
        }
        let ticks = async {
            loop {
                (0..2).for_each(|core| beats.beat(core));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = ticks => {}
            seen = problems.wait_for(BTreeMap::is_empty) => drop(seen.unwrap()),
        }
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
    }
}
