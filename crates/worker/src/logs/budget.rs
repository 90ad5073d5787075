//! How much a machine may log.

/// Bytes per second and machine that are kept.
pub(super) const RATE: u64 = 1 << 20;
/// Bytes that a machine may log at once.
const BURST: u64 = 4 * RATE;
/// The cost of a line beside its bytes: it is parsed, stored and sent with its metadata.
const LINE_COST: u64 = 256;

/// Bytes a machine may still log; refilled with time.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    at_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BURST, at_ms: 0 }
    }
}

impl Budget {
    /// Adds what the time since the last call allows.
    pub(super) fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).min(10_000) * RATE / 1000;
        self.left = (self.left + gained).min(BURST);
        self.at_ms = now_ms;
    }

    /// Not even an empty line fits.
    pub(super) fn is_empty(&self) -> bool {
        self.left < LINE_COST
    }

    pub(super) fn take(&mut self, line: &str) -> bool {
        let cost = line.len() as u64 + LINE_COST;
        let fits = self.left >= cost;
        self.left -= if fits { cost } else { 0 };
        fits
    }
}
