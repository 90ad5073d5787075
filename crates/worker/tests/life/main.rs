//! The life of machines on one host, with everything outside of the daemon
//! faked, and the daemon killed at every step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apps;
mod calls;
mod checks;
mod crash;
mod daemon;
mod faults;
mod faulty;
mod lab;
mod leases;
mod life;
mod logs;
mod metrics;
mod schedules;
mod secrets;
mod suspend;
mod takeover;
mod volumes;
mod wake;
