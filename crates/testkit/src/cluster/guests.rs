//! The apps in fake guests, as their host reaches them.
//!
//! A connection is decided as on a wire: the address leads to a link, the
//! link's card to the VM that has it now, and the app in that VM answers each
//! request with the id of its machine.

use crate::World;
use async_trait::async_trait;
use bytes::Bytes;
use host_api::GuestStream;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use model::id::MachineId;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use tokio::io::DuplexStream;
use worker::ports::GuestConnector;

/// Bytes under way in each direction of a connection.
const WINDOW: usize = 64 << 10;

/// Connects to the apps in the guests of one host.
#[derive(Clone, Debug)]
pub struct GuestApps(World);

impl GuestApps {
    /// The apps on the host of `world`.
    pub fn new(world: World) -> Self {
        Self(world)
    }
}

#[async_trait]
impl GuestConnector for GuestApps {
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Box<dyn GuestStream>> {
        let World { network, hypervisor, .. } = &self.0;
        let mac = network.mac_at(*to.ip()).ok_or(io::ErrorKind::HostUnreachable)?;
        let Some(listener) = hypervisor.listener(mac, to.port())? else {
            // A paused guest answers nothing.
            return std::future::pending().await;
        };
        let (near, far) = tokio::io::duplex(WINDOW);
        let machine = listener.machine;
        // In the guests' own thread: the app outlives the daemon, not its VM.
        hypervisor.outside(async move {
            tokio::select! {
                () = serve(machine, far) => {}
                () = listener.ended() => {}
            }
        });
        Ok(Box::new(near))
    }
}

async fn serve(machine: MachineId, stream: DuplexStream) {
    let answer = service_fn(move |_: Request<_>| async move {
        let body = Full::new(Bytes::from(machine.to_string()));
        Ok::<_, Infallible>(Response::new(body))
    });
    // The client may leave at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
