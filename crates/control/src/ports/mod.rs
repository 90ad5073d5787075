//! What the control plane needs of the outer worlds, and nothing more.

mod hosts;
mod store;

pub use hosts::*;
pub use store::*;
