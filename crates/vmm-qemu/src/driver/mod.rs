//! The port: boots, finds, adopts, suspends and kills VMs. `state` is what the
//! driver knows and the operations on VMs that exist; `boot`, `suspend` and
//! `template_builder` are the operations that take several steps.
//!
//! Invariant: everything that exists of a boot (directory, cgroup, process) can be
//! found by its name alone, and is made in an order that leaves no process
//! without a directory. So `kill` and `list` need no memory, and a daemon that
//! was killed at any point leaves nothing that the next cannot remove.

mod boot;
mod current_platform;
mod hypervisor;
mod state;
mod suspend;
mod template_builder;

pub use hypervisor::QemuHypervisor;
