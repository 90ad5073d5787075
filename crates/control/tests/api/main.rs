//! The API over HTTP on loopback, against a real store and a fake host.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

mod access;
mod apps;
mod checks;
mod crash;
mod errors;
mod guest_socket;
mod guests;
mod hosts;
mod leases;
mod machines;
mod reads;
mod secret_keys;
mod secrets;
mod suspend;
mod walk;
mod watch;
mod world;
