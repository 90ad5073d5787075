//! `host-api` between processes: one server and one client over HTTP/2 with
//! mutual TLS.
//!
//! - [`Authority`] and [`Credentials`]: certificates of a small CA of our own.
//! - [`Server`]: answers calls of peers for one host.
//! - [`RemoteHost`]: that host as its callers see it, behind the same traits.
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
//! Cancelling a call resets its stream, which drops the call on the host.
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
mod server;
mod tls;

pub use ca::{Authority, CertificateError, Credentials};
pub use client::{Dial, RemoteHost, TlsDial};
pub use identity::{Peer, Role};
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
