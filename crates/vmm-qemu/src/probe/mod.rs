//! Which accelerator works on this host, found out by booting a guest.

mod boot_guest;

pub use boot_guest::{DEADLINE, Probed, boots, probe};
