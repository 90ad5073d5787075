//! Byte streams into and out of guests.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::id::{AppId, BootId, MachineId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions.
pub trait GuestStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> GuestStream for T {}

/// Byte streams into and out of guests. Guests live in a network of their own
/// on their host: only the host connects to them.
#[async_trait]
pub trait Connections: Send + Sync {
    /// Connects to a TCP port of a machine, at the private IPv4 address of the
    /// boot that is named; an error of kind `ConnectionRefused` and so on is
    /// the guest's own. A boot that has ended is `NotFound`.
    async fn connect(
        &self,
        context: CallContext,
        upstream: Upstream,
    ) -> std::io::Result<Box<dyn GuestStream>>;

    /// Connections of guests' processes to the platform's API, as they come.
    /// One subscriber gets them; while there is none they are closed at once
    /// and the guest tries again.
    async fn guest_connections(
        &self,
        context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError>;
}

/// One port of one boot of one machine. Addresses may be used again by another
/// machine; this is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Machine.
    pub machine: MachineId,
    /// Run of its VM.
    pub boot: BootId,
    /// TCP port.
    pub port: u16,
}

/// A process in a machine has connected to the platform's API.
///
/// The machine is known by where its bytes come from. What it sends is hostile and
/// bounded in all.
pub struct GuestConnection {
    /// Machine.
    pub machine: MachineId,
    /// App of the machine.
    pub app: AppId,
    /// Where in the guest the process has connected.
    pub listener: GuestListener,
    /// Reading ends when the guest has closed it; dropping it closes it for
    /// the guest.
    pub io: Box<dyn GuestStream>,
}

/// Where the processes of a guest reach the platform's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestListener {
    /// The socket `/.fly/api`: the process needs no token for what concerns its own
    /// machine.
    Socket,
    /// `_api.internal` over TCP: a token is needed. An app that fetches URLs for others
    /// can be made to connect here, which it cannot to a socket file.
    Tcp,
}

impl std::fmt::Debug for GuestConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestConnection")
            .field("machine", &self.machine)
            .field("app", &self.app)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
