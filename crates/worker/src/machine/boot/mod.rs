//! How a VM comes up. `starting` chooses the next boot and acts on how it went;
//! `launch` boots a VM from image and disk, `restore` makes one from the machine's
//! snapshot, `adopt` takes over one of an earlier daemon; `session` opens the
//! session with the guest, `launched` is what they end with, and `guest_config` describes what the guest is to run.

pub(super) mod adopt;
mod guest_config;
mod launch;
pub(super) mod launched;
pub(super) mod restore;
mod resuming;
mod session;
mod starting;
