//! Tasks and how they end, clock, randomness, backoff, error chains; no domain word.

pub mod backoff;
pub mod clock;
pub mod errors;
pub mod fs;
pub mod rng;
pub mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use errors::chain;
pub use rng::Rng;
pub use tasks::Tasks;
