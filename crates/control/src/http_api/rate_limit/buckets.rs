//! Token buckets: each holds as many requests as may come at once, and is refilled at a rate.
//!
//! A bucket that is full again is no longer kept, and there are at most [`MAX_BUCKETS`]: a caller
//! that makes up names cannot make them grow.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

const MAX_BUCKETS: usize = 10_000;

/// How many requests are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// In the long run.
    pub(super) per_minute: u32,
    /// At once.
    pub(super) burst: u32,
}

impl Rate {
    fn per_second(self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: Rate,
    /// Requests that it holds, as of `at`.
    level: f64,
    at: Instant,
}

impl Bucket {
    fn level_at(&self, now: Instant) -> f64 {
        let refilled =
            now.saturating_duration_since(self.at).as_secs_f64() * self.rate.per_second();
        (self.level + refilled).min(f64::from(self.rate.burst))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.level_at(now) >= f64::from(self.rate.burst)
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) allowed: bool,
    /// Requests that may follow at once.
    pub(super) remaining: u32,
    /// Seconds until the bucket is full.
    pub(super) reset_secs: u64,
    /// Seconds until the next request is allowed.
    pub(super) wait_secs: u64,
}

/// The buckets of all callers.
#[derive(Debug, Default)]
pub(in crate::http_api) struct Buckets(Mutex<HashMap<String, Bucket>>);

impl Buckets {
    /// Takes one request out of a bucket, if it holds one.
    pub(super) fn take(&self, key: String, rate: Rate, now: Instant) -> Taken {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            make_room(&mut buckets, now);
        }
        let full = Bucket { rate, level: f64::from(rate.burst), at: now };
        let bucket = buckets.entry(key).or_insert(full);
        let level = bucket.level_at(now);
        let allowed = level >= 1.0;
        let level = if allowed { level - 1.0 } else { level };
        (bucket.level, bucket.at) = (level, now);
        let secs_until =
            |wanted: f64| ((wanted - level).max(0.0) / rate.per_second()).ceil() as u64;
        Taken {
            allowed,
            remaining: level as u32,
            reset_secs: secs_until(f64::from(rate.burst)),
            wait_secs: secs_until(1.0),
        }
    }
}

/// Drops buckets that are full, or the one that was used longest ago.
fn make_room(buckets: &mut HashMap<String, Bucket>, now: Instant) {
    buckets.retain(|_, bucket| !bucket.is_full(now));
    if buckets.len() < MAX_BUCKETS {
        return;
    }
    let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        buckets.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Rate { per_minute: 60, burst: 3 };

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate() {
        let (buckets, begun) = (Buckets::default(), Instant::now());
        let at = |ms: u64| buckets.take("a".into(), RATE, begun + Duration::from_millis(ms));
        let taken = |allowed, remaining, reset_secs, wait_secs| Taken {
            allowed,
            remaining,
            reset_secs,
            wait_secs,
        };
        assert_eq!(at(0), taken(true, 2, 1, 0));
        assert_eq!(at(0), taken(true, 1, 2, 0));
        assert_eq!(at(0), taken(true, 0, 3, 1));
        assert_eq!(at(0), taken(false, 0, 3, 1));
        assert_eq!(at(500), taken(false, 0, 3, 1));
        assert_eq!(at(1_000), taken(true, 0, 3, 1));
        assert_eq!(at(60_000), taken(true, 2, 1, 0), "never more than the burst");
        assert!(buckets.take("b".into(), RATE, begun).allowed, "others have their own");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_too_many() {
        let (buckets, begun) = (Buckets::default(), Instant::now());
        for n in 0..MAX_BUCKETS + 50 {
            assert!(buckets.take(n.to_string(), RATE, begun).allowed);
        }
        assert_eq!(buckets.0.lock().unwrap().len(), MAX_BUCKETS);
        buckets.take("later".into(), RATE, begun + Duration::from_secs(2));
        assert_eq!(buckets.0.lock().unwrap().len(), 1, "the others are full again");
    }
}
