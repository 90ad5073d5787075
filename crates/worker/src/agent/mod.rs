//! The host's side of the guest protocol: one session with one guest.
//!
//! The reader never waits for a client: output of execs goes into buffers that credit
//! bounds, reports go to the machine's task, logs are stored or dropped. Everything
//! that a guest sends is hostile: `claims` bounds and validates it, `reader` how
//! fast it is read.

mod api;
mod claims;
mod error;
mod exec;
mod greet;
mod mutex;
mod outgoing;
mod reader;
mod reports;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use api::ApiFor;
pub(crate) use error::AgentError;
pub(crate) use greet::quiesce_for_template;
pub(crate) use reports::{Listen, Ports, Report, UnitStates};
pub(crate) use session::{Agent, Welcome};
