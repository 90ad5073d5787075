//! From the kernel's first call to a root file system in which the main process
//! can start: kernel modules, devices, mounts, and the steps that apply the
//! host's configuration.

pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod prepare;
pub(crate) mod run_dir;
pub(crate) mod startup;
pub(crate) mod uevent;
pub(crate) mod virtio;
pub(crate) mod volumes;
