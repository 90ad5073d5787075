//! Templates: one guest per shape, booted up to "awaits orders" and kept, from
//! which machines of that shape begin faster than they could boot.
//!
//! A reconciler without input: whoever misses a template only says so. One is
//! made at a time, since a boot of a guest takes a whole core for a while.

use crate::agent;
use crate::host::Shared;
use crate::ports::{AgentIo, PortError, Settle, Shape};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Shapes that may wait; a machine of a shape that does not fit is booted again.
const MOST: usize = 32;
/// Tries for one shape; the next machine that misses it begins anew.
const TRIES: u32 = 3;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is still to be made.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    /// The first is the one that is being made. With the tries so far.
    queue: Mutex<VecDeque<(Shape, u32)>>,
    wanted: Notify,
}

impl Templates {
    /// A machine of this shape had to do without.
    pub(crate) fn want(&self, shape: Shape) {
        let mut queue = self.lock();
        if queue.len() < MOST && queue.iter().all(|(waiting, _)| *waiting != shape) {
            queue.push_back((shape, 0));
            self.wanted.notify_one();
        }
    }

    fn first(&self) -> Option<Shape> {
        self.lock().front().map(|(shape, _)| *shape)
    }

    /// The first is made, or has failed and is tried again after the others. Says
    /// whether it has failed for good.
    fn done(&self, made: bool) -> bool {
        let mut queue = self.lock();
        let Some((shape, tries)) = queue.pop_front() else { return false };
        let again = !made && tries + 1 < TRIES;
        if again {
            queue.push_back((shape, tries + 1));
        }
        !made && !again
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Shape, u32)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes templates for as long as the host runs: those of its settings, and then
/// those that were missed.
pub(crate) fn start(host: &Arc<Shared>) {
    host.config.templates.iter().for_each(|&shape| host.templates.want(shape));
    host.tasks.spawn_until_stop(run(host.clone()));
}

async fn run(host: Arc<Shared>) {
    let mut backoff = rt::Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let Some(shape) = host.templates.first() else {
            host.templates.wanted.notified().await;
            continue;
        };
        if host.hypervisor.has_template(shape) {
            host.templates.done(true);
            continue;
        }
        let made = host.hypervisor.make_template(shape, settle(&host)).await;
        host.metrics.template(made.is_ok());
        let given_up = host.templates.done(made.is_ok());
        match made {
            Ok(()) => {
                tracing::info!(?shape, "made a template");
                backoff = rt::Backoff::new(PAUSES.0, PAUSES.1);
            }
            Err(err) => {
                let error = rt::chain(&err);
                tracing::warn!(?shape, error, given_up, "cannot make a template");
                tokio::time::sleep(backoff.pause(&host.rng)).await;
            }
        }
    }
}

fn settle(host: &Shared) -> Settle {
    let (rng, deadline) = (host.rng.clone(), host.config.boot_deadline);
    Arc::new(move |port: Box<dyn AgentIo>| {
        let session = rng.bits();
        let settled = async move {
            let settled = agent::settle(port, session, deadline).await;
            settled.map_err(|err| PortError::new("have a guest settle", err))
        };
        settled.boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_wait_once_and_are_given_up_in_the_end() {
        let templates = Templates::default();
        let shape = |memory_mib| Shape { vcpus: 1, memory_mib };
        for n in [256, 512, 256] {
            templates.want(shape(n));
        }
        assert_eq!(templates.first(), Some(shape(256)));
        assert!(!templates.done(false), "it is tried again, after the other");
        assert_eq!(templates.first(), Some(shape(512)));
        assert!(!templates.done(true));
        assert!(!templates.done(false));
        assert!(templates.done(false));
        assert_eq!(templates.first(), None);
        (0..100).for_each(|n| templates.want(shape(n)));
        assert_eq!(templates.lock().len(), MOST);
    }
}
