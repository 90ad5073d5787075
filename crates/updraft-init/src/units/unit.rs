//! One unit: the runs of its process, one after the other, and the health of the run that
//! is under way.

use super::checks::{Changes, Checked, Checks};
use super::health::Health;
use super::order::Seen;
use crate::agent::log_queue::{Channel, LogQueue};
use crate::agent::notifier::{Notifier, Probed};
use crate::container::roots;
use crate::container::space::{Bind, Space};
use crate::process::exec::Stream;
use crate::process::main_process::{self, MainProcess};
use crate::process::signals::Ended;
use guest_protocol::{
    Container, Exit, LogSource, Main, TempDir, Unit as Spec, UnitId, UnitState, UnitStatus,
};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A unit.
pub(super) struct Unit {
    /// `None`: the guest has but one main process.
    id: Option<UnitId>,
    spec: Spec,
    /// The volumes that it sees.
    binds: Vec<Bind>,
    pub(super) state: UnitState,
    /// How its process ended last.
    pub(super) exit: Option<Exit>,
    has_run: bool,
    /// A check that failed has ended the last run.
    unhealthy: bool,
    /// Times of its restarts.
    pub(super) restarts: Vec<Instant>,
    /// When it is started again.
    pub(super) restart_at: Option<Instant>,
    /// Counts its runs.
    run: u64,
    process: Option<MainProcess>,
    space: Option<Space>,
    checks: Checks,
}

impl Unit {
    /// A unit that has not been started.
    pub(super) fn new(id: Option<UnitId>, mut spec: Spec, volumes: &[TempDir]) -> Self {
        let workdir = &mut spec.main.workdir;
        if !workdir.starts_with('/') {
            workdir.insert(0, '/');
        }
        let mounts = spec.container.iter().flat_map(|container| &container.mounts);
        let binds = mounts.filter_map(|mount| {
            let source = roots::volume(&volumes.get(usize::from(mount.volume))?.name);
            Some(Bind { source, target: mount.path.clone() })
        });
        let binds = binds.collect();
        Self {
            id,
            spec,
            binds,
            state: UnitState::Waiting,
            exit: None,
            has_run: false,
            unhealthy: false,
            restarts: Vec::new(),
            restart_at: None,
            run: 0,
            process: None,
            space: None,
            checks: Checks::default(),
        }
    }

    /// As other units see it.
    pub(super) fn seen(&self) -> Seen {
        Seen { state: self.state, has_run: self.has_run, succeeded: self.succeeded() }
    }

    /// Its last run ended well.
    pub(super) fn succeeded(&self) -> bool {
        self.exit.is_some_and(|exit| exit.code == 0) && !self.unhealthy
    }

    /// As the host sees it, if it is one of several.
    pub(super) fn status(&self) -> Option<UnitStatus> {
        Some(UnitStatus { unit: self.id?, state: self.state, exit: self.exit })
    }

    /// Its name, as messages to users have it.
    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// The container, if it is one.
    pub(super) fn container(&self) -> Option<&Container> {
        self.spec.container.as_ref()
    }

    /// The process and the namespaces that commands are run beside.
    pub(super) fn target(&self) -> (&Main, Option<&Space>) {
        (&self.spec.main, self.space.as_ref())
    }

    /// Its pid, while it runs.
    pub(super) fn pid(&self) -> Option<i32> {
        self.process.as_ref().filter(|process| !process.has_ended()).map(MainProcess::pid)
    }

    /// Its process runs, or its last output is still read.
    pub(super) fn is_active(&self) -> bool {
        self.process.is_some()
    }

    /// Logs a line about it.
    pub(super) fn log(&self, logs: &mut LogQueue, line: &str) {
        logs.line(self.id, line);
    }

    /// Starts a run.
    pub(super) fn start(&mut self, oom_kills: u64, logs: &mut LogQueue) -> Result<(), String> {
        let (mut lines, id, main) = (Vec::new(), self.id, &self.spec.main);
        let mut start = || MainProcess::start(main, id, oom_kills, &mut lines);
        let started = match self.spec.container {
            None => start().map(|process| (process, None)),
            Some(_) => Space::make(&roots::root(&self.spec.name), &self.binds).and_then(|space| {
                let process = space.enter(start)?;
                Ok((process, Some(space)))
            }),
        };
        lines.iter().for_each(|line| self.log(logs, line));
        let (process, space) = started?;
        (self.process, self.space) = (Some(process), space);
        self.state = UnitState::Started;
        (self.has_run, self.unhealthy, self.restart_at) = (true, false, None);
        self.run += 1;
        let checks = self.spec.container.as_ref().map(|container| container.checks.as_slice());
        self.checks = Checks::begin(checks.unwrap_or_default(), Instant::now());
        Ok(())
    }

