//! Health checks: from single results to a status, and from statuses to the health of a
//! port (<https://fly.io/docs/reference/health-checks/>).

use std::time::Duration;

/// Time between two runs of a check that names none.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
/// Time that one run may take where the check names none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after a start in which failures do not count, where the check names none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// Shortest and longest interval and timeout of a service check; others are clamped.
pub const SERVICE_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Shortest interval of a check of the machine itself.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(2);
/// Longest timeout of any check.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest interval and grace period of a check of the machine itself.
pub const LONGEST_SPAN: Duration = Duration::from_secs(3600);
/// Results in a row that a threshold may ask for.
pub const MAX_THRESHOLD: u32 = 100;
/// Failures in a row after which a liveness check restarts its machine, where the check
/// names no threshold; other checks fail at the first.
pub const LIVENESS_FAILURES: u32 = 3;

/// The status of a check, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Passing.
    Passing,
    /// No verdict yet: it has not run often enough since the machine started.
    Warning,
    /// Failing.
    Critical,
}

impl Status {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The consequence of a check that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// None: it is shown.
    Informational,
    /// The machine gets no requests while it fails.
    Readiness,
    /// The machine is restarted.
    Liveness,
}

impl Purpose {
    /// All of them, in the order of their consequence.
    pub const ALL: [Self; 3] = [Self::Informational, Self::Readiness, Self::Liveness];

    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    /// From its name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// Results in a row that change the status; at least 1 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes until it passes.
    pub success: u32,
    /// Failures until it is critical.
    pub failure: u32,
}

/// The result of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResult {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It failed within the grace period of the start: that does not count.
    FailedInGrace,
}

/// A check as of its newest run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The status.
    pub status: Status,
    /// Successes in a row.
    pub passes: u32,
    /// Failures in a row that count.
    pub failures: u32,
}

impl Progress {
    /// A check that has not run since the machine started.
    pub const UNPROVEN: Self = Self { status: Status::Warning, passes: 0, failures: 0 };

    /// The same after one more run.
    #[must_use]
    pub fn after(self, result: RunResult, thresholds: Thresholds) -> Self {
        match result {
            RunResult::Passed => {
                let passes = self.passes.saturating_add(1);
                let enough = passes >= thresholds.success.max(1);
                let status = if enough { Status::Passing } else { self.status };
                Self { status, passes, failures: 0 }
            }
            RunResult::Failed => {
                let failures = self.failures.saturating_add(1);
                let enough = failures >= thresholds.failure.max(1);
                let status = if enough { Status::Critical } else { self.status };
                Self { status, passes: 0, failures }
            }
            RunResult::FailedInGrace => Self { passes: 0, ..self },
        }
    }
}

/// The health of a service's port, from the readiness checks that cover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortHealth {
    /// All pass.
    Passing,
    /// None fails, and one has no verdict yet.
    Unproven,
    /// One fails.
    Failing,
}

/// The health of a port whose readiness checks have these statuses; `None` if there is no
/// such check.
pub fn port_health(statuses: impl Iterator<Item = Status>) -> Option<PortHealth> {
    statuses.max().map(|worst| match worst {
        Status::Passing => PortHealth::Passing,
        Status::Warning => PortHealth::Unproven,
        Status::Critical => PortHealth::Failing,
    })
}

/// A duration of a service check, moved into [`SERVICE_BOUNDS`].
pub fn clamp_service(span: Duration) -> Duration {
    span.clamp(SERVICE_BOUNDS.0, SERVICE_BOUNDS.1)
}

/// The grace period of a service check; zero is allowed.
pub fn clamp_service_grace(span: Duration) -> Duration {
    match span.is_zero() {
        true => span,
        false => clamp_service(span),
    }
}

/// The generated name of a machine's service check: `index` counts them over all services,
/// from 0.
pub fn service_check_name(index: usize, kind: &str, port: u16) -> String {
    format!("servicecheck-{index:02}-{kind}-{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `script` (`p` passed, `f` failed, `g` failed within the grace period) and
    /// prints the status after each.
    fn run(success: u32, failure: u32, script: &str) -> String {
        let mut progress = Progress::UNPROVEN;
        let mut out = String::new();
        for c in script.chars() {
            let result = match c {
                'p' => RunResult::Passed,
                'f' => RunResult::Failed,
                _ => RunResult::FailedInGrace,
            };
            progress = progress.after(result, Thresholds { success, failure });
            out.push(match progress.status {
                Status::Passing => 'P',
                Status::Warning => '-',
                Status::Critical => 'C',
            });
        }
        out
    }

    #[test]
    fn statuses_follow_the_results() {
        for (success, failure, script, expected) in [
            (1, 1, "pfpf", "PCPC"),
            (1, 1, "ggp", "--P"),
            (1, 1, "ggf", "--C"),
            (1, 3, "fff", "--C"),
            (1, 3, "pffpfff", "PPPPPPC"),
            (2, 1, "pp", "-P"),
            (2, 1, "pfpp", "-CCP"),
            (2, 1, "pgpp", "---P"),
            (1, 2, "fgf", "--C"),
            (1, 1, "pg", "PP"),
            // A threshold of 0 is one of 1.
            (0, 0, "fp", "CP"),
        ] {
            assert_eq!(run(success, failure, script), expected, "{success} {failure} {script}");
        }
    }

    #[test]
    fn the_worst_check_decides_the_port() {
        use Status::*;
        let health = |statuses: &[Status]| port_health(statuses.iter().copied());
        assert_eq!(health(&[]), None);
        assert_eq!(health(&[Passing, Passing]), Some(PortHealth::Passing));
        assert_eq!(health(&[Passing, Warning]), Some(PortHealth::Unproven));
        assert_eq!(health(&[Warning, Critical, Passing]), Some(PortHealth::Failing));
    }

    #[test]
    fn spans_of_service_checks_are_clamped() {
        let ms = Duration::from_millis;
        assert_eq!(clamp_service(ms(5)), ms(1000));
        assert_eq!(clamp_service(ms(61_000)), ms(60_000));
        assert_eq!(clamp_service_grace(ms(0)), ms(0));
        assert_eq!(clamp_service_grace(ms(5)), ms(1000));
        assert_eq!(service_check_name(1, "http", 8080), "servicecheck-01-http-8080");
    }
}
