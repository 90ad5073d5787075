//! How a VM comes up. `starting` chooses the next boot and acts on how it went;
//! `launch` boots a VM from image and disk, `restore` makes one from the machine's
//! snapshot, `adopt` takes over one of an earlier daemon; `session` opens the
//! session with the guest, and `launched` is what they end with. `guest_config` describes what
//! the guest is to run: `process` a process of it, `containers` its containers, `images` where
//! their files are.

pub(super) mod adopt;
mod containers;
mod guest_config;
mod images;
mod launch;
pub(super) mod launched;
mod process;
pub(super) mod restore;
mod resuming;
mod session;
mod starting;
