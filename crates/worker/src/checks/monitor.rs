//! The task that runs the checks of one machine while it is started.
//!
//! A machine that is stopped, suspended or replaced has its runs cut off, and its checks
//! begin without a verdict at the next start. The same holds after a restart of the
//! daemon: no status is kept, so none can be wrong.

use super::board::{AWAITED, NOT_STARTED, SUSPENDED};
use super::health::{HealthChange, health_of};
use super::probe::{self, Target};
use super::spec::{CheckSpec, covered_ports, specs};
use crate::context::HostContext;
use crate::machine::view::View;
use crate::machine::{Call, Handle, Request};
use crate::units;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::check::{Progress, RunResult, Status};
use model::id::{BootId, InstanceId, MachineId};
use model::life::State;
use rt::clock::rfc3339;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use wire::machines::CheckRun;

/// Longest pause between two runs of a check that has not passed yet, within the grace
/// period: a machine gets requests soon after its app is ready.
const EAGER: Duration = Duration::from_millis(500);
/// Checks of one machine that run at a time: those that hang must not use up the places of the
/// host's other machines.
const AT_ONCE: usize = 4;
/// The checks of machines that ran before the daemon did begin within this time.
const SPREAD: Duration = Duration::from_secs(2);

/// What a machine's checks depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    instance: InstanceId,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running(BootId),
    Suspended,
    Down,
}

impl Watched {
    fn of(view: &View) -> Self {
        let record = &view.record;
        let phase = match (record.state, record.boot) {
            (State::Started, Some(boot)) if record.exit.is_none() => Phase::Running(boot),
            (State::Suspended | State::Suspending, _) => Phase::Suspended,
            _ => Phase::Down,
        };
        Self { instance: record.instance, phase }
    }
}

/// Runs the checks of a machine until its task ends.
pub(crate) async fn monitor(host: Arc<HostContext>, handle: Handle) {
    let mut views = handle.views.clone();
    let id = handle.view().record.id;
    loop {
        let view = views.borrow_and_update().clone();
        let watched = Watched::of(&view);
        let specs = specs(&view.record.config);
        let output = match watched.phase {
            Phase::Running(_) => AWAITED,
            Phase::Suspended => SUSPENDED,
            Phase::Down => NOT_STARTED,
        };
        let now = host.clock.now_ms();
        host.checks.reset(id, watched.instance, &specs, (output, now));
        let changed = views.wait_for(|view| Watched::of(view) != watched);
        let ended = match watched.phase {
            Phase::Running(boot) if !specs.is_empty() => {
                let run = MachineRun::new(&host, &handle, &view, (boot, specs));
                tokio::select! {
                    biased;
                    changed = changed => changed.is_err(),
                    () = run.run() => true,
                }
            }
            _ => changed.await.is_err(),
        };
        if ended {
            break;
        }
    }
    host.checks.remove(id);
}

/// The checks of one run of a machine's VM.
struct MachineRun<'a> {
    host: &'a Arc<HostContext>,
    handle: &'a Handle,
    id: MachineId,
    boot: BootId,
    specs: Vec<CheckSpec>,
    ports: Vec<u16>,
    /// Time since the start, as of `began`.
    age: Duration,
    began: Instant,
    slots: Semaphore,
    /// Serializes the changes of status, so that they arrive in order.
    order: Mutex<()>,
}

impl<'a> MachineRun<'a> {
    fn new(
        host: &'a Arc<HostContext>,
        handle: &'a Handle,
        view: &View,
        (boot, specs): (BootId, Vec<CheckSpec>),
    ) -> Self {
        // A clock that was set back makes a machine young, never older than it is.
        let age = host.clock.now_ms().saturating_sub(view.started_ms());
        Self {
            host,
            handle,
            id: view.record.id,
            boot,
            ports: covered_ports(&view.record.config),
            specs,
            age: Duration::from_millis(age),
            began: Instant::now(),
            slots: Semaphore::new(AT_ONCE),
            order: Mutex::new(()),
        }
    }

    /// Does not end by itself.
    async fn run(&self) {
        let mut checks: FuturesUnordered<_> =
            (0..self.specs.len()).map(|index| self.repeat(index)).collect();
        while checks.next().await.is_some() {}
    }

    /// One check, over and over.
    async fn repeat(&self, index: usize) {
        let spec = &self.specs[index];
        let mut progress = Progress::UNPROVEN;
        let mut pause = match self.age < SPREAD {
            true => Duration::ZERO,
            false => self.jittered(SPREAD.min(spec.interval), (0.0, 1.0)),
        };
        loop {
            tokio::time::sleep(pause).await;
            let ran = self.run_once(index, progress).await;
            progress = ran.unwrap_or(progress);
            let in_grace = self.in_grace(spec);
            // A guest that cannot be asked yet, as after a resume, is asked soon.
            let eager = ran.is_none() || (progress.status == Status::Warning && in_grace);
            let interval = if eager { EAGER.min(spec.interval) } else { spec.interval };
            pause = self.jittered(interval, (0.9, 1.1));
        }
    }

    fn in_grace(&self, spec: &CheckSpec) -> bool {
        self.age + self.began.elapsed() < spec.grace
    }

    /// A random length between `low` and `high` times `span`.
    fn jittered(&self, span: Duration, (low, high): (f64, f64)) -> Duration {
        span.mul_f64(low + (high - low) * self.host.rng.fraction())
    }

    /// Runs a check and passes on its change of status. `None` if it could not be run now.
    async fn run_once(&self, index: usize, before: Progress) -> Option<Progress> {
        let spec = &self.specs[index];
        let own = self.slots.acquire().await.ok()?;
        let turn = self.host.check_slots.acquire().await.ok()?;
        // The wait for a place may have taken longer than the grace period.
        let in_grace = self.in_grace(spec);
        let (at_ms, begun) = (self.host.clock.now_ms(), Instant::now());
        let view = self.handle.view();
        let (ipv4, unit) = (view.addresses?.ipv4, units::first(&view.record.config));
        let target = Target { ipv4, agent: view.agent.clone(), unit };
        drop(view);
        let attempt = probe::run(self.host, &target, spec).await?;
        drop((turn, own));
        let result = match attempt.passed {
            true => RunResult::Passed,
            false if in_grace => RunResult::FailedInGrace,
            false => RunResult::Failed,
        };
        let after = before.after(result, spec.thresholds);
        let run = CheckRun {
            at: rfc3339(at_ms),
            took_ms: (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0,
            passed: attempt.passed,
            request: attempt.request,
            response: attempt.response,
        };
        let _order = self.order.lock().await;
        let outcome = (after, attempt.output.clone());
        self.host.checks.record(self.id, index, outcome, (run, self.host.clock.now_ms()));
        if before.status != after.status {
            let change = self.change(spec, before, after, attempt.output);
            // The machine's task ends only with the machine.
            let _ =
                self.handle.requests.send(Call::of_host(Request::Health(Box::new(change)))).await;
        }
        Some(after)
    }

    fn change(
        &self,
        spec: &CheckSpec,
        before: Progress,
        after: Progress,
        output: String,
    ) -> HealthChange {
        let statuses = self.host.checks.statuses(self.id);
        let checks: Vec<_> = self.specs.iter().zip(statuses).collect();
        HealthChange {
            boot: self.boot,
            name: spec.name.clone(),
            purpose: spec.purpose,
            port: spec.probe.port(),
            from: before.status,
            to: after.status,
            output,
            health: health_of(&self.ports, &checks),
        }
    }
}
