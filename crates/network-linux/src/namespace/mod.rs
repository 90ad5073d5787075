//! The platform's network namespace: where it is kept (`holder`), its link to
//! the daemon's own namespace (`uplink`), sockets made inside it for the edge
//! (`sockets`), and the thread that keeps the link's rules in place (`guard`).

mod guard;
mod holder;
mod sockets;
mod uplink;

pub(crate) use guard::Guard;
pub(crate) use holder::Namespace;
pub use sockets::NamespaceSockets;
pub(crate) use uplink::{Uplink, link_name, pool_conflict};
