//! Which accelerator and CPU model work on this host, found out by booting a guest.
//!
//! `/dev/kvm` proves nothing: on nested or paravirtual hosts it opens, a VM can be
//! made, and QEMU refuses the host's CPU model or a stock kernel never starts. So the
//! probe goes down a ladder of CPU models (`ladder`), boots a guest with each
//! (`boot_guest`), and keeps the result until the host, QEMU or the kernel changes
//! (`result`).

mod boot_guest;
mod ladder;
mod result;

pub use boot_guest::{Attempt, boots};
pub use ladder::{DEADLINE, forced, probe};
pub use result::Probed;
pub(crate) use result::{cached_result, kvm_pvm_is_loaded};
