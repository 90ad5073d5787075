//! Records that a VM is gone, and decides what follows.

use crate::context::{blocking, remove_file};
use crate::machine::phase::VmPhase;
use crate::machine::task::Task;
use crate::ports::VmExit;
use crate::record::{Persist, Record};
use guest_protocol::Exit;
use host_api::Source;
use model::life::{Event, State, Want};
use model::restart::{Policy, Verdict, verdict};
use model::signal::SIGKILL;
use rt::clock::rfc3339;
use std::time::Duration;
use wire::machines::{EventDetails, ExitEvent};

impl Task {
    /// The VM is gone and nothing of it is left.
    pub(in super::super) async fn record_down(&mut self) {
        let unresumable = self.start.unresumable.take();
        let record = &self.record;
        if let Some(boot) = record.boot.filter(|_| record.exit.is_none()) {
            let suspending = record.state == State::Suspending;
            if suspending && self.host.is_saved(record.id, boot).await {
                return self.record_saved(boot).await;
            }
            // It was resumed, and never answered.
            let lost = record.keep_scratch && record.state == State::Started;
            let lost = lost.then(|| "its VM was lost before it answered".to_owned());
            let why = unresumable.or(lost).filter(|_| record.want == Want::Run);
            if let Some(why) = why {
                return self.record_unresumable(&why).await;
            }
        }
        if let Some(why) = self.start.failure.take() {
            return self.record_failed(why).await;
        }
        let mut record = self.record.clone();
        let (exit, vm_exit) = (record.exit.take(), self.take_vm_exit());
        let unseen = std::mem::take(&mut self.vm_unattended) && exit.is_none();
        // A VM from a snapshot that is not used has never run.
        let begun = self.start.boots > 0 || record.snapshot.is_some();
        let booting = record.state == State::Starting && begun && exit.is_none();
        if booting && record.want == Want::Run {
            if self.start.is_last_boot() {
                return self.record_failed(vm_exit.without_status()).await;
            }
            // The state stays, and another boot is begun.
            record.boot = None;
            return self.commit(record, Vec::new()).await;
        }
        // Its memory is lost, as if its snapshot were; the disk is not.
        record.keep_scratch |= record.state == State::Suspending && exit.is_none();
        // A stop during the pause before a restart finds no VM: nothing exits.
        let ran = record.boot.take().is_some();
        // A VM that ended before its init reported a status did not end well.
        let ended = exit.unwrap_or(Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: false });
        let by_itself = matches!(record.state, State::Starting | State::Started);
        let again = match unseen && by_itself {
            true => runs_after_host_failure(&mut record),
            false => self.is_to_run_again(&mut record, ended),
        };
        record.state = record.state.after(Event::Down { again }).unwrap_or(record.state);
        let requested = record.stop.take().is_some() || self.record.want != Want::Run;
        let mut event =
            self.ids.event(if ran { "exit" } else { "stop" }, record.state, Source::Host);
        event.request = Some(EventDetails {
            exit_event: ran.then(|| ExitEvent {
                requested_stop: requested,
                restarting: again,
                signal: vm_exit.signal,
                exited_at: rfc3339(self.host.clock.now_ms()),
                ..exit_event(ended)
            }),
            restart_count: Some(record.restarts.len() as u32),
            reason: (ran && exit.is_none()).then(|| vm_exit.without_status()),
            ..EventDetails::default()
        });
        // A wait for `stopped` sees it before it is destroyed.
        if record.state == State::Stopped && record.auto_destroy() && record.want != Want::Run {
            record.want = Want::Destroy;
        }
        self.start.boots = 0;
        self.commit(record, vec![event]).await;
        self.set_restart_timer();
        self.remove_unused_disk().await;
    }

    /// Frees the space of a writable layer that no later boot uses: a machine that is
    /// down must not keep the host's disk full.
    pub(in super::super) async fn remove_unused_disk(&mut self) {
        let record = &self.record;
        let kept = record.persist() != Persist::Never || record.keep_scratch;
        let down = matches!(record.state, State::Stopped | State::Failed);
        let absent = matches!(self.vm, VmPhase::Absent(_));
        if kept || !down || !absent || record.snapshot.is_some() {
            return;
        }
        let disk = self.host.disk_path(record);
        let path = disk.clone();
        if let Err(err) = blocking(move || remove_file(&path)).await {
            // The next boot replaces it.
            tracing::warn!(%disk, error = %err, "cannot remove an unused disk");
        }
    }

    fn take_vm_exit(&mut self) -> VmExit {
        match &mut self.vm {
            VmPhase::Absent(exit) => std::mem::take(exit),
            _ => VmExit::default(),
        }
    }

    /// The snapshot cannot be used: the machine is booted instead.
    async fn record_unresumable(&mut self, why: &str) {
        let mut record = self.record.clone();
        record.boot = None;
        record.state = match record.state {
            State::Started => State::Restarting,
            other => other,
        };
        (self.start.failure, self.vm_unattended, self.start.boots) = (None, false, 0);
        self.take_vm_exit();
        let event = self.discard_memory(&mut record, why);
        self.commit(record, vec![event]).await;
    }

    /// Decides whether and when it is started again, and notes the restart in the
    /// record.
    fn is_to_run_again(&self, record: &mut Record, exit: Exit) -> bool {
        if record.want != Want::Run {
            return false;
        }
        if !matches!(record.state, State::Starting | State::Started) {
            return true;
        }
        let now = self.host.clock.now_ms();
        match verdict(record.policy(), exit.code == 0, &record.restarts, now) {
            Verdict::Restart { after } => {
                note_restart(record, now, after);
                true
            }
            Verdict::Stay { exhausted } => {
                let tries = record.restarts.len();
                record.failure = exhausted.then(|| {
                    format!("it failed again after {tries} restarts (exit code {})", exit.code)
                });
                // The owner's request has been carried out.
                record.want = Want::Stop;
                false
            }
        }
    }

    async fn record_failed(&mut self, why: String) {
        self.host.log_line(&self.record, &format!("Machine could not be started: {why}"));
        let mut record = self.record.clone();
        record.boot = None;
        record.exit = None;
        record.stop = None;
        record.state = record.state.after(Event::Fail).unwrap_or(State::Failed);
        if record.state == State::Failed {
            record.want = if record.auto_destroy() { Want::Destroy } else { Want::Stop };
            record.failure = Some(why.clone());
        }
        self.start.boots = 0;
        let mut event = self.ids.event("launch_failed", record.state, Source::Host);
        event.request = Some(EventDetails { reason: Some(why), ..EventDetails::default() });
        self.commit(record, vec![event]).await;
        self.remove_unused_disk().await;
    }

    /// A machine that is down and is to be destroyed.
    pub(in super::super) async fn record_destroying(&mut self) {
        let mut record = self.record.clone();
        record.state = State::Destroying;
        let event = self.ids.event("destroy", State::Destroying, Source::Host);
        self.commit(record, vec![event]).await;
    }

    pub(in super::super) async fn record_destroyed(&mut self) {
        self.host.remove_link(&self.record).await;
        self.host.remove_machine_dir(self.record.id).await;
        self.host.disks.unbook(&self.host.disk_path(&self.record));
        let mut record = self.record.clone();
        record.state = State::Destroyed;
        (record.boot, record.exit, record.slot) = (None, None, None);
        let event = self.ids.event("destroy", State::Destroyed, Source::Host);
        self.commit(record, vec![event]).await;
        self.show(|view| view.addresses = None);
    }
}

/// Notes a restart by policy, which follows after a pause.
pub(in super::super) fn note_restart(record: &mut Record, now: u64, pause: Duration) {
    let at = now + pause.as_millis() as u64;
    let window = model::restart::WINDOW.as_millis() as u64;
    record.restarts.retain(|&earlier| now.saturating_sub(earlier) < window);
    record.restarts.push(at);
    record.restart_at = Some(at);
}

/// Whether the machine is started again although its exit status is unknown: no
/// daemon ran when its VM ended (a power cut), so a machine that should run runs
/// again, regardless of its policy. A stop that was under way is completed.
fn runs_after_host_failure(record: &mut Record) -> bool {
    if record.state == State::Started && record.policy() == Policy::No {
        record.want = Want::Stop;
    }
    record.want == Want::Run
}

/// The exit of the main process as init reported it.
fn exit_event(exit: Exit) -> ExitEvent {
    ExitEvent {
        exit_code: exit.code,
        guest_exit_code: if exit.signal == 0 { exit.code } else { 0 },
        guest_signal: exit.signal,
        oom_killed: exit.oom,
        ..ExitEvent::default()
    }
}
