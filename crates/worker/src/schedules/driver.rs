//! The task that begins the runs of one machine and notes how they end.

use super::plan::{Plan, is_down, spec};
use super::requests::RunRequest;
use super::run::{Run, Status, Trigger};
use crate::context::HostContext;
use crate::db::runs::Progress;
use crate::machine::view::View;
use crate::machine::{Call, EventIds, Guard, Handle, Request};
use host_api::{CallContext, HostError, Source, Stop};
use model::id::{EventId, MachineId};
use model::schedule::{Due, Misfire, Overlap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use wire::machines::ScheduleRun;

/// The clock is looked at again after this: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A version of a config that is younger has not been seen by an earlier release.
const RECENT: Duration = Duration::from_secs(600);

/// Drives the schedule of a machine, as its config has one, until its task ends.
pub(crate) async fn drive(
    host: Arc<HostContext>,
    handle: Handle,
    mut requests: mpsc::Receiver<RunRequest>,
) {
    let id = handle.view().record.id;
    loop {
        let plan = Plan::of(&handle.view().record);
        let ended = match plan {
            Some(plan) => {
                let driver = Driver::load(&host, &handle, id, plan).await;
                driver.run(&mut requests).await
            }
            None => without_schedule(&handle, &mut requests).await,
        };
        if ended {
            break;
        }
    }
    drop(requests);
    host.run_requests.remove_closed(id);
}

/// Refuses calls until the machine has a schedule. True once its task has ended.
async fn without_schedule(handle: &Handle, requests: &mut mpsc::Receiver<RunRequest>) -> bool {
    let mut views = handle.views.clone();
    let scheduled = views.wait_for(|view| spec(&view.record).is_some());
    let mut scheduled = std::pin::pin!(scheduled);
    loop {
        tokio::select! {
            biased;
            scheduled = &mut scheduled => return scheduled.is_err(),
            Some(RunRequest { reply, .. }) = requests.recv() => {
                let text = "the machine has no schedule: `start` starts it";
                // The caller may have left.
                let _ = reply.send(Err(HostError::Conflict(text.into())));
            }
        }
    }
}

/// On whose behalf a run is begun.
struct Origin {
    source: Source,
    guard: Guard,
    /// Idempotency key of the call.
    key: Option<String>,
}

impl Origin {
    /// The schedule's: leases do not hold it up.
    fn host() -> Self {
        Self { source: Source::Host, guard: Guard::Exempt, key: None }
    }

    fn of_call(context: &CallContext) -> Self {
        let (source, key) = (context.source, context.idempotency_key.clone());
        Self { source, guard: Guard::of(context), key }
    }

    /// Of a run that was recorded earlier: its call has passed the guard then.
    fn of_recorded(run: &Run) -> Self {
        match run.trigger {
            Trigger::Manual => Self { source: Source::User, ..Self::host() },
            Trigger::Schedule | Trigger::Misfire | Trigger::Start => Self::host(),
        }
    }
}

struct Driver<'a> {
    host: &'a Arc<HostContext>,
    handle: &'a Handle,
    id: MachineId,
    plan: Plan,
    ids: EventIds,
    /// Everything up to this moment has been dealt with.
    done_ms: u64,
    current: Option<Run>,
    queued: Option<Run>,
}

impl<'a> Driver<'a> {
    async fn load(
        host: &'a Arc<HostContext>,
        handle: &'a Handle,
        id: MachineId,
        plan: Plan,
    ) -> Self {
        let now = host.clock.now_ms();
        let mut backoff = rt::Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (progress, runs) = loop {
            match host.db.schedule(id).await {
                Ok(found) => break found,
                Err(err) => {
                    let error = rt::chain(&err);
                    tracing::error!(machine = %id, error, "cannot read a schedule, trying again");
                    tokio::time::sleep(backoff.pause(&host.rng)).await;
                }
            }
        };
        let same = progress.filter(|progress| progress.spec == plan.spec);
        // A schedule begins with the version of the config that has brought it; one that an
        // earlier release has only kept begins now.
        let instance = handle.view().record.instance.parts().0.min(now);
        let is_recent = now - instance < RECENT.as_millis() as u64;
        let begin = if is_recent { instance } else { now };
        let done_ms = same.as_ref().map_or(begin, |progress| progress.done_ms);
        let newest = runs.first().and_then(|run| run.id.parse::<EventId>().ok());
        let earlier = newest.map(EventId::parts).into_iter();
        let ids = EventIds::new(host.clock.clone(), host.rng.clone(), earlier);
        let of = |status| move |run: &Run| run.status == status;
        let current = runs.iter().find(|run| of(Status::Running)(run)).cloned();
        let queued = runs.into_iter().find(of(Status::Queued));
        let is_new = same.is_none();
        let mut driver = Self { host, handle, id, plan, ids, done_ms, current, queued };
        if is_new {
            driver.save(Vec::new()).await;
        }
        driver
    }

