//! The name servers that guests get in their config. A host may get others at any time,
//! by DHCP for example, so they are asked for at each start of a machine.

use super::{Network, PortError};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Finds out which name servers guests are to use now.
type Find = dyn Fn() -> Vec<String> + Send + Sync;

/// The name servers for guests whose config names none.
#[derive(Clone)]
pub struct NameServers(Arc<Find>);

impl fmt::Debug for NameServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServers").finish_non_exhaustive()
    }
}

impl NameServers {
    /// Those that `find` finds at each start of a machine. It is called on an async
    /// thread: it may read a small file, and must not wait.
    pub fn found_by(find: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// Always the same.
    pub fn fixed(servers: Vec<String>) -> Self {
        Self::found_by(move || servers.clone())
    }

    /// Those of now, which guests may reach from now on.
    pub(crate) async fn opened(&self, network: &dyn Network) -> Result<Vec<String>, PortError> {
        let servers = (self.0)();
        let addresses: Vec<IpAddr> = servers.iter().filter_map(|ip| ip.parse().ok()).collect();
        network.open_name_servers(&addresses).await?;
        Ok(servers)
    }
}
