//! Requests with an idempotency key: carried out once, however often they are sent
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).
//!
//! A record is written before the request is carried out, and its answer after that. If
//! the process ends in between, the repetition finds what was done: ids, nonces and the
//! hosts' own idempotency keys follow from the [`RequestId`], so that no machine is created and no
//! command given a second time.

mod id;
mod kept;
mod record;
mod turns;

pub(crate) use id::{RequestId, fingerprint};
pub(crate) use record::{Begun, Keyed, begin, finish, forget, forget_old};
pub(crate) use turns::Turns;
