//! Bytes of names, links and attributes that one image may make us remember.
//!
//! Limits per entry do not bound their sum: a million entries with 128 KiB of
//! attributes each would be 128 GiB. What a later layer replaces counts, too,
//! as merging keeps it until the end.

use crate::fault::{Fault, Result};
use crate::index::Meta;

/// What an attribute takes besides its name and value.
const ATTRIBUTE: usize = 64;
/// What the first attribute of an entry takes besides.
const ATTRIBUTES: usize = 384;

/// What is left of [`metadata_bytes`](crate::Limits::metadata_bytes).
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    left: u64,
    limit: u64,
}

impl Metadata {
    /// Of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Takes `bytes`.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<()> {
        let over = || {
            let limit = self.limit;
            Fault::refused(format!(
                "its names, links and attributes exceed the limit of {limit} bytes (metadata_bytes)"
            ))
        };
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(over)?;
        Ok(())
    }

    /// Takes what the attributes of an entry need.
    pub(crate) fn charge_attributes(&mut self, meta: &Meta) -> Result<()> {
        let Some(xattrs) = &meta.xattrs else { return Ok(()) };
        let bytes = xattrs.iter().map(|(name, value)| name.len() + value.len() + ATTRIBUTE);
        self.charge(ATTRIBUTES + bytes.sum::<usize>())
    }
}
