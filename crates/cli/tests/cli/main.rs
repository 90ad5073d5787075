//! Commands from arguments to output, against a server that answers by a script.

#![allow(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

mod checks;
mod clone;
mod events;
mod fake;
mod flyctl_env;
mod help;
mod host;
mod images;
mod leases;
mod logs;
mod machines;
mod platform;
mod secrets;
mod session;
mod suspend;
