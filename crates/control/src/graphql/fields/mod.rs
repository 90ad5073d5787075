//! What the fields of each type answer.

mod app;
mod image;
mod machine;
mod mutations;
mod org;
mod queries;
mod region;
mod release;
mod tokens;
mod unbuilt;
mod user;
mod volume;
mod wireguard;

pub(super) use mutations::Mutations;
pub(super) use queries::Queries;
