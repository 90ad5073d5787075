//! The edge's view of all machines: follows each host's stream of routes and
//! keeps one immutable snapshot per app.
//!
//! One [`writer`] applies the changes. Each app's newest snapshot is replaced by
//! itself, so a change costs the same however many apps there are, and each core
//! finds an app in a map of its own, so requests take no shared lock.

pub(crate) mod app;
pub(crate) mod follow;
pub(crate) mod host;
pub(crate) mod metrics;
pub(crate) mod shared;
pub(crate) mod target;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod writer;
