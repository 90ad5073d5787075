//! When an ended process is started again, and after how long.

use std::time::Duration;

/// Failures older than this do not count.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);
/// `max_retries` where the config names none.
pub const DEFAULT_RETRIES: u32 = 10;
/// Longest pause before a restart.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// When an ended process is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    No,
    /// After a failure, so many times within [`WINDOW`].
    OnFailure {
        /// How many times.
        max_retries: u32,
    },
    /// Always, also after success.
    Always,
}

impl Policy {
    /// From the names of the API (`no`, `on-failure`, `always`) and of fly.toml
    /// and the CLI (`never`, `on-fail`). `None` is the default, `on-failure`.
    pub fn parse(name: Option<&str>, max_retries: Option<u32>) -> Option<Self> {
        let max_retries = max_retries.unwrap_or(DEFAULT_RETRIES);
        Some(match name {
            None | Some("" | "on-failure" | "on-fail") => Self::OnFailure { max_retries },
            Some("no" | "never") => Self::No,
            Some("always") => Self::Always,
            Some(_) => return None,
        })
    }
}

/// The decision about an ended process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after this pause.
    Restart {
        /// The pause.
        after: Duration,
    },
    /// Leave it down.
    Stay {
        /// It would be started again, had it not failed so often.
        exhausted: bool,
    },
}

/// The decision about a process that ended at `now_ms` with or without
/// success; `earlier` are the moments of its restarts so far (milliseconds
/// since the epoch).
pub fn verdict(policy: Policy, success: bool, earlier: &[u64], now_ms: u64) -> Verdict {
    let window = WINDOW.as_millis() as u64;
    let recent = earlier.iter().filter(|&&at| now_ms.saturating_sub(at) < window).count() as u32;
    match policy {
        Policy::No => Verdict::Stay { exhausted: false },
        Policy::OnFailure { .. } if success => Verdict::Stay { exhausted: false },
        Policy::OnFailure { max_retries } if recent >= max_retries => {
            Verdict::Stay { exhausted: true }
        }
        Policy::OnFailure { .. } | Policy::Always => Verdict::Restart { after: pause(recent) },
    }
}

/// The pauses before the first, the second and further restarts within [`WINDOW`]; the last
/// is that of all that follow.
pub fn pauses() -> impl Iterator<Item = Duration> {
    (0..).map(pause).take_while(|&pause| pause < LONGEST_PAUSE).chain([LONGEST_PAUSE])
}

/// The first restart is immediate; from the second on the pause doubles.
fn pause(recent: u32) -> Duration {
    match recent {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON_FAILURE_3: Policy = Policy::OnFailure { max_retries: 3 };

    /// Restarts until the policy gives up or `most` is reached.
    fn run(policy: Policy, success: bool, every: Duration, most: usize) -> (usize, Verdict) {
        let (mut history, mut now) = (Vec::new(), 1_000_000);
        loop {
            let verdict = verdict(policy, success, &history, now);
            match verdict {
                Verdict::Restart { after } if history.len() < most => {
                    history.push(now + after.as_millis() as u64);
                    now = history[history.len() - 1] + every.as_millis() as u64;
                }
                _ => return (history.len(), verdict),
            }
        }
    }

    #[test]
    fn policies() {
        let fast = Duration::from_millis(10);
        let stay = |exhausted| Verdict::Stay { exhausted };
        assert_eq!(run(ON_FAILURE_3, false, fast, 99), (3, stay(true)));
        assert_eq!(run(ON_FAILURE_3, true, fast, 99), (0, stay(false)));
        assert_eq!(run(Policy::No, false, fast, 99), (0, stay(false)));
        assert_eq!(run(Policy::Always, true, fast, 99).0, 99);
        let default = Policy::parse(None, None).unwrap();
        assert_eq!(run(default, false, fast, 99), (10, stay(true)));
    }

    #[test]
    fn failures_six_minutes_apart_never_exhaust() {
        let slow = Duration::from_secs(360);
        let (restarts, verdict) = run(ON_FAILURE_3, false, slow, 50);
        assert_eq!((restarts, verdict), (50, Verdict::Restart { after: Duration::ZERO }));
    }

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let pauses: Vec<_> = (0..10).map(|n| pause(n).as_millis()).collect();
        let expected = [0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000];
        assert_eq!(pauses, expected);
        let listed: Vec<_> = super::pauses().map(|pause| pause.as_millis()).collect();
        assert_eq!(listed, expected[..8]);
    }

    #[test]
    fn spellings() {
        assert_eq!(Policy::parse(Some("never"), None), Some(Policy::No));
        assert_eq!(
            Policy::parse(Some("on-fail"), Some(2)),
            Policy::parse(Some("on-failure"), Some(2))
        );
        assert_eq!(Policy::parse(Some("sometimes"), None), None);
    }
}
