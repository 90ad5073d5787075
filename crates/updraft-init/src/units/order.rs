//! Whether a container may start, by the state of those that it depends on.

use guest_protocol::{Condition, Dependency, UnitState};

/// What a dependent looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: UnitState,
    /// Its process has been started once.
    pub(super) has_run: bool,
    /// Its process ended last with code 0.
    pub(super) succeeded: bool,
}

impl Seen {
    /// Nothing changes any more.
    pub(super) fn is_final(self) -> bool {
        matches!(self.state, UnitState::Stopped | UnitState::Failed)
    }
}

/// Whether a container may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    Waiting,
    /// This dependency can never be met.
    Never(Dependency),
}

/// Decides by what a container depends on; `seen` are all units.
pub(super) fn readiness(dependencies: &[Dependency], seen: &[Seen]) -> Readiness {
    let mut readiness = Readiness::Ready;
    for &dependency in dependencies {
        let Some(&other) = seen.get(usize::from(dependency.unit)) else {
            return Readiness::Never(dependency);
        };
        let met = match dependency.condition {
            Condition::Started => other.has_run,
            Condition::Healthy => other.state == UnitState::Healthy,
            Condition::ExitedSuccessfully => {
                other.state == UnitState::Stopped && other.has_run && other.succeeded
            }
        };
        match met {
            true => {}
            false if other.is_final() => return Readiness::Never(dependency),
            false => readiness = Readiness::Waiting,
        }
    }
    readiness
}

#[cfg(test)]
mod tests {
    use super::*;
    use Condition::{ExitedSuccessfully, Healthy};
    use UnitState::*;

    #[test]
    fn a_container_starts_once_all_conditions_are_met_or_never() {
        let seen = |state, has_run, succeeded| Seen { state, has_run, succeeded };
        let on = |unit, condition| Dependency { unit, condition };
        let ends = |state, ok| seen(state, true, ok);
        let never = |condition| Readiness::Never(on(0, condition));
        for (condition, other, want) in [
            (Condition::Started, seen(Waiting, false, false), Readiness::Waiting),
            (Condition::Started, seen(Started, true, false), Readiness::Ready),
            (Condition::Started, ends(Failed, false), Readiness::Ready),
            (Condition::Started, seen(Failed, false, false), never(Condition::Started)),
            (Healthy, seen(Started, true, false), Readiness::Waiting),
            (Healthy, seen(UnitState::Healthy, true, false), Readiness::Ready),
            (Healthy, seen(Unhealthy, true, false), Readiness::Waiting),
            (Healthy, seen(Restarting, true, false), Readiness::Waiting),
            (Healthy, ends(Stopped, true), never(Healthy)),
            (ExitedSuccessfully, seen(Started, true, false), Readiness::Waiting),
            (ExitedSuccessfully, ends(Restarting, true), Readiness::Waiting),
            (ExitedSuccessfully, ends(Stopped, true), Readiness::Ready),
            (ExitedSuccessfully, ends(Failed, false), never(ExitedSuccessfully)),
        ] {
            let got = readiness(&[on(0, condition)], &[other]);
            assert_eq!(got, want, "{condition:?} of {other:?}");
        }
        let both = [on(0, Condition::Started), on(1, ExitedSuccessfully)];
        let units = [seen(Started, true, false), ends(Failed, false)];
        assert_eq!(readiness(&both, &units), Readiness::Never(both[1]));
        assert_eq!(readiness(&[on(9, Healthy)], &units), Readiness::Never(on(9, Healthy)));
        assert_eq!(readiness(&[], &units), Readiness::Ready);
    }
}
