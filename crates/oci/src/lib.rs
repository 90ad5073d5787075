//! `worker::Images`: pull, import, flatten layers into one read-only root
//! filesystem image.
//!
//! ```text
//!  registry ──┐                unpacked layers     one sorted tar
//!             ├─ blobs ─ unpack ─────────────── tree ───────────────── sqfstar ─ roots/<hex>.squashfs
//!  archive  ──┘  (digest, diff_id, limits)     (merge)  (pack)                   images/<hex>.json
//! ```
//!
//! No layer is ever extracted into a file system. A layer is decompressed once
//! into an unnamed file while its digests are verified, its headers are indexed,
//! the layers are merged in memory, and the result is streamed as one normalized
//! tar into `sqfstar`. So no path, link or device of an image ever reaches a
//! system call of this host.
//!
//! Invariant: an image exists if and only if its record in `images/` exists. The
//! record is written durably after all files that it refers to.

mod archive;
mod config;
mod content;
mod doctor;
mod error;
mod flatten;
#[cfg(test)]
mod fuzz_tests;
mod images;
mod jobs;
mod layer;
mod manifest;
mod reference;
mod registry;
mod store;

pub use config::cpu_level::CpuLevel;
pub use config::credentials::{Credentials, Login};
pub use config::limits::Limits;
pub use config::settings::{Compression, OciConfig};
pub use doctor::checks;
pub use images::port::OciImages;
