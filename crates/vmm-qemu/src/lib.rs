//! `worker::ports::Hypervisor` on QEMU microvm, jailed.
//!
//! ```text
//! daemon: driver ── boot dir, cgroups, sockets ──► launcher `__jail` (one thread)
//!    │                                                │ own uid, cgroups, namespaces,
//!    │ QMP, agent port (unix sockets)                 │ root, no capabilities
//!    └──────────────────────────────────────────────► exec QEMU (seccomp sandbox)
//! ```
//!
//! A VM outlives the daemon: nothing of it hangs on a pipe or a parent. What
//! there is of a boot is found by its directory and its cgroups, and its process
//! is recognised by number, start time and command line before it is touched.
//!
//! A VM begins in one of three ways (`launch::BootSource`): its kernel boots; it is a
//! copy of a `template` that was booted once; or it is restored from its own
//! `snapshot`. In the latter two memory is a file that is mapped privately, and
//! the state of the devices is loaded by QEMU's `-incoming`.

pub mod config;
pub mod doctor;
pub mod driver;
pub mod guest_image;
pub mod jail;
pub mod probe;

mod cgroup;
mod launch;
mod memory;
mod monitor;
mod platform;
mod process;
mod snapshot;
mod template;

pub use config::{Accelerator, CpuModel, GuestImage, JailConfig, QemuConfig};
pub use doctor::doctor_checks;
pub use driver::QemuHypervisor;
pub use guest_image::{initramfs, kernel};