    /// Signals its main process.
    pub(super) fn signal(&mut self, signal: i32) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Ends its main process, a container's by its own signal and within its own time.
    pub(super) fn stop(&mut self, signal: i32, timeout: Duration) {
        let container = self.spec.container.as_ref();
        let signal = container.and_then(|container| container.stop_signal).unwrap_or(signal);
        let own = container.and_then(|container| container.stop_timeout_ms);
        let timeout = own.map_or(timeout, |own| timeout.min(Duration::from_millis(own)));
        if let Some(process) = &mut self.process {
            process.stop(signal, timeout);
        }
    }

    /// Records that a child has ended; `None` if it is none of this unit's, else whether it
    /// is the main process.
    pub(super) fn child_ended(&mut self, pid: i32, ended: Ended) -> Option<bool> {
        if self.process.as_mut().is_some_and(|process| process.child_ended(pid, ended)) {
            if let Some(space) = &self.space {
                space.end();
            }
            return Some(true);
        }
        let holder = self.space.as_mut().is_some_and(|space| space.child_ended(pid));
        (holder || self.checks.child_ended(pid, ended)).then_some(false)
    }

    /// Takes the result of a check, if it is of the present run.
    pub(super) fn probed(&mut self, probed: Probed) {
        if probed.run == self.run && self.pid().is_some() {
            self.checks.probed(probed.check, probed.result);
        }
    }

    /// The streams to poll.
    pub(super) fn streams(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        self.process.iter().flat_map(MainProcess::streams)
    }

    /// Reads one chunk of its output.
    pub(super) fn read(&mut self, which: Stream, buffer: &mut [u8], logs: &mut LogQueue) {
        if let Some(process) = &mut self.process {
            process.read(which, buffer, logs);
        }
    }

    /// When [`Unit::tick`] or a restart is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let process = self.process.as_ref().and_then(MainProcess::next_tick);
        let checks = self.pid().and_then(|_| self.checks.next_tick());
        [process, checks, self.restart_at].into_iter().flatten().min()
    }

    /// Does what is due in the present run; its exit once that is over.
    pub(super) fn tick(
        &mut self,
        place: usize,
        notifier: &Notifier,
        logs: &mut LogQueue,
    ) -> Option<Exit> {
        if let Some((ended, exit)) = self.process.as_mut()?.tick() {
            self.end_run(ended, exit, logs);
            return Some(exit);
        }
        self.pid()?;
        if let (Some(container), Some(space)) = (&self.spec.container, &self.space) {
            let (checks, main) = (container.checks.as_slice(), &self.spec.main);
            let checked = Checked { unit: place, run: self.run, checks, main, space };
            let Changes { lines, stop } = self.checks.tick(&checked, notifier);
            self.state = match self.checks.health() {
                Health::Undecided => UnitState::Started,
                Health::Passing => UnitState::Healthy,
                Health::Failing => UnitState::Unhealthy,
            };
            lines.iter().for_each(|line| self.log(logs, line));
            if stop {
                self.log(logs, "The container is stopped: it is unhealthy");
                self.unhealthy = true;
                self.stop(libc::SIGTERM, UNHEALTHY_STOP);
            }
        }
        None
    }

    /// Its process has ended and its output is complete.
    fn end_run(&mut self, ended: Ended, exit: Exit, logs: &mut LogQueue) {
        (self.process, self.space, self.checks) = (None, None, Checks::default());
        self.exit = Some(exit);
        for source in [LogSource::Stdout, LogSource::Stderr] {
            logs.end_line(Channel { source, unit: self.id });
        }
        self.log(logs, &main_process::exit_line(ended));
        if exit.oom {
            self.log(logs, "The kernel's OOM killer ended it: out of memory");
        }
    }
}

/// Time for an unhealthy container to end, where it names none.
const UNHEALTHY_STOP: Duration = Duration::from_secs(5);
