//! pid 1 of every guest.
//!
//! The host boots a kernel with this program as `/init`, talks to it over one
//! virtio-serial port (see `guest_protocol`), and sends it the guest's
//! configuration once:
//!
//! ```text
//!  boot::startup ──► agent::event_loop (one thread, one poll) ──► system::power
//!  modules, mounts,    │ Configure: a thread runs boot::prepare (mounts, files,
//!  agent port          │ network), then the event loop starts the main process;
//!                      │ execs, logs, listeners, reaping
//! ```
//!
//! A template is made of a guest that has answered `QuiesceForTemplate`: each
//! machine of the template continues from there (see `boot::prepare`).
//!
//! Invariants: nothing here panics on what an app or the host does (the kernel
//! panics when pid 1 ends); every queue is bounded; children are started and
//! reaped by the event loop's thread only, so a pid that it holds is never reused.

#![cfg_attr(not(test), no_main)]

mod agent;
mod boot;
mod container;
mod process;
mod system;
mod units;

use agent::event_loop::EventLoop;
use std::os::raw::{c_char, c_int};
use system::{kernel_log, power};

/// The entry point, without std's runtime around it: the runtime opens `/dev/null`
/// for a closed standard stream and aborts if it cannot, and before `/dev` is
/// mounted it could not. An abort of pid 1 is a kernel panic.
// SAFETY: the C library calls `main` once, and this program defines it once.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // Started on a host by mistake, the binary must not remount /dev.
    if std::process::id() != 1 {
        eprintln!("updraft-init is pid 1 of an Updraft guest and does nothing elsewhere");
        return 2;
    }
    process::signals::block_all();
    match boot::startup::boot() {
        Ok(booted) => EventLoop::new(booted).run(),
        Err(error) => {
            kernel_log::write(&format!("{error}"));
            power::off(None)
        }
    }
}
