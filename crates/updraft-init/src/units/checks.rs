//! The health checks of one run of a container.

use super::health::{CheckState, Health, overall};
use super::probe;
use crate::agent::notifier::{Notifier, Probed};
use crate::container::space::Space;
use crate::process::signals::{self, Ended};
use crate::process::spawn::{self, Launch, Started};
use crate::process::users;
use guest_protocol::{Main, Probe, UnitCheck};
use std::time::{Duration, Instant};

/// Longest time from the start of a container to the first run of a check.
const FIRST_RUN: Duration = Duration::from_millis(500);

/// The checks of one run.
#[derive(Default)]
pub(super) struct Checks {
    list: Vec<Check>,
    /// Results that have not been recorded.
    results: Vec<(usize, Result<(), String>)>,
}

struct Check {
    state: CheckState,
    /// When it is run next; `None` while it runs.
    next: Option<Instant>,
    /// Its command while it runs, and when that is killed.
    command: Option<(i32, Instant)>,
}

/// The container that checks belong to.
pub(super) struct Checked<'a> {
    /// Its place, and the number of its run.
    pub(super) unit: usize,
    pub(super) run: u64,
    pub(super) checks: &'a [UnitCheck],
    pub(super) main: &'a Main,
    pub(super) space: &'a Space,
}

/// What has followed from results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) lines: Vec<String>,
    /// A check that ends its container fails.
    pub(super) stop: bool,
}

impl Checks {
    /// Of a container that has just been started.
    pub(super) fn begin(checks: &[UnitCheck], now: Instant) -> Self {
        let begin = |check: &UnitCheck| Check {
            state: CheckState::begin(check, now),
            next: Some(now + Duration::from_millis(check.interval_ms).min(FIRST_RUN)),
            command: None,
        };
        Self { list: checks.iter().map(begin).collect(), results: Vec::new() }
    }

    /// The health of the container.
    pub(super) fn health(&self) -> Health {
        overall(self.list.iter().map(|check| check.state.health))
    }

    /// When [`Checks::tick`] is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let due = |check: &Check| check.next.or(check.command.map(|(_, kill_at)| kill_at));
        self.list.iter().filter_map(due).min()
    }

    /// Records the end of a child; false if it is no check's command.
    pub(super) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let own = |check: &Check| check.command.is_some_and(|(command, _)| command == pid);
        let Some(at) = self.list.iter().position(own) else { return false };
        self.list[at].command = None;
        let result = match (ended.code, ended.signal) {
            (0, _) => Ok(()),
            (code, 0) => Err(format!("exit code {code}")),
            (_, libc::SIGKILL) => Err("timed out, or was killed".into()),
            (_, signal) => Err(format!("ended by {}", signals::name(signal))),
        };
        self.results.push((at, result));
        true
    }

    /// Takes the result of a check over the network.
    pub(super) fn probed(&mut self, check: usize, result: Result<(), String>) {
        if check < self.list.len() {
            self.results.push((check, result));
        }
    }

    /// Records results, and begins the checks that are due.
    pub(super) fn tick(&mut self, of: &Checked<'_>, notifier: &Notifier) -> Changes {
        let now = Instant::now();
        for (at, check) in self.list.iter_mut().enumerate() {
            if let Some((pid, kill_at)) = check.command
                && kill_at <= now
            {
                signals::send(-pid, libc::SIGKILL);
                check.command = Some((pid, now + Duration::from_secs(1)));
            }
            if check.next.is_none_or(|next| next > now) {
                continue;
            }
            check.next = None;
            match begin(of, at, notifier) {
                Ok(command) => check.command = command,
                Err(err) => self.results.push((at, Err(err))),
            }
        }
        self.record(of.checks, now)
    }

    fn record(&mut self, checks: &[UnitCheck], now: Instant) -> Changes {
        let mut changes = Changes::default();
        for (at, result) in self.results.drain(..) {
            let (Some(check), Some(spec)) = (self.list.get_mut(at), checks.get(at)) else {
                continue;
            };
            check.next = Some(now + Duration::from_millis(spec.interval_ms.max(100)));
            if !check.state.record(spec, result.is_ok(), now) {
                continue;
            }
            let name = &spec.name;
            changes.lines.push(match result {
                Ok(()) => format!("Health check `{name}` is passing"),
                Err(why) => format!("Health check `{name}` is failing: {why}"),
            });
            changes.stop |= spec.stops && check.state.health == Health::Failing;
        }
        changes
    }
}

