//! Decides when a request may use a machine: limits, holding, waking, draining,
//! and autostop.
//!
//! All of it belongs to the machine's own host, which alone sees the whole load.
//! `interface` is what another edge asks of that host's edge, with typed
//! refusals; the rest is its local implementation.

pub(crate) mod app;
pub(crate) mod attempt;
pub(crate) mod autostop;
pub(crate) mod drain;
pub(crate) mod hold;
pub(crate) mod idle_queue;
pub(crate) mod interface;
pub(crate) mod machine;
pub(crate) mod permit;
pub(crate) mod refusal;
pub(crate) mod wake;
