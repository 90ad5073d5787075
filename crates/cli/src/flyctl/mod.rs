//! What flyctl has and this program has not yet: its commands and its flags, each
//! refused by name with a hint at what to use in its place.

pub(crate) mod commands;
pub(crate) mod flags;
