//! The port to guests' TCP ports, and to the ids of apps.

use super::PortError;
use async_trait::async_trait;
use host_api::GuestStream;
use model::id::{AppId, AppName, OrgId, OrgSlug};
use std::io;
use std::net::SocketAddrV4;

/// Connects to guests. Their addresses exist in the platform's own network namespace.
#[async_trait]
pub trait GuestConnector: Send + Sync + 'static {
    /// Opens a TCP connection to the private address of a guest.
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Box<dyn GuestStream>>;
}

/// Connects from the network namespace of the daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

#[async_trait]
impl GuestConnector for TcpConnector {
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Box<dyn GuestStream>> {
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Finds the ids of apps and organizations by their names: records of the first
/// version have only names. Asked once, when a host starts.
#[async_trait]
pub trait OwnerLookup: Send + Sync + 'static {
    /// The app of that name and its organization; `None` if there is none.
    async fn owner(
        &self,
        app: &AppName,
        org: &OrgSlug,
    ) -> Result<Option<(AppId, OrgId)>, PortError>;
}
