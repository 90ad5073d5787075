//! The time of day, injected.
//!
//! Lengths of time are measured with `tokio::time`, which tests can pause; this
//! is only for moments that are shown, stored or compared across processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where moments come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A manual clock: it shows `nanos` since the epoch until it is advanced.
    pub fn manual(nanos: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(nanos))))
    }

    /// Moves a manual clock; the system's clock is not ours to move.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Nanoseconds since the epoch.
    pub fn now_ns(&self) -> i64 {
        match &self.0 {
            Source::Manual(nanos) => nanos.load(Ordering::Relaxed),
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the door")]
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now_ns() / 1_000_000).unwrap_or(0)
    }
}

/// `2026-11-20T23:08:25.123Z` for milliseconds since the epoch.
pub fn rfc3339(ms: u64) -> String {
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (s, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// Days since 1970-01-01 as year, month, day (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_words() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_219_705_123, "2026-11-21T00:08:25.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_manual_clock_does_not_advance_by_itself() {
        let clock = Clock::manual(5_000_000);
        assert_eq!(clock.now_ms(), 5);
        clock.advance(Duration::from_millis(7));
        assert_eq!(clock.now_ms(), 12);
    }
}
