//! Acts on how a restore went, and records that the snapshot is used.

use super::launched::LaunchError;
use super::restore::{self, RestoreError, RestoredVm};
use crate::machine::events::rounded;
use crate::machine::phase::VmPhase;
use crate::machine::suspend::snapshot::SnapshotNote;
use crate::machine::task::{Done, Task};
use host_api::Source;
use model::id::BootId;
use model::life::{Event, State};
use tokio_util::sync::CancellationToken;
use wire::machines::EventDetails;

impl Task {
    pub(super) fn begin_restore(&mut self, boot: BootId, note: SnapshotNote) {
        let cancel = CancellationToken::new();
        let (host, record) = (self.host.clone(), self.record.clone());
        let restore = restore::restore(host, record, boot, note, cancel.clone());
        self.effects.spawn(async move { Done::Restored(restore.await) });
        self.vm = VmPhase::Launching(cancel);
    }

    pub(in super::super) async fn on_restored(
        &mut self,
        restored: Result<RestoredVm, RestoreError>,
    ) {
        let cancelled = self.vm.is_cancelled_launch();
        match restored {
            Ok(restored) if !cancelled && self.record.state == State::Starting => {
                self.record_resumed(restored).await;
            }
            // It never ran, and is no longer wanted.
            Ok(_) => self.on_launch_failed(LaunchError::Cancelled),
            Err(RestoreError::Launch(err)) => self.on_launch_failed(err),
            Err(RestoreError::Snapshot { why, transient })
                if transient && !self.start.is_last_boot() =>
            {
                self.on_launch_failed(LaunchError::Transient(why));
            }
            Err(RestoreError::Snapshot { why, .. }) => {
                self.start.unresumable = (!cancelled).then_some(why);
                self.on_launch_failed(LaunchError::Cancelled);
            }
        }
    }

    /// The one commit that uses the snapshot; the VM is resumed only after it.
    async fn record_resumed(&mut self, restored: RestoredVm) {
        let RestoredVm { vm, note, stages } = restored;
        let mut record = self.record.clone();
        // Until the guest has answered, its memory may still turn out to be lost.
        (record.snapshot, record.keep_scratch) = (None, true);
        record.state = record.state.after(Event::Running).unwrap_or(State::Started);
        self.host.metrics.stages(&stages);
        self.host.metrics.start("resumed");
        let stages = rounded(stages);
        let mut event = self.ids.event("start", record.state, Source::Host);
        event.request = Some(EventDetails {
            stages_ms: Some(stages.iter().cloned().collect()),
            origin: Some("resumed".into()),
            resumed: Some(true),
            ..EventDetails::default()
        });
        // Shown with the commit: the edge connects at once, and is answered as soon
        // as the VM is resumed.
        self.show(|view| (view.listening, view.stages) = (note.listening, stages));
        self.commit(record, vec![event]).await;
        if self.record.snapshot.is_some() {
            // The host is stopping and the commit failed: the next daemon restores
            // the snapshot once more.
            return;
        }
        (self.start.boots, self.timer, self.vm_unattended) = (0, None, false);
        let resume = restore::resume(self.host.clone(), self.record.clone(), vm);
        self.effects.spawn(async move { Done::Launched(resume.await) });
        // Never cancelled: it runs from now on, and gets a stop request if need be.
        self.vm = VmPhase::Launching(CancellationToken::new());
    }
}
