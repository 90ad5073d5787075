//! Client connections: accepts them within limits, hands them to the cores, and
//! serves HTTP/1 and HTTP/2 on each, with a deadline on every wait.

pub(crate) mod accept;
pub(crate) mod client_io;
pub(crate) mod connections;
pub(crate) mod core_thread;
pub(crate) mod heartbeat;
