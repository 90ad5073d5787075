//! Tasks and how they end, health, clock, randomness, backoff, error chains, limits on the
//! peer of a stream; no domain term.

pub mod backoff;
pub mod clock;
pub mod errors;
pub mod failure;
pub mod fs;
pub mod health;
pub mod peer_stream;
pub mod rng;
pub mod silence;
pub mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use errors::{causes, chain};
pub use failure::{Failure, FailureHandler};
pub use health::Health;
pub use peer_stream::{PeerLimits, PeerStream};
pub use rng::Rng;
pub use silence::Silence;
pub use tasks::Tasks;
