//! Several hosts, one control plane and one edge, in one process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod away;
mod calls;
mod life;
mod ownership;
mod walk;
