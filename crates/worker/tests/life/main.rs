//! The life of machines on one host, with everything outside of the daemon
//! faked, and the daemon killed at every step.

mod crash;
mod daemon;
mod lab;
mod life;
