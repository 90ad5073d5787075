//! Releases of an app: their life as one table, and the ways in which one replaces the machines
//! of the one before.

mod life;
mod strategy;

pub use life::{Refused, Status};
pub use strategy::Strategy;
