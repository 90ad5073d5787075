//! `host-api` between processes: one server and one client over HTTP/2 with
//! mutual TLS.
//!
//! - [`Authority`] and [`Credentials`]: certificates of a small CA of our own.
//! - [`Server`]: answers calls of peers for one host.
//! - [`RemoteHost`]: that host as its callers see it, behind the same traits.
//!
//! A host also answers at a socket file of its own machine
//! ([`Server::listen_locally`], [`SocketDial`]), without TLS.
//!
//! # On the wire
//!
//! A call is `POST /host/v1/<method>`. The body is a sequence of frames, each a
//! length (four bytes, big endian) and as many bytes of CBOR (RFC 8949): first
//! the `CallContext`, then the arguments as one tuple, then whatever the call
//! streams to the host. The answer is 200 with frames likewise: first a
//! `Result`, then what the host streams. Connections to guests, and uploads,
//! continue as plain bytes after the first frames. A method that the peer does
//! not know is 404, and [`HostError::Unsupported`](host_api::HostError) for the
//! caller; unknown fields are ignored.
//!
//! Cancelling a call resets its stream, which drops the call on the host. Plain
//! bytes that break off reset the stream, too, so that no reader takes a part of
//! them for the whole.
//!
//! # When a process stops
//!
//! Calls under way have 5 seconds to end, and so have connections to guests,
//! uploads and commands without a terminal. Streams that have no end of their own
//! (routes, logs, announced connections of guests, commands with a terminal) end
//! at once.
//!
//! # Who may call
//!
//! A peer is known by its certificate: its name is the DNS name, its roles are
//! URIs `updraft:role:<role>`. Only peers with the role `control` or `edge` may
//! call a host, an edge only what concerns traffic. A client accepts a host
//! only under the name in its settings.

mod ca;
mod client;
mod codec;
mod identity;
mod local;
mod pipe;
mod server;
mod tls;

pub use ca::{Authority, CertificateError, Credentials};
pub use client::{Dial, RemoteHost, TlsDial};
pub use identity::{Peer, Role};
pub use local::SocketDial;
pub use server::Server;
pub use tls::TlsError;

use std::time::Duration;

/// Bytes that one call may have on their way (RFC 9113, 5.2).
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that all calls of a connection may have on their way: the largest
/// window there is, so that calls whose answers are not read cannot use it up and
/// stop the others. `STREAM_WINDOW` bounds each of them.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Calls under way have this long once the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Ends when `tasks` have been stopped and what is under way has had its time.
async fn grace(tasks: &rt::Tasks) {
    tasks.stopping().await;
    tokio::time::sleep(DRAIN).await;
}

/// Ends when a command has to end because `tasks` stop: one with a terminal at
/// once, since its user would keep it open.
async fn session_grace(tasks: &rt::Tasks, exec: &host_api::ExecStart) {
    match exec.tty {
        Some(_) => tasks.stopping().await,
        None => grace(tasks).await,
    }
}

/// Whether nothing of a command follows it.
fn is_last(output: &host_api::ExecOutput) -> bool {
    use host_api::ExecOutput::{Exited, Failed};
    matches!(output, Exited { .. } | Failed(_))
}
