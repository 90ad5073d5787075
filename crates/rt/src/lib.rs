//! Tasks and how they end, health, clock, randomness, backoff, error chains; no domain term.

pub mod backoff;
pub mod clock;
pub mod errors;
pub mod failure;
pub mod fs;
pub mod health;
pub mod rng;
pub mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use errors::{causes, chain};
pub use failure::{Failure, FailureHandler};
pub use health::Health;
pub use rng::Rng;
pub use tasks::Tasks;