    /// Until the schedule is another one; true once the machine's task has ended.
    async fn run(mut self, requests: &mut mpsc::Receiver<RunRequest>) -> bool {
        let mut views = self.handle.views.clone();
        self.begin_unstarted().await;
        loop {
            let view = views.borrow_and_update().clone();
            let spec = spec(&view.record);
            if spec.as_ref() != Some(&self.plan.spec) {
                if spec.is_none() {
                    self.close_open(&view).await;
                }
                return false;
            }
            if self.observe(&view).await {
                continue;
            }
            let now = self.host.clock.now_ms();
            let pause = match self.plan.schedule.due(self.done_ms, now, self.plan.anchor_ms) {
                Due::At(next) => Duration::from_millis(next - now).min(LOOK_AGAIN),
                Due::Never => LOOK_AGAIN,
                Due::Reset => {
                    self.done_ms = now;
                    self.save(Vec::new()).await;
                    continue;
                }
                Due::Now(at) => {
                    self.done_ms = at;
                    // A refusal is recorded with the run.
                    let run = self.new_run(Trigger::Schedule, Status::Queued, at);
                    let _ = self.fire(run, Origin::host()).await;
                    continue;
                }
                Due::Missed(at) => {
                    self.done_ms = now;
                    self.missed(at, now).await;
                    continue;
                }
            };
            tokio::select! {
                biased;
                changed = views.changed() => if changed.is_err() {
                    return true;
                },
                Some(RunRequest { context, reply }) = requests.recv() => {
                    let answer = self.run_for_call(&context).await;
                    // The caller may have left: the run goes its way.
                    let _ = reply.send(answer);
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Begins the run that an earlier daemon has recorded and not begun.
    async fn begin_unstarted(&mut self) {
        let view = self.handle.view();
        let unstarted = |run: &mut Run| {
            run.trigger != Trigger::Start
                && is_down(&view.record)
                && !run.was_started(view.events())
        };
        if let Some(run) = self.current.take_if(unstarted) {
            let origin = Origin::of_recorded(&run);
            // A refusal is recorded with the run.
            let _ = self.begin(run, origin).await;
        }
    }

    /// The machine has no schedule any more: no run waits or is under way.
    async fn close_open(&mut self, view: &View) {
        let (now, why) = (self.host.clock.now_ms(), "the machine has no schedule any more");
        let current = self.current.take().map(|run| {
            let ended = run.clone().ended(view.events(), now);
            match ended.status {
                Status::Interrupted => run.closed(Status::Stopped, now, why),
                _ => ended,
            }
        });
        let queued = self.queued.take().map(|run| run.closed(Status::Skipped, now, why));
        let closed: Vec<Run> = current.into_iter().chain(queued).collect();
        if !closed.is_empty() {
            self.save(closed).await;
        }
    }

    /// A run for a call. A repetition of the call gets the run of the first.
    async fn run_for_call(&mut self, context: &CallContext) -> Result<ScheduleRun, HostError> {
        let origin = Origin::of_call(context);
        if let Some(key) = &origin.key {
            let known = self.host.db.run_of_call(self.id, key).await;
            if let Some(run) = known.map_err(|err| HostError::Internal(rt::chain(&err)))? {
                return Ok(run.shown());
            }
        }
        // Before anything is recorded, or waits for the run that is under way.
        let (reply, answer) = oneshot::channel();
        self.ask(Request::CheckGuard(reply), origin.guard.clone(), answer).await?;
        let now = self.host.clock.now_ms();
        let run = self.new_run(Trigger::Manual, Status::Queued, now);
        self.fire(Run { call: origin.key.clone(), ..run }, origin).await
    }

    /// Notes what the machine has done. True if it has begun another run.
    async fn observe(&mut self, view: &View) -> bool {
        let (down, now) = (is_down(&view.record), self.host.clock.now_ms());
        match (self.current.take(), down) {
            (Some(run), true) => {
                let run = run.ended(view.events(), now);
                self.save(vec![run]).await;
                self.begin_queued().await
            }
            // The daemon ended before it could begin the run.
            (None, true) => self.begin_queued().await,
            (None, false) => {
                let run = self.new_run(Trigger::Start, Status::Running, now).begun(now);
                self.current = Some(run.clone());
                self.save(vec![run]).await;
                false
            }
            (current, _) => {
                self.current = current;
                false
            }
        }
    }

    async fn begin_queued(&mut self) -> bool {
        let Some(next) = self.queued.take() else { return false };
        let origin = Origin::of_recorded(&next);
        // A refusal is recorded with the run.
        let _ = self.begin(next, origin).await;
        true
    }

    async fn missed(&mut self, at: u64, now: u64) {
        match self.plan.misfire {
            Misfire::RunOnce => {
                // A refusal is recorded with the run.
                let run = self.new_run(Trigger::Misfire, Status::Queued, at);
                let _ = self.fire(run, Origin::host()).await;
            }
            Misfire::Skip => {
                let run = self.new_run(Trigger::Schedule, Status::Missed, at);
                let why = "the host was not there in time";
                self.save(vec![run.closed(Status::Missed, now, why)]).await;
            }
        }
    }

    /// A run is due or called for.
    async fn fire(&mut self, run: Run, origin: Origin) -> Result<ScheduleRun, HostError> {
        let busy = self.current.is_some() || !is_down(&self.handle.view().record);
        match (busy, self.plan.overlap) {
            (false, _) => self.begin(run, origin).await,
            (true, Overlap::Replace) => self.replace(run, origin).await,
            (true, Overlap::Queue) if self.queued.is_none() => {
                self.queued = Some(run.clone());
                self.save(vec![run.clone()]).await;
                Ok(run.shown())
            }
            (true, Overlap::Queue | Overlap::Skip) => self.skip(run).await,
        }
    }

    async fn skip(&mut self, run: Run) -> Result<ScheduleRun, HostError> {
        let why = match self.queued {
            Some(_) => "a run is under way, and another waits for its end",
            None => "a run is under way",
        };
        let refused = HostError::Conflict(format!(
            "{why}; schedule_options.overlap decides what follows: skip, queue or replace"
        ));
        if run.trigger != Trigger::Manual {
            let now = self.host.clock.now_ms();
            self.save(vec![run.closed(Status::Skipped, now, why)]).await;
        }
        Err(refused)
    }

    /// Starts the machine for a run.
    async fn begin(&mut self, run: Run, origin: Origin) -> Result<ScheduleRun, HostError> {
        let run = run.begun(self.host.clock.now_ms());
        self.save(vec![run.clone()]).await;
        let (reply, answer) = oneshot::channel();
        let asked = self.ask(Request::Start(origin.source, reply), origin.guard, answer).await;
        self.note_begun(run, asked.map(drop)).await
    }

    /// Stops the run that is under way and starts the machine for another.
    async fn replace(&mut self, run: Run, origin: Origin) -> Result<ScheduleRun, HostError> {
        let now = self.host.clock.now_ms();
        let run = run.begun(now);
        let replaced = self.current.take();
        let replaced = replaced.map(|old| old.closed(Status::Replaced, now, "another run was due"));
        self.save(replaced.into_iter().chain([run.clone()]).collect()).await;
        let (reply, answer) = oneshot::channel();
        let restart = Request::Restart(Stop::default(), false, origin.source, reply);
        let asked = self.ask(restart, origin.guard, answer).await;
        self.note_begun(run, asked).await
    }

    async fn note_begun(
        &mut self,
        run: Run,
        asked: Result<(), HostError>,
    ) -> Result<ScheduleRun, HostError> {
        match asked {
            Ok(()) => {
                let shown = run.shown();
                self.current = Some(run);
                Ok(shown)
            }
            Err(err) => {
                let now = self.host.clock.now_ms();
                self.save(vec![run.closed(Status::Refused, now, err.to_string())]).await;
                Err(err)
            }
        }
    }

    async fn ask<T>(
        &self,
        request: Request,
        guard: Guard,
        answer: oneshot::Receiver<Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let ended = || HostError::unreachable("the machine or its host is going away");
        let call = Call { request, key: None, guard };
        self.handle.requests.send(call).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    fn new_run(&mut self, trigger: Trigger, status: Status, at: u64) -> Run {
        Run::new(self.ids.id().to_string(), trigger, status, at)
    }

    /// Makes the progress and these runs durable, however long it takes.
    async fn save(&mut self, runs: Vec<Run>) {
        let progress = Progress { spec: self.plan.spec.clone(), done_ms: self.done_ms };
        let mut backoff = rt::Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let saved = self.host.db.save_schedule(self.id, progress.clone(), runs.clone()).await;
            let Err(err) = saved else { return };
            let error = rt::chain(&err);
            tracing::error!(machine = %self.id, error, "cannot record a run, trying again");
            tokio::time::sleep(backoff.pause(&self.host.rng)).await;
        }
    }
}
