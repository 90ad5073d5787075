//! The memory of guests, as files.
//!
//! ```text
//!  a guest that booted           its own memfd, shared with no other VM, mapped shared
//!  a guest from a template       the template's sealed memfd, mapped privately (copy on write)
//!  a guest from a snapshot       the snapshot's file on disk, mapped privately (copy on write)
//! ```
//!
//! The pages that a restored guest writes therefore exist in its process alone, and a file
//! that is mapped privately may be shared (sealed) or kept for later.
//!
//! Here: making and sealing such files, copying and checksumming sparse ones, and
//! reading the private pages of a VM's process. What the files are for is decided
//! in `snapshot` and `template`.

mod private_pages;
mod ram_file;
mod sparse;

pub(crate) use private_pages::PrivatePages;
pub(crate) use ram_file::{fresh, seal};
pub(crate) use sparse::{Digest, copy, digest};
