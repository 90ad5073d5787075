//! The jail of a VM: the launcher process that gives up everything a VM must not
//! have (user, capabilities, namespaces, file tree, system calls) and then becomes
//! QEMU, and the message in which the daemon sends it what to start.

mod launcher;
mod message;
mod privileges;
mod root;
mod seccomp;
pub(crate) mod spec;

pub use launcher::{SUBCOMMAND, main};
pub(crate) use message::send;
