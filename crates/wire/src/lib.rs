//! Every type that crosses a process boundary; serde and no logic.
//!
//! - [`machines`]: the public JSON of the Machines API, with its field names.
//! - [`worker`]: what the control plane asks of a host.
//! - [`exec`]: an interactive command, over a WebSocket.
//! - [`logs`]: one log line, as stored, streamed and shown.
//!
//! A type here is a promise to somebody. Fields are added, not changed.

pub mod exec;
pub mod logs;
pub mod machines;
pub mod worker;
