//! Snapshots of suspended VMs. A snapshot is a directory of three files: `ram` is
//! the guest's whole memory, sparse; `state` is its processor and devices;
//! `manifest.json` lists what belongs together and is written last, durably, so
//! there is a snapshot exactly when there is a manifest.
//!
//! `ram` outlives a resume: the resumed VM maps it privately, and what it writes
//! is written back into the same file by the next suspend, which therefore costs
//! what was written since.
//!
//! Here: the format, writing it, and checking it before use. When a VM is paused
//! and resumed is decided in `driver`.

mod draft;
mod manifest;
mod open;

pub(crate) use draft::Draft;
pub(crate) use manifest::{find, invalidate};
pub(crate) use open::{Opened, open};
