//! When blocking work must end.

use std::io;
use std::time::{Duration, Instant};

/// A point in time that blocking work checks between its steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// Never: for background work that no request waits for.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Time left; `None` if there is no deadline.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Fails with `TimedOut` once the deadline has passed.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.left() {
            Some(left) if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}
