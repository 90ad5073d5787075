//! Control groups, version 1 and 2: the trees that the host has mounted, the limits
//! of a VM, the groups of one daemon and its VMs, and the protection of the daemon.

pub(crate) mod daemon;
pub(crate) mod groups;
pub(crate) mod limits;
mod trees;
