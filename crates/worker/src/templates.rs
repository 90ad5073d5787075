//! Templates: one guest per shape, booted until it waits for its config and saved.
//! Machines of that shape start from it faster than they could boot.
//!
//! A start without a template requests one. One is made at a time, since a boot of a
//! guest takes a whole core for a while.

use crate::agent;
use crate::context::HostContext;
use crate::ports::{AgentIo, PortError, QuiesceGuest};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

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
        let made = host.hypervisor.make_template(shape, quiesce_guest(&host)).await;
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

fn quiesce_guest(host: &HostContext) -> QuiesceGuest {
    let (rng, deadline) = (host.rng.clone(), host.config.boot_deadline);
    Arc::new(move |port: Box<dyn AgentIo>| {
        let session = rng.bits();
        let quiesced = async move {
            let quiesced = agent::quiesce_for_template(port, session, deadline).await;
            quiesced.map_err(|err| PortError::new("prepare a guest for its template", err))
        };
        quiesced.boxed()
    })
}
