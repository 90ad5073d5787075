//! Network interfaces: taps by their descriptors (`tap`), interfaces with their
//! addresses over rtnetlink (`links`), the routes of a namespace (`routes`) and
//! kernel settings (`sysctl`).

mod links;
mod routes;
pub(crate) mod sysctl;
pub(crate) mod tap;

pub(crate) use links::{Interface, Links, VethEnd};
pub(crate) use routes::Route;
