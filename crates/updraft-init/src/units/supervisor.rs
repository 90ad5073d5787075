//! All units of a guest.
//!
//! Without containers the end of one process ends all others and the guest's run, with the
//! exit of the first. With containers each is restarted by its own rule, and the run is
//! over when none runs and none will: its exit is that of the first that failed for good,
//! else that of the last.

use super::order::{Readiness, Seen, readiness};
use super::restart::{Verdict, verdict};
use super::unit::Unit;
use crate::agent::log_queue::LogQueue;
use crate::agent::notifier::{Notifier, Probed};
use crate::container::space::Space;
use crate::process::exec::Stream;
use crate::process::main_process::oom_kills;
use crate::process::signals::{self, Ended};
use guest_protocol::{
    Condition, Dependency, Exit, GuestConfig, MAX_UNITS, Main, Unit as Spec, UnitId, UnitState,
    UnitStatus,
};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Exit code of a container that could not be started, as shells have it.
const NOT_STARTED: i32 = 127;

/// All units of a guest.
#[derive(Default)]
pub(crate) struct Units {
    list: Vec<Unit>,
    /// The guest's own main process, beside which commands run without a unit.
    main: Main,
    containers: bool,
    /// All are to end.
    stop: Option<(i32, Duration)>,
    /// Without containers: the first that has ended.
    first: Option<usize>,
    /// With containers: those that have ended for good, in that order.
    over: Vec<usize>,
    /// The states as last reported.
    reported: Vec<UnitStatus>,
    running: bool,
}

impl Units {
    /// The units of a configuration, none of them started.
    pub(crate) fn new(config: &GuestConfig) -> Result<Self, String> {
        let mut main = config.main.clone();
        if !main.workdir.starts_with('/') {
            main.workdir.insert(0, '/');
        }
        let volumes = config.volumes.as_deref().unwrap_or_default();
        let list: Vec<Unit> = match config.units.as_deref() {
            None | Some([]) => {
                let spec = Spec { main: main.clone(), ..Spec::default() };
                vec![Unit::new(None, spec, &[])]
            }
            Some(specs) if specs.len() > MAX_UNITS => {
                return Err(format!("{} units are more than {MAX_UNITS}", specs.len()));
            }
            Some(specs) => (0..)
                .zip(specs)
                .map(|(id, spec)| Unit::new(Some(id), spec.clone(), volumes))
                .collect(),
        };
        let containers = list.iter().any(|unit| unit.container().is_some());
        if containers && list.iter().any(|unit| unit.container().is_none()) {
            return Err("processes and containers in one guest".into());
        }
        Ok(Self { list, main, containers, ..Self::default() })
    }

    /// Starts those that wait for nothing; returns the pid of the first. Without containers
    /// all have to start.
    pub(crate) fn begin(&mut self, oom_kills: u64, logs: &mut LogQueue) -> Result<i32, String> {
        self.running = true;
        if self.containers {
            self.advance(logs);
        }
        for unit in self.list.iter_mut().filter(|_| !self.containers) {
            if let Err(err) = unit.start(oom_kills, logs) {
                signals::kill_everything();
                self.running = false;
                return Err(err);
            }
        }
        Ok(self.list.iter().find_map(Unit::pid).unwrap_or(1))
    }

    /// The guest's run is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The process and the namespaces that a command is run beside.
    pub(crate) fn target(&self, unit: Option<UnitId>) -> Result<(&Main, Option<&Space>), String> {
        let Some(id) = unit else { return Ok((&self.main, None)) };
        let unit = self.list.get(usize::from(id)).ok_or("there is no such container")?;
        if self.containers && unit.pid().is_none() {
            return Err(format!("container `{}` does not run", unit.name()));
        }
        Ok(unit.target())
    }

    /// The unit beside which a command of the machine itself runs: the first one's.
    pub(crate) fn first_target(&self) -> (&Main, Option<&Space>) {
        self.list.first().map_or((&self.main, None), Unit::target)
    }

    /// Signals the main process of each.
    pub(crate) fn signal(&mut self, signal: i32) {
        self.list.iter_mut().for_each(|unit| unit.signal(signal));
    }

    /// Ends all. A second stop replaces signal and timeout.
    pub(crate) fn stop(&mut self, signal: i32, timeout: Duration) {
        self.stop = Some((signal, timeout));
        self.list.iter_mut().for_each(|unit| unit.stop(signal, timeout));
    }

