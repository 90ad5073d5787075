//! What an edge asks of a host: its routes, its load, connections to its guests.

mod connections;
mod load;
mod routes;

pub use connections::{Connections, GuestConnection, GuestListener, GuestStream, Upstream};
pub use load::{Load, WakeRefused};
pub use routes::{
    HealthStatus, Route, RouteChange, RoutePosition, RouteSnapshot, RouteState, RouteSubscription,
    Routes, ServiceHealth,
};
