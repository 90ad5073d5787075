//! What the control plane needs of the outer worlds, and nothing more.

mod hosts;

pub use hosts::*;
pub use store::*;
