//! The health of a container by the results of its checks.

use guest_protocol::UnitCheck;
use std::time::{Duration, Instant};

/// The health that a check shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// Too few results.
    #[default]
    Undecided,
    Passing,
    Failing,
}

/// One check of one run of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckState {
    pub(super) health: Health,
    successes: u32,
    failures: u32,
    /// Failures before this do not count.
    grace_until: Instant,
}

impl CheckState {
    /// Of a container that has just been started.
    pub(super) fn begin(check: &UnitCheck, now: Instant) -> Self {
        let grace_until = now + Duration::from_millis(check.grace_ms);
        Self { health: Health::Undecided, successes: 0, failures: 0, grace_until }
    }

    /// Takes a result; true if the health has changed.
    pub(super) fn record(&mut self, check: &UnitCheck, success: bool, now: Instant) -> bool {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else if now >= self.grace_until {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        } else {
            self.successes = 0;
        }
        let before = self.health;
        if self.successes >= check.success_threshold.max(1) {
            self.health = Health::Passing;
        } else if self.failures >= check.failure_threshold.max(1) {
            self.health = Health::Failing;
        }
        self.health != before
    }
}

/// The health of a container by all of its checks.
pub(super) fn overall(checks: impl Iterator<Item = Health> + Clone) -> Health {
    if checks.clone().any(|health| health == Health::Failing) {
        Health::Failing
    } else if checks.clone().next().is_some() && checks.clone().all(|h| h == Health::Passing) {
        Health::Passing
    } else {
        Health::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::Probe;

    fn check() -> UnitCheck {
        UnitCheck {
            name: "up".into(),
            stops: false,
            interval_ms: 1000,
            timeout_ms: 1000,
            grace_ms: 5000,
            success_threshold: 2,
            failure_threshold: 3,
            probe: Probe::Tcp(80),
        }
    }

    #[test]
    fn thresholds_count_results_in_a_row_and_failures_after_the_grace_only() {
        let begun = Instant::now();
        let mut state = CheckState::begin(&check(), begun);
        let mut show = |text: &str| -> String {
            let mut seen = String::new();
            for (at, word) in text.split(' ').enumerate() {
                let at = begun + Duration::from_secs(at as u64);
                let changed = state.record(&check(), word == "ok", at);
                seen.push_str(match (changed, state.health) {
                    (false, _) => ".",
                    (true, Health::Passing) => "P",
                    (true, Health::Failing) => "F",
                    (true, Health::Undecided) => "?",
                });
            }
            seen
        };
        // Seconds 0 to 4 are the grace period.
        assert_eq!(show("no no no no no no no no ok no ok ok"), ".......F...P");
    }

    #[test]
    fn a_container_is_healthy_once_all_checks_pass() {
        use Health::{Failing, Passing, Undecided};
        for (checks, want) in [
            (vec![], Undecided),
            (vec![Passing, Passing], Passing),
            (vec![Passing, Undecided], Undecided),
            (vec![Undecided, Failing], Failing),
        ] {
            assert_eq!(overall(checks.iter().copied()), want, "{checks:?}");
        }
    }
}
