//! `worker::Images`: pull, import, flatten layers into one read-only root
//! filesystem image.
//!
//! ```text
//!  registry ──┐                     spool files        one sorted tar
//!             ├─ blobs ─ spool ─────────────── tree ───────────────── sqfstar ─ roots/<hex>.squashfs
//!  archive  ──┘  (digest, diff_id, limits)    (merge)  (pack)                   images/<hex>.json
//! ```
//!
//! No layer is ever extracted into a file system: a layer is decompressed once
//! into a spool file while its digests are verified, its headers are indexed,
//! the layers are merged in memory ([`tree`]), and the result is streamed as
//! one tar of our own making into `sqfstar`. What an image says about paths,
//! links and devices therefore never meets a system call of this host.
//!
//! Invariant: an image exists when and only when its record in `images/`
//! exists; the record is written, durably, after everything it speaks of.

mod blob;
mod config;
mod digest;
mod doctor;
mod fault;
mod flatten;
mod flight;
mod hold;
mod http;
mod images;
mod import;
mod index;
mod manifest;
mod metadata;
mod pack;
mod pull;
mod reference;
mod registry;
mod rootdir;
mod source;
mod spool;
mod store;
mod tree;
mod work;

pub use config::{Compression, Credentials, Limits, Login, OciConfig};
pub use doctor::checks;
pub use images::OciImages;
