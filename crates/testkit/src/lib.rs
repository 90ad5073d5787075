//! Honest fakes of all ports and the contract tests that the real ones pass too.

pub mod store;
