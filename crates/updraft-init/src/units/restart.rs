//! Whether a container that has ended is started again, and after how long.

use guest_protocol::{RestartRule, RestartWhen};
use std::time::{Duration, Instant};

/// The decision about a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start it again after this pause.
    Restart(Duration),
    /// Leave it down; `exhausted`: it has failed too often.
    Stay { exhausted: bool },
}

/// Decides by `rule`; `earlier` are the times of its restarts so far.
pub(super) fn verdict(
    rule: &RestartRule,
    success: bool,
    earlier: &[Instant],
    now: Instant,
) -> Verdict {
    let window = Duration::from_millis(rule.window_ms);
    let recent = earlier.iter().filter(|&&at| now.saturating_duration_since(at) < window).count();
    match rule.when {
        RestartWhen::Never => Verdict::Stay { exhausted: false },
        RestartWhen::OnFailure if success => Verdict::Stay { exhausted: false },
        RestartWhen::OnFailure if recent >= rule.max_retries as usize => {
            Verdict::Stay { exhausted: true }
        }
        RestartWhen::OnFailure | RestartWhen::Always => {
            let pause = rule.pauses_ms.get(recent).or(rule.pauses_ms.last());
            Verdict::Restart(Duration::from_millis(pause.copied().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_decides_as_the_hosts_policy_does() {
        let rule = |when| RestartRule {
            when,
            max_retries: 2,
            window_ms: 1000,
            pauses_ms: vec![0, 500, 900],
        };
        let now = Instant::now() + Duration::from_secs(60);
        let ago = |ms: &[u64]| -> Vec<Instant> {
            ms.iter().map(|&ms| now - Duration::from_millis(ms)).collect()
        };
        let restart = |ms| Verdict::Restart(Duration::from_millis(ms));
        let stay = |exhausted| Verdict::Stay { exhausted };
        use RestartWhen::{Always, Never, OnFailure};
        for (when, success, earlier, want) in [
            (Never, false, vec![], stay(false)),
            (OnFailure, true, vec![], stay(false)),
            (OnFailure, false, vec![], restart(0)),
            (OnFailure, false, vec![10], restart(500)),
            (OnFailure, false, vec![10, 20], stay(true)),
            // Those before the window no longer count.
            (OnFailure, false, vec![1000, 2000, 10], restart(500)),
            (Always, true, vec![1, 2, 3, 4, 5], restart(900)),
        ] {
            assert_eq!(verdict(&rule(when), success, &ago(&earlier), now), want, "{when:?}");
        }
        let without_pauses = RestartRule { when: Always, ..RestartRule::default() };
        assert_eq!(verdict(&without_pauses, true, &[], now), restart(0));
    }
}
