//! Memory for names, links, attributes and sparse maps of one image.
//!
//! Limits per entry do not bound their sum: a million entries with 128 KiB of
//! attributes each would take 128 GiB. Entries that a later layer replaces
//! count too, since the merge keeps them until its end.

use crate::error::{Error, Result};
use crate::layer::entry::Meta;

/// Memory of an attribute beside its name and value.
const ATTRIBUTE: usize = 64;
/// Memory of an entry's first attribute beside that.
const ATTRIBUTES: usize = 384;

/// The rest of [`metadata_bytes`](crate::Limits::metadata_bytes).
#[derive(Clone, Debug)]
pub(crate) struct MetadataBudget {
    left: u64,
    limit: u64,
}

impl MetadataBudget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Takes `bytes`, or refuses the image.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<()> {
        let over = || {
            let limit = self.limit;
            Error::refused(format!(
                "its names, links and attributes exceed the limit of {limit} bytes (metadata_bytes)"
            ))
        };
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(over)?;
        Ok(())
    }

    /// Takes the bytes of an entry's attributes.
    pub(crate) fn charge_attributes(&mut self, meta: &Meta) -> Result<()> {
        let Some(xattrs) = &meta.xattrs else { return Ok(()) };
        let bytes = xattrs.iter().map(|(name, value)| name.len() + value.len() + ATTRIBUTE);
        self.charge(ATTRIBUTES + bytes.sum::<usize>())
    }
}
