//! The global state: the port in etcd's shape, and what is stored under which
//! keys.
//!
//! - [`Store`] and its types: range at a revision, transaction, watch, lease.
//! - [`records`]: keys and typed records.

mod port;
pub mod records;

pub use port::*;
