//! Starting the process of a VM: the command lines of QEMU and of the guest's
//! kernel, the files that a VM starts from, and the launcher that is handed all
//! of it. What the launcher does inside its process is in `jail`.

pub(crate) mod command_line;
mod start;

pub(crate) use start::{BootSource, Launched, launch, threads};
