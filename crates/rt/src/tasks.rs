//! Tasks with an owner, how they end, and what follows if they end unexpectedly.

use crate::failure::{FailureHandler, panic_message};
use futures_util::FutureExt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, resume_unwind};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks that are stopped and awaited together. Cheap to
/// clone; all clones are one group.
///
/// A task that panics, and a service ([`Tasks::spawn_service`]) that ends before the
/// group is stopped, is reported to the failure handler, which ends the process.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failures: FailureHandler,
}

impl Tasks {
    /// An empty group. A failure of a task aborts the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty group whose failures are reported to `failures`.
    pub fn with_failure_handler(failures: FailureHandler) -> Self {
        Self { failures, ..Self::default() }
    }

    /// A group that stops with this one, or earlier by itself. Its tasks are
    /// waited for with those of this group.
    #[must_use]
    pub fn child(&self) -> Self {
        let (tracker, failures) = (self.tracker.clone(), self.failures.clone());
        Self { tracker, stop: self.stop.child_token(), failures }
    }

    /// The handler of failures, for threads that are no tasks.
    pub fn failure_handler(&self) -> FailureHandler {
        self.failures.clone()
    }

    /// Runs `future` as a task of this group. It should end soon after
    /// [`Tasks::stopping`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (failures, place) = (self.failures.clone(), Location::caller());
        self.tracker.spawn(async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(output) => output,
                Err(panic) => {
                    failures.report(format!("task of {place}"), panic_message(&*panic));
                    resume_unwind(panic)
                }
            }
        })
    }

    /// Runs `future` until it ends or the group is stopped, whichever is
    /// first; then it is dropped at its current await point.
    #[track_caller]
    pub fn spawn_until_stop<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = future => {}
            }
        })
    }

    /// Runs `service`, which must not end, until the group is stopped. If it ends
    /// earlier, that is a failure of the program.
    #[track_caller]
    pub fn spawn_service<F>(&self, name: &'static str, service: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, failures) = (self.stop.clone(), self.failures.clone());
        self.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = service => failures.report(name, "it ended while the program was running"),
            }
        })
    }

    /// Ends when the group is stopped.
    pub fn stopping(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// The group has been stopped.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks the group to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks the group to stop and waits for at most `grace`. Returns whether all
    /// tasks have ended.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use std::sync::{Arc, Mutex};

    fn noting() -> (Tasks, Arc<Mutex<Vec<Failure>>>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let to = notes.clone();
        let handler = FailureHandler::new(move |failure| to.lock().unwrap().push(failure.clone()));
        (Tasks::with_failure_handler(handler), notes)
    }

    #[tokio::test]
    async fn a_panic_is_reported_with_its_place() {
        let (tasks, notes) = noting();
        let task = tasks.child().spawn(async { panic!("no such {}", "thing") });
        task.await.unwrap_err();
        let notes = notes.lock().unwrap();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].part.contains("tasks.rs"), "{}", notes[0]);
        assert_eq!(notes[0].problem, "no such thing");
    }

    #[tokio::test]
    async fn a_service_that_ends_by_itself_is_a_failure_but_not_at_a_stop() {
        let (tasks, notes) = noting();
        tasks.spawn_service("clock", std::future::pending());
        tasks.spawn_until_stop(async {});
        tasks.spawn_service("router", async {}).await.unwrap();
        assert!(tasks.shutdown(Duration::from_secs(10)).await);
        let parts: Vec<_> = notes.lock().unwrap().iter().map(|note| note.part.clone()).collect();
        assert_eq!(parts, ["router"]);
    }
}
