//! The API over HTTP on loopback, against a real store and a fake host.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

mod apps;
mod crash;
mod errors;
mod guest_socket;
mod guests;
mod hosts;
mod machines;
mod reads;
mod secrets;
mod suspend;
mod walk;
mod world;
