//! pid 1 of every guest.
//!
//! The host boots a kernel with this program as `/init`, talks to it over one
//! virtio-serial port (see `guest_protocol`), and tells it once what the guest is
//! to be. The file names say the rest:
//!
//! ```text
//!  boot ──► port opens, all made ready ──► looper (one thread, one poll) ──► power off
//!                                            │  orders: a thread runs prepare (mounts,
//!                                            │  files, net), then the loop spawns main;
//!                                            │  execs, logs, listeners, reaping
//! ```
//!
//! A template is frozen when the loop has said that it is settled, so each
//! machine goes on from there: see `prepare`.
//!
//! Invariants: nothing here panics on what an app or the host does (the kernel
//! panics with us); every queue is bounded; children are started and reaped by
//! the loop's thread only, so a pid it holds is never somebody else's.

#![cfg_attr(not(test), no_main)]

mod api;
mod boot;
mod child;
mod clock;
mod exec;
mod files;
mod herald;
mod hook;
mod listen;
mod looper;
mod main_process;
mod modules;
mod mounts;
mod net;
mod obey;
mod outbox;
mod port;
mod power;
mod prepare;
mod ps;
mod signals;
mod spawn;
mod stream;
mod swap;
mod trace;
mod uevent;
mod users;
mod virtio;

use std::os::raw::{c_char, c_int};

/// The entry, without std's runtime around it: that one opens `/dev/null` for a
/// closed standard stream and aborts if it cannot, and before `/dev` is mounted
/// it could not. An abort of pid 1 is a kernel panic.
// SAFETY: the C library calls `main` once, and this program defines it once.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // Someone who tries the binary on a host must not find it remounting /dev.
    if std::process::id() != 1 {
        eprintln!("updraft-init is pid 1 of an Updraft guest and does nothing elsewhere");
        return 2;
    }
    signals::prepare();
    match boot::boot() {
        Ok(booted) => looper::Looper::new(booted).run(),
        Err(error) => {
            boot::kernel_message(&format!("{error}"));
            power::off(None)
        }
    }
}
