//! Resume: a VM from its machine's snapshot. It stands still until it is
//! recorded that the snapshot is used up, so that no run begins twice.

use super::launch::{self, LaunchError, Launched, Stages};
use super::snapshot::Note;
use super::{Done, Now, Task};
use crate::agent::Agent;
use crate::host::Shared;
use crate::ports::{BootSpec, Vm};
use crate::record::Record;
use guest_protocol::{Phase, Resume, ToGuest};
use model::id::BootId;
use model::life::{Event, State};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use wire::machines::EventDetails;
use wire::worker::Source;

/// A VM from a snapshot that has not run yet.
pub(super) struct Standing {
    vm: Vm,
    note: Note,
    stages: Vec<(String, f64)>,
}

/// Why there is none.
pub(super) enum ResumeError {
    /// For a reason that would keep it from booting too.
    Launch(LaunchError),
    /// Because of the snapshot; `transient` says that another try may help.
    Snapshot { why: String, transient: bool },
}

impl Task {
    pub(super) fn begin_resume(&mut self, boot: BootId, note: Note) {
        let cancel = CancellationToken::new();
        let resume = resume(self.host.clone(), self.record.clone(), boot, note, cancel.clone());
        self.effects.spawn(async move { Done::Standing(resume.await) });
        self.vm = Now::Launching(cancel);
    }

    pub(super) async fn on_standing(&mut self, standing: Result<Standing, ResumeError>) {
        let cancelled = matches!(&self.vm, Now::Launching(cancel) if cancel.is_cancelled());
        match standing {
            Ok(standing) if !cancelled && self.record.state == State::Starting => {
                self.record_resumed(standing).await;
            }
            // It never ran, and nobody wants it any more.
            Ok(_) => self.on_launch_failed(LaunchError::Cancelled),
            Err(ResumeError::Launch(err)) => self.on_launch_failed(err),
            Err(ResumeError::Snapshot { why, transient }) if transient && !self.is_last_try() => {
                self.on_launch_failed(LaunchError::Transient(why));
            }
            Err(ResumeError::Snapshot { why, .. }) => {
                self.unresumable = (!cancelled).then_some(why);
                self.on_launch_failed(LaunchError::Cancelled);
            }
        }
    }

    /// The one commit that uses the snapshot up; only then the VM goes on.
    async fn record_resumed(&mut self, standing: Standing) {
        let Standing { vm, note, stages } = standing;
        let mut record = self.record.clone();
        // Until it has answered, its memory may still turn out to be lost.
        (record.snapshot, record.keep_scratch) = (None, true);
        record.state = record.state.after(Event::Running).unwrap_or(State::Started);
        self.host.metrics.stages(&stages);
        self.host.metrics.start("resumed");
        let stages = super::change::rounded(stages);
        let mut event = self.ids.event("start", record.state, Source::Host);
        event.request = Some(EventDetails {
            stages_ms: Some(stages.iter().cloned().collect()),
            origin: Some("resumed".into()),
            resumed: Some(true),
            ..EventDetails::default()
        });
        // Shown with the commit: the edge connects at once, and is answered as soon
        // as the VM goes on.
        self.show(|view| (view.listening, view.stages) = (note.listening, stages));
        self.commit(record, vec![event]).await;
        if self.record.snapshot.is_some() {
            // The host stops, and could not record it: the next daemon begins anew.
            return;
        }
        (self.tries, self.timer, self.host_was_away) = (0, None, false);
        let wake = wake(self.host.clone(), self.record.clone(), vm);
        self.effects.spawn(async move { Done::Launched(wake.await) });
        // Not cancelled: it runs from now on, and is asked if it is to stop.
        self.vm = Now::Launching(CancellationToken::new());
    }
}

/// Makes a VM from the snapshot; what it has made when it fails is found by
/// [`launch::clear`].
async fn resume(
    host: Arc<Shared>,
    record: Record,
    boot: BootId,
    note: Note,
    cancel: CancellationToken,
) -> Result<Standing, ResumeError> {
    let mut stages = Stages::begin();
    let image = launch::image(&host, &record, &cancel).await.map_err(ResumeError::Launch)?;
    stages.done("image");
    let nic = launch::attach(&host, &record).await.map_err(ResumeError::Launch)?;
    stages.done("network");
    if cancel.is_cancelled() {
        return Err(ResumeError::Launch(LaunchError::Cancelled));
    }
    let scratch = host.machine_dir(record.id).join(record.scratch_name());
    let snapshot = Some(host.snapshot_dir(record.id));
    let spec = BootSpec { snapshot, ..launch::spec(&record, boot, image.path, scratch, nic) };
    let vm = host
        .hypervisor
        .boot(spec)
        .await
        .map_err(|err| ResumeError::Snapshot { why: rt::chain(&err), transient: err.transient })?;
    stages.done("spawn");
    Ok(Standing { vm, note, stages: stages.done })
}

/// Lets the VM go on and opens a session with it.
async fn wake(host: Arc<Shared>, record: Record, vm: Vm) -> Result<Launched, LaunchError> {
    let proceeded = host.hypervisor.proceed(record.id, vm.boot).await;
    proceeded.map_err(|err| LaunchError::of(&err))?;
    let vm = launch::say_first(vm, &ToGuest::Awake(host.clock.now_ns())).await;
    let launched =
        launch::meet(&host, &record, vm).await.map_err(|err| LaunchError::agent(&err))?;
    tell(&host, &record, &launched.agent, &launched.welcome.phase).await;
    Ok(launched)
}

/// Tells a guest that it goes on after it was suspended.
pub(super) async fn tell(host: &Shared, record: &Record, agent: &Agent, phase: &Phase) {
    if !matches!(phase, Phase::Running(_)) {
        return;
    }
    let hook = record.config.init.as_ref().and_then(|init| init.on_resume.clone());
    let (now, entropy) = (host.clock.now_ns(), host.rng.bytes(64));
    let resume = Resume { now, entropy, hook: hook.unwrap_or_default() };
    // A guest that has gone meanwhile is reported as lost.
    let _ = agent.say(&ToGuest::Resumed(resume)).await;
}
