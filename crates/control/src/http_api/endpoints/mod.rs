//! The endpoints of the Machines API, one file per group.

pub(super) mod apps;
pub(super) mod exec;
mod exec_session;
pub(super) mod images;
pub(super) mod lifecycle;
pub(super) mod logs;
pub(super) mod machines;
pub(super) mod metadata;
pub(super) mod platform;
