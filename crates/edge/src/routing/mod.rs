//! Host name → app, and which of an app's machines takes a request: pure.

pub(crate) mod balance;
pub(crate) mod host;
