//! Templates: one guest per shape, booted until it waits for its config and saved.
//! Machines of that shape start from it faster than they could boot.
//!
//! A start without a template requests one. One is made at a time, since a boot of a
//! guest takes a whole core for a while.

use crate::agent;
use crate::context::HostContext;
use crate::ports::{AgentIo, PortError, Settle, Shape};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Shapes that may wait; others are requested again by the next boot.
const QUEUE: usize = 32;
/// Tries for one shape until the next boot requests it again.
const MAX_TRIES: u32 = 3;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Shapes whose template is to be made.
#[derive(Debug, Default)]
pub(crate) struct TemplateQueue {
    /// Shapes and the tries so far; the first is being made.
    queue: Mutex<VecDeque<(Shape, u32)>>,
    requested: Notify,
}

impl TemplateQueue {
    /// A machine of this shape was booted without a template.
    pub(crate) fn request(&self, shape: Shape) {
        let mut queue = self.lock();
        if queue.len() < QUEUE && queue.iter().all(|(waiting, _)| *waiting != shape) {
            queue.push_back((shape, 0));
            self.requested.notify_one();
        }
    }

    fn first(&self) -> Option<Shape> {
        self.lock().front().map(|(shape, _)| *shape)
    }

    /// The first is made, or has failed and is tried again after the others. Returns
    /// whether it has failed for good.
    fn finish_first(&self, made: bool) -> bool {
        let mut queue = self.lock();
        let Some((shape, tries)) = queue.pop_front() else { return false };
        let again = !made && tries + 1 < MAX_TRIES;
        if again {
            queue.push_back((shape, tries + 1));
        }
        !made && !again
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Shape, u32)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes templates for as long as the host runs: those of its settings, then those
/// that are requested.
pub(crate) fn start(host: &Arc<HostContext>) {
    host.config.templates.iter().for_each(|&shape| host.templates.request(shape));
    host.tasks.spawn_service("the maker of templates", run(host.clone()));
}

async fn run(host: Arc<HostContext>) {
    let mut backoff = rt::Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let Some(shape) = host.templates.first() else {
            host.templates.requested.notified().await;
            continue;
        };
        if host.hypervisor.has_template(shape) {
            host.templates.finish_first(true);
            continue;
        }
        let made = host.hypervisor.make_template(shape, settle(&host)).await;
        host.metrics.template(made.is_ok());
        let dropped = host.templates.finish_first(made.is_ok());
        match made {
            Ok(()) => {
                tracing::info!(?shape, "made a template");
                backoff = rt::Backoff::new(PAUSES.0, PAUSES.1);
            }
            Err(err) => {
                let error = rt::chain(&err);
                tracing::warn!(?shape, error, dropped, "cannot make a template");
                tokio::time::sleep(backoff.pause(&host.rng)).await;
            }
        }
    }
}

fn settle(host: &HostContext) -> Settle {
    let (rng, deadline) = (host.rng.clone(), host.config.boot_deadline);
    Arc::new(move |port: Box<dyn AgentIo>| {
        let session = rng.bits();
        let settled = async move {
            let settled = agent::quiesce_for_template(port, session, deadline).await;
            settled.map_err(|err| PortError::new("prepare a guest for its template", err))
        };
        settled.boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_queued_once_and_dropped_after_the_last_try() {
        let templates = TemplateQueue::default();
        let shape = |memory_mib| Shape { vcpus: 1, memory_mib };
        for n in [256, 512, 256] {
            templates.request(shape(n));
        }
        assert_eq!(templates.first(), Some(shape(256)));
        assert!(!templates.finish_first(false), "it is tried again, after the other");
        assert_eq!(templates.first(), Some(shape(512)));
        assert!(!templates.finish_first(true));
        assert!(!templates.finish_first(false));
        assert!(templates.finish_first(false));
        assert_eq!(templates.first(), None);
        (0..100).for_each(|n| templates.request(shape(n)));
        assert_eq!(templates.lock().len(), QUEUE);
    }
}
