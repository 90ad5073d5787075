//! One job per digest, however many callers wait for it.

use crate::error;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use worker::ports::{ImageError, PortError, Progress};

/// `None` while the job runs.
type Outcome = Option<Result<(), Arc<ImageError>>>;

/// The running jobs by digest.
#[derive(Default)]
pub(crate) struct Singleflight(Arc<Mutex<HashMap<String, InFlight>>>);

struct InFlight {
    listeners: Arc<Mutex<Vec<Progress>>>,
    outcome: watch::Receiver<Outcome>,
}

/// Removes the job from the map when it ends, also by a panic or a stop.
struct Removal {
    jobs: Arc<Mutex<HashMap<String, InFlight>>>,
    key: String,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Singleflight {
    /// Waits for the job of `key`, which is started as a task if it does not
    /// run. The job continues without callers, and its result is kept.
    pub(crate) async fn join<F>(
        &self,
        tasks: &rt::Tasks,
        key: &str,
        progress: Progress,
        job: impl FnOnce(Progress) -> F,
    ) -> Result<(), ImageError>
    where
        F: Future<Output = Result<(), ImageError>> + Send + 'static,
    {
        let mut outcome = self.enter(tasks, key, progress, job);
        let done = outcome.wait_for(Option::is_some).await;
        match done.as_deref() {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(error::copy(error)),
            // The job was dropped without an outcome.
            Ok(None) | Err(_) => {
                let error = PortError::plain("fetch an image: the work was interrupted");
                Err(ImageError::Failed(error.transient()))
            }
        }
    }

    fn enter<F>(
        &self,
        tasks: &rt::Tasks,
        key: &str,
        progress: Progress,
        job: impl FnOnce(Progress) -> F,
    ) -> watch::Receiver<Outcome>
    where
        F: Future<Output = Result<(), ImageError>> + Send + 'static,
    {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.get(key) {
            job.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(progress);
            return job.outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let listeners = Arc::new(Mutex::new(vec![progress]));
        let running = InFlight { listeners: Arc::clone(&listeners), outcome: outcome.clone() };
        jobs.insert(key.to_owned(), running);
        let removal = Removal { jobs: Arc::clone(&self.0), key: key.to_owned() };
        let work = job(Arc::new(move |step: &str, done, total| {
            // A copy, so that a slow listener does not block callers that join.
            let known = listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for listener in known {
                listener(step, done, total);
            }
        }));
        tasks.spawn_until_stop(async move {
            let removal = removal;
            let done = work.await.map_err(Arc::new);
            // Removed first, so that a later caller starts a new job.
            drop(removal);
            let _ = sender.send(Some(done));
        });
        outcome
    }
}
