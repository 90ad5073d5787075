//! Notifies the host when a machine that is to be stopped has nothing in flight,
//! so that its app is asked to end between requests and not within one.
//!
//! The host waits for this only for a bounded time; a request that takes longer,
//! or an open connection, is then the app's to end.

use crate::admission::machine::{ConnectionEpoch, Machine};
use crate::shared::Shared;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any host waits.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits in the background for what `machine` has in flight; its stop began in
/// `epoch`. The table that routes no new request to it has been published before.
pub(crate) fn begin(shared: &Shared, (machine, epoch): (Arc<Machine>, ConnectionEpoch)) {
    shared.spawn(async move {
        if let Ok(true) = tokio::time::timeout(DRAIN_TIMEOUT, machine.drained(epoch)).await {
            machine.host.api.load.drained(machine.id);
        }
    });
}
