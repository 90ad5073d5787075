//! How a VM goes down. `ending` drains it and requests the stop, `clear` removes
//! what is left of it, and `outcome` records its end and decides what follows:
//! a restart, another boot, `stopped`, `suspended`, `failed` or `destroyed`.

pub(super) mod clear;
mod ending;
pub(super) mod outcome;
