//! Creating a machine, step by step: [`place`] validates it and offers it to hosts,
//! [`claim`] records its name and owner before a host is asked, [`repeat`] finds what an
//! earlier try with the same idempotency key has left, [`numbers`] allocates its number, and [`confirm`] records that the host has it, with all that wait in
//! [`confirmations`].

mod claim;
mod confirm;
mod confirmations;
mod images;
mod numbers;
mod place;
mod repeat;

pub(crate) use claim::{CLAIM_LIFETIME, Release, forget, holds_name, is_abandoned_claim, release};
pub(crate) use confirm::destroy_unowned;
pub(crate) use confirmations::Confirmations;
pub(super) use images::resolve_with;
pub use place::create;
