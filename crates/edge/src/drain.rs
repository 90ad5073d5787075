//! Tells the host when a machine that is to be stopped has nothing in flight,
//! so that its app is asked to end between requests and not within one.
//!
//! The host waits for this only so long; a request that takes longer, or an open
//! connection, is then the app's to end.

use crate::core::Shared;
use crate::machine::{Era, Machine};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any host waits; after that nobody listens any more.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Waits beside for what `machine` has in flight; its stop began in `era`. The
/// table that routes no new request to it has been published before.
pub(crate) fn begin(shared: &Arc<Shared>, (machine, era): (Arc<Machine>, Era)) {
    let shared_too = shared.clone();
    shared.spawn(async move {
        if let Ok(true) = tokio::time::timeout(GIVE_UP, machine.emptied(era)).await {
            shared_too.workers.drained(&machine.id);
        }
    });
}