    /// Records that a child has ended; false if it is none of these.
    pub(crate) fn child_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let found = self.list.iter_mut().enumerate();
        let found = found.filter_map(|(at, unit)| Some((at, unit.child_ended(pid, ended)?))).next();
        if let (Some((at, true)), false) = (found, self.containers) {
            self.first.get_or_insert(at);
            signals::kill_everything();
        }
        found.is_some()
    }

    /// Takes the result of a check.
    pub(crate) fn probed(&mut self, probed: Probed) {
        if let Some(unit) = self.list.get_mut(probed.unit) {
            unit.probed(probed);
        }
    }

    /// The streams to poll, each with the place of its unit.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (usize, Stream, BorrowedFd<'_>)> {
        self.list
            .iter()
            .enumerate()
            .flat_map(|(at, unit)| unit.streams().map(move |(which, fd)| (at, which, fd)))
    }

    /// Reads one chunk of a unit's output.
    pub(crate) fn read(
        &mut self,
        unit: usize,
        which: Stream,
        buffer: &mut [u8],
        logs: &mut LogQueue,
    ) {
        if let Some(unit) = self.list.get_mut(unit) {
            unit.read(which, buffer, logs);
        }
    }

    /// When [`Units::tick`] is due.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.list.iter().filter_map(Unit::next_tick).min()
    }

    /// Does what is due. Returns the exit once the guest's run is over.
    pub(crate) fn tick(&mut self, notifier: &Notifier, logs: &mut LogQueue) -> Option<Exit> {
        if !self.running {
            return None;
        }
        for at in 0..self.list.len() {
            if let Some(exit) = self.list[at].tick(at, notifier, logs) {
                self.run_ended(at, exit, logs);
            }
        }
        if self.containers {
            self.advance(logs);
        }
        let exit = self.final_exit()?;
        self.running = false;
        // Commands of the guest's own root may still run.
        signals::kill_everything();
        Some(exit)
    }

    /// All states, for a new session.
    pub(crate) fn statuses(&mut self) -> Vec<UnitStatus> {
        self.reported.clear();
        self.changes()
    }

    /// The states that have changed since the last call.
    pub(crate) fn changes(&mut self) -> Vec<UnitStatus> {
        let now: Vec<UnitStatus> = self.list.iter().filter_map(Unit::status).collect();
        let changed = now.iter().filter(|status| !self.reported.contains(status)).copied();
        let changed = changed.collect();
        self.reported = now;
        changed
    }

    /// Decides what follows the end of a run.
    fn run_ended(&mut self, at: usize, exit: Exit, logs: &mut LogQueue) {
        let (unit, now) = (&mut self.list[at], Instant::now());
        let success = unit.succeeded();
        let Some(container) = unit.container() else {
            unit.state = if exit.code == 0 { UnitState::Stopped } else { UnitState::Failed };
            return;
        };
        let decided = match self.stop {
            Some(_) => Verdict::Stay { exhausted: false },
            None => verdict(&container.restart, success, &unit.restarts, now),
        };
        let window = Duration::from_millis(container.restart.window_ms);
        match decided {
            Verdict::Restart(pause) => {
                unit.restarts.retain(|&at| now.saturating_duration_since(at) < window);
                unit.restarts.push(now + pause);
                unit.restart_at = Some(now + pause);
                unit.state = UnitState::Restarting;
                unit.log(logs, &format!("The container is started again in {pause:?}"));
            }
            Verdict::Stay { exhausted } => {
                if exhausted {
                    let tries = unit.restarts.len();
                    unit.log(logs, &format!("The container failed again after {tries} restarts"));
                }
                let ended_well = success || self.stop.is_some();
                unit.state = if ended_well { UnitState::Stopped } else { UnitState::Failed };
                self.over.push(at);
            }
        }
    }

    /// Starts every container that may start now, as long as that changes anything.
    fn advance(&mut self, logs: &mut LogQueue) {
        while (0..self.list.len()).any(|at| self.advance_one(at, logs)) {}
    }

    /// Starts one container or gives it up, if it is time; false if nothing has changed.
    fn advance_one(&mut self, at: usize, logs: &mut LogQueue) -> bool {
        let unit = &self.list[at];
        let due = unit.restart_at.is_some_and(|at| at <= Instant::now());
        match unit.state {
            UnitState::Waiting | UnitState::Restarting if self.stop.is_some() => {
                let unit = &mut self.list[at];
                (unit.state, unit.restart_at) = (UnitState::Stopped, None);
                self.over.push(at);
                true
            }
            UnitState::Restarting if due => self.start(at, logs),
            UnitState::Waiting => self.start_if_ready(at, logs),
            _ => false,
        }
    }

    fn start_if_ready(&mut self, at: usize, logs: &mut LogQueue) -> bool {
        let seen: Vec<Seen> = self.list.iter().map(Unit::seen).collect();
        let dependencies = self.list[at].container().map(|container| &container.depends_on);
        match readiness(dependencies.map_or(&[], Vec::as_slice), &seen) {
            Readiness::Ready => self.start(at, logs),
            Readiness::Waiting => false,
            Readiness::Never(dependency) => {
                let line = format!("The container is not started: {}", self.unmet(dependency));
                let unit = &mut self.list[at];
                unit.log(logs, &line);
                unit.state = UnitState::Failed;
                self.over.push(at);
                true
            }
        }
    }

    fn unmet(&self, dependency: Dependency) -> String {
        let name = self.list.get(usize::from(dependency.unit)).map_or("?", Unit::name);
        let what = match dependency.condition {
            Condition::Started => "was not started",
            Condition::Healthy => "has ended before it was healthy",
            Condition::ExitedSuccessfully => "has not ended successfully",
        };
        format!("`{name}`, which it depends on, {what}")
    }

    fn start(&mut self, at: usize, logs: &mut LogQueue) -> bool {
        let unit = &mut self.list[at];
        if let Err(err) = unit.start(oom_kills(), logs) {
            unit.log(logs, &format!("The container cannot be started: {err}"));
            let exit = Exit { code: NOT_STARTED, ..Exit::default() };
            (unit.exit, unit.restart_at) = (Some(exit), None);
            self.run_ended(at, exit, logs);
        }
        true
    }

    /// The exit of the guest's run, if it is over.
    fn final_exit(&self) -> Option<Exit> {
        if self.list.iter().any(Unit::is_active) {
            return None;
        }
        let of = |at: usize| self.list.get(at).and_then(|unit| unit.exit);
        if !self.containers {
            return of(self.first?);
        }
        if !self.list.iter().all(|unit| unit.seen().is_final()) {
            return None;
        }
        let state = |at: usize| self.list.get(at).map(|unit| unit.state);
        let failed = |at: &&usize| state(**at) == Some(UnitState::Failed);
        let at = self.over.iter().find(failed).or(self.over.last());
        let never_run = Exit { code: NOT_STARTED, ..Exit::default() };
        Some(at.and_then(|&at| of(at)).unwrap_or(never_run))
    }
}
