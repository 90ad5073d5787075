//! How long, and how many, destroyed machines are remembered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Records are looked over this often, also if no machine is destroyed.
pub(super) const EVERY: Duration = Duration::from_secs(3600);
/// Bytes of the records of destroyed machines, which are all held in memory.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// What is left of them once they are too many: they are not counted at each destroy.
const KEPT_BYTES: u64 = MAX_BYTES / 4 * 3;

/// Bytes of the records of destroyed machines, about.
#[derive(Debug, Default)]
pub(super) struct DestroyedBytes(AtomicU64);

impl DestroyedBytes {
    /// A machine was destroyed. The bytes that may be kept of all, if there are too many.
    pub(super) fn add(&self, bytes: u64) -> Option<u64> {
        let all = self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (all > MAX_BYTES).then_some(KEPT_BYTES)
    }

    /// They have been counted.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_until_they_are_too_many() {
        let bytes = DestroyedBytes::default();
        assert_eq!(bytes.add(MAX_BYTES), None);
        assert_eq!(bytes.add(1), Some(KEPT_BYTES));
        bytes.set(KEPT_BYTES);
        assert_eq!(bytes.add(1), None);
        assert_eq!(bytes.add(u64::MAX - KEPT_BYTES), Some(KEPT_BYTES));
    }
}
