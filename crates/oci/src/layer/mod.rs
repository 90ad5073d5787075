//! One layer's tar, entry by entry. The reader ([`reader`]) checks headers
//! ([`header`]), pax records ([`pax`]), sparse maps ([`sparse`]) and paths
//! ([`path`]) before it hands out an entry ([`entry`]). What entries may take in
//! memory is bounded per image ([`metadata_budget`]).

pub(crate) mod entry;
pub(crate) mod header;
pub(crate) mod metadata_budget;
pub(crate) mod path;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sparse;
#[cfg(test)]
pub(crate) mod testing;
