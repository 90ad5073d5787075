//! One job per digest, however many ask for it.

use crate::fault;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use worker::ports::{ImageError, PortError, Progress};

type Outcome = Option<Result<(), Arc<ImageError>>>;

/// The jobs under way.
#[derive(Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<String, Flight>>>);

struct Flight {
    listeners: Arc<Mutex<Vec<Progress>>>,
    outcome: watch::Receiver<Outcome>,
}

/// Takes the job out of the list when it ends, also by a panic or a stop.
struct Landing {
    flights: Arc<Mutex<HashMap<String, Flight>>>,
    key: String,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Flights {
    /// Waits for the job of `key`; begins it as a task if none is under way. It
    /// goes on when nobody waits any more: what it brings is kept.
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
            Ok(Some(Err(error))) => Err(fault::copy(error)),
            // The sender is gone without a word.
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
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            flight.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(progress);
            return flight.outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let listeners = Arc::new(Mutex::new(vec![progress]));
        let flight = Flight { listeners: Arc::clone(&listeners), outcome: outcome.clone() };
        flights.insert(key.to_owned(), flight);
        let landing = Landing { flights: Arc::clone(&self.0), key: key.to_owned() };
        let work = job(Arc::new(move |step: &str, done, all| {
            // Copied, so that a slow listener doesn't hold those who join.
            let known = listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for listener in known {
                listener(step, done, all);
            }
        }));
        tasks.spawn_until_stop(async move {
            let landing = landing;
            let done = work.await.map_err(Arc::new);
            // Off the list first: who comes now starts afresh.
            drop(landing);
            let _ = tell.send(Some(done));
        });
        outcome
    }
}
