//! The host's view of a VM's process, independent of QEMU: its directory, its
//! identity by pid and start time, handles (pidfds) on it, and its log. Nothing
//! here starts a VM or talks to one.

pub(crate) mod boot_dir;
pub(crate) mod log;
pub(crate) mod pidfd;
