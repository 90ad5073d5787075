//! The API over HTTP on loopback, against a real store and a fake host.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

mod access;
mod apps;
mod audit;
mod crash;
mod errors;
mod guest_socket;
mod guests;
mod hosts;
mod machines;
mod oidc;
mod reads;
mod suspend;
mod tokens;
mod walk;
mod world;