/// Begins one run of a check: its command, and when that is killed, if it has one.
fn begin(
    of: &Checked<'_>,
    at: usize,
    notifier: &Notifier,
) -> Result<Option<(i32, Instant)>, String> {
    let Some(check) = of.checks.get(at) else { return Ok(None) };
    let Probe::Exec(argv) = &check.probe else {
        let probed = Probed { unit: of.unit, run: of.run, check: at, result: Ok(()) };
        return probe::start(notifier, check, probed).map(|()| None);
    };
    let started = of.space.enter(|| {
        let identity = users::lookup(&of.main.user)?;
        let env = spawn::environment(&of.main.env, &[], &identity, false);
        let launch = Launch {
            what: "check",
            argv,
            env: &env,
            identity: &identity,
            workdir: &of.main.workdir,
            tty: None,
            input: false,
            output: false,
        };
        spawn::start(&launch).map_err(|err| err.text)
    });
    let Started { pid, .. } = started?;
    Ok(Some((pid, Instant::now() + Duration::from_millis(check.timeout_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_change_the_health_and_one_that_stops_ends_the_container() {
        let check = |name: &str, stops| UnitCheck {
            name: name.into(),
            stops,
            interval_ms: 1000,
            timeout_ms: 1000,
            grace_ms: 0,
            success_threshold: 1,
            failure_threshold: 2,
            probe: Probe::Tcp(80),
        };
        let specs = [check("a", false), check("b", true)];
        let now = Instant::now();
        let mut checks = Checks::begin(&specs, now);
        assert_eq!(checks.health(), Health::Undecided);
        let mut step = |results: &[(usize, bool)]| {
            for &(at, ok) in results {
                checks.probed(at, if ok { Ok(()) } else { Err("refused".into()) });
            }
            let Changes { lines, stop } = checks.record(&specs, now);
            (lines.join("; "), stop, checks.health())
        };
        let first = "Health check `a` is passing; Health check `b` is passing".to_owned();
        assert_eq!(step(&[(0, true), (1, true)]), (first, false, Health::Passing));
        assert_eq!(step(&[(0, false), (1, false)]), (String::new(), false, Health::Passing));
        let second = "Health check `a` is failing: refused".to_owned();
        assert_eq!(step(&[(0, false)]), (second, false, Health::Failing));
        let third = "Health check `b` is failing: refused".to_owned();
        assert_eq!(step(&[(1, false), (9, false)]), (third, true, Health::Failing));
    }

    #[test]
    fn the_end_of_a_command_is_a_result() {
        let spec = UnitCheck {
            name: "x".into(),
            stops: false,
            interval_ms: 1000,
            timeout_ms: 1000,
            grace_ms: 0,
            success_threshold: 1,
            failure_threshold: 1,
            probe: Probe::Exec(vec!["true".into()]),
        };
        let mut checks = Checks::begin(std::slice::from_ref(&spec), Instant::now());
        let ended = |code, signal| Ended { code, signal, core: false };
        assert!(!checks.child_ended(7, ended(0, 0)));
        checks.list[0].command = Some((7, Instant::now()));
        assert!(checks.child_ended(7, ended(3, 0)));
        assert!(!checks.child_ended(7, ended(3, 0)), "once");
        assert_eq!(checks.results, [(0, Err("exit code 3".into()))]);
    }
}
