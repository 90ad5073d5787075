//! Growing pauses between tries, with jitter.

use crate::Rng;
use std::time::Duration;

/// Pauses that double from `first` to `most`, each shortened by up to half.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Begins with about `first` and never exceeds `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next pause.
    pub fn pause(&mut self, rng: &Rng) -> Duration {
        let full = self.next.min(self.most);
        self.next = full.saturating_mul(2);
        // Half is kept so that tries never crowd together.
        full / 2 + full.mul_f64(rng.fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit() {
        let rng = Rng::seeded(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(&rng)).collect();
        assert!(pauses[0] >= Duration::from_millis(50) && pauses[0] <= Duration::from_millis(100));
        assert!(pauses[7] >= Duration::from_millis(500) && pauses[7] <= Duration::from_secs(1));
    }
}
