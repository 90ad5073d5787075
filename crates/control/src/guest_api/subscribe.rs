//! Takes the connections of guests from all hosts, as hosts come and go.

use super::GuestApi;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use host_api::{CallContext, Hosts, KnownHost};
use model::id::HostId;
use std::collections::HashSet;
use std::time::Duration;

/// Time for a host to begin its stream.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a host whose stream has ended is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(api: &GuestApi, hosts: &dyn Hosts) {
    let mut list = hosts.watch();
    let mut subscribed: HashSet<HostId> = HashSet::new();
    let mut subscriptions = FuturesUnordered::new();
    loop {
        let known: Vec<KnownHost> = list.borrow_and_update().clone();
        for host in known.into_iter().filter(|host| subscribed.insert(host.id)) {
            subscriptions.push(subscription(api, host));
        }
        tokio::select! {
            ended = subscriptions.next(), if !subscriptions.is_empty() => {
                // The host is looked up again: it may be reached otherwise by now.
                if let Some(id) = ended {
                    subscribed.remove(&id);
                }
            }
            changed = list.changed() => {
                if changed.is_err() && subscriptions.is_empty() {
                    return;
                }
                if changed.is_err() {
                    // The list does not change any more; subscriptions still end.
                    if let Some(id) = subscriptions.next().await {
                        subscribed.remove(&id);
                    }
                }
            }
        }
    }
}

/// Serves the connections of one host until its stream ends.
async fn subscription(api: &GuestApi, KnownHost { id, host }: KnownHost) -> HostId {
    let asked = host.guest_connections(CallContext::control(SUBSCRIBE_TIMEOUT));
    match tokio::time::timeout(SUBSCRIBE_TIMEOUT, asked).await {
        Ok(Ok(mut connections)) => {
            while let Some(connection) = connections.next().await {
                api.serve_from(id, connection);
            }
        }
        Ok(Err(err)) => tracing::debug!(host = id.0, error = %err, "take connections of guests"),
        Err(_) => tracing::debug!(host = id.0, "a host does not pass connections of guests on"),
    }
    tokio::time::sleep(PAUSE).await;
    id
}
