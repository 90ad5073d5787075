//! The front for machines: the API as a process in a guest reaches it, over
//! `/.fly/api` and `_api.internal:4280`
//! (<https://fly.io/docs/machines/api/working-with-machines-api/>).
//!
//! A host passes each connection on as a stream. The caller is known by the machine
//! that the stream comes from, never by what the guest sends; the name in `Host`
//! means nothing. Over the socket a machine may read and suspend itself and use its
//! own labels without a token; over TCP it needs one. With a token the API is the
//! same as everywhere, but for smaller bodies and no WebSockets.

mod bounds;
mod changes;
mod connection;
mod subscribe;

use crate::http_api::{FromMachine, HttpApi};
use crate::{Platform, lookup};
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use bounds::LIMITS;
use changes::Changes;
use host_api::{GuestConnection, GuestListener, Hosts};
use model::id::{HostId, MachineId};
use rt::Tasks;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves the API to machines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuestApi {
    router: Router,
    platform: Platform,
    tasks: Tasks,
}

impl GuestApi {
    /// The machines' side of `api`.
    pub fn new(api: &HttpApi) -> Self {
        let platform = api.platform().clone();
        let changes = Arc::new(Changes::new(platform.clock().clone()));
        let bounded = |routes: Router<HttpApi>| {
            let limited = routes.layer(from_fn_with_state(LIMITS, bounds::enforce));
            limited.layer(from_fn_with_state(changes, changes::limit))
        };
        let tasks = platform.tasks().clone();
        Self { router: api.router_with(bounded), platform, tasks }
    }

    /// Serves one connection out of `machine`, in a task of its own, until either
    /// side closes it or its time is over.
    pub fn serve<Io>(&self, machine: MachineId, listener: GuestListener, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Only here, so that no other request passes for a machine's.
        let router = self.router.clone().layer(Extension(FromMachine { machine, listener }));
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move { connection::serve(io, router, LIMITS, &tasks).await });
    }

    /// Serves a connection that `host` attributes to a machine, if the machine is
    /// that host's: a host must not pass for machines of another.
    fn serve_from(&self, host: HostId, connection: GuestConnection) {
        let GuestConnection { machine, listener, io, .. } = connection;
        let own = self.clone();
        self.tasks.spawn_until_stop(async move {
            match lookup::by_id(&own.platform, machine).await {
                Ok(Some(found)) if found.record.owner == host => own.serve(machine, listener, io),
                Ok(_) => tracing::warn!(
                    host = host.0, %machine, "a host passed on a connection of a machine that it does not own"
                ),
                Err(err) => tracing::warn!(error = %err, "look up the machine of a connection"),
            }
        });
    }

    /// Serves the connections of all machines of `hosts`, until the platform stops.
    pub fn start(&self, hosts: Arc<dyn Hosts>) {
        let own = self.clone();
        self.tasks.spawn_until_stop(async move { subscribe::run(&own, &*hosts).await });
    }
}
