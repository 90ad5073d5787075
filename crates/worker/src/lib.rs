//! One host and its machines: one task per machine; owns the ports that it needs
//! implemented (`ports`).
//!
//! `host.db` is the truth about what the machines of this host do; they keep running,
//! restarting and waking while everything else is down. A request records the desired
//! state and is answered; the machine's task compares it with the actual state and
//! acts (`machine::step`). The same path serves the normal case, a retry and the
//! recovery after `kill -9`.

mod agent;
mod capacity;
mod checks;
mod context;
mod cpu;
mod db;
mod event_feed;
mod guest_connections;
mod host;
mod logs;
mod machine;
mod machine_metrics;
mod metrics;
pub mod ports;
mod record;
mod routes;
mod schedules;
mod secrets;
mod sessions;
mod template_queue;
mod templates;
mod units;
mod volumes;

pub use context::{HostConfig, Ports};
pub use host::{StartError, Worker};
pub use logs::LogLimits;
pub use ports::NameServers;
