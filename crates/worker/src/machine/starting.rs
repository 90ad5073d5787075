//! How a VM comes up: its boot is chosen and recorded, launched, and taken over
//! once it can be spoken to.

use super::launch::{self, Ending, LaunchError, Launched};
use super::snapshot::{self, Note};
use super::step::Asked;
use super::{Done, Now, Task, UpVm};
use crate::agent::Report;
use crate::ports::{Origin, Shape};
use crate::record::Record;
use guest_protocol::Phase;
use model::life::{Event, State};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::machines::MachineEvent;

impl Task {
    /// Chooses the next boot of a machine without a VM, in its record: from a
    /// snapshot if there is one that can be gone on with.
    pub(super) fn choose_boot(&mut self, record: &mut Record) -> (Option<Note>, Vec<MachineEvent>) {
        record.state = record.state.after(Event::Launch).unwrap_or(State::Starting);
        record.boot = Some(self.ids.boot());
        record.exit = None;
        record.restart_at = None;
        record.failure = None;
        // An order of before this boot is none for it.
        record.stop = None;
        match record.snapshot.map(|boot| snapshot::find(&self.host, record, boot)) {
            Some(Ok(note)) => (Some(note), Vec::new()),
            Some(Err(why)) => (None, vec![self.give_memory_up(record, &why)]),
            None => (None, Vec::new()),
        }
    }

    pub(super) async fn begin_launch(&mut self) {
        let note = match std::mem::replace(&mut self.vm, Now::Absent) {
            // Recorded together with the wish.
            Now::Chosen(note) => note,
            _ => {
                let mut record = self.record.clone();
                let (note, events) = self.choose_boot(&mut record);
                self.host.capacity.take(record.id, record.memory_mib());
                self.commit(record, events).await;
                note
            }
        };
        let Some(boot) = self.record.boot else { return };
        self.tries += 1;
        self.timer = None;
        if let Some(note) = note {
            return self.begin_resume(boot, note);
        }
        let cancel = CancellationToken::new();
        let again = self.tries > 1;
        let (host, record) = (self.host.clone(), self.record.clone());
        let launch = launch::launch(host, record, boot, again, cancel.clone());
        self.effects.spawn(async move { Done::Launched(launch.await) });
        self.vm = Now::Launching(cancel);
    }

    pub(super) async fn on_launched(&mut self, launched: Launched) {
        let Launched { agent, welcome, reports, ports, labels, exited, origin, stages } = launched;
        let listening = ports.borrow().clone();
        self.show(|view| {
            view.agent = Some(agent.clone());
            view.listening = listening;
        });
        self.host.metrics.stages(&stages);
        self.host_was_away = false;
        self.timer = Some(Instant::now() + self.host.config.boot_deadline);
        self.want_template(&origin);
        let (running, asked, draining) = (false, Asked::Nothing, false);
        self.vm =
            Now::Up(Box::new(UpVm { agent, reports, ports, exited, running, asked, draining }));
        (self.stages, self.labels, self.origin) = (stages, labels, origin);
        // What an adopted guest has come to while nobody listened decides what is
        // to be done with it. One that awaits orders has been sent them.
        match welcome.phase {
            Phase::Running(_) => self.on_report(Report::Running { stages_ms: Vec::new() }).await,
            Phase::Exited(exit) => {
                // Its orders may have come before the greeting: then it ran and has
                // ended in the meantime, and both are told.
                if self.record.state == State::Starting && self.origin != Origin::Found {
                    self.on_report(Report::Running { stages_ms: Vec::new() }).await;
                }
                self.on_report(Report::Exited(exit)).await;
            }
            Phase::Failed(why) => self.on_report(Report::ConfigFailed(why)).await,
            Phase::AwaitingConfig | Phase::Preparing => {}
        }
    }

    /// The next machine of this shape is to begin from a template, if it can.
    fn want_template(&self, origin: &Origin) {
        let record = &self.record;
        let shape = Shape { vcpus: record.vcpus(), memory_mib: record.memory_mib() };
        let can = launch::kernel_args(record).is_empty();
        if can && matches!(origin, Origin::Cold(_)) && !self.host.hypervisor.has_template(shape) {
            self.host.templates.want(shape);
        }
    }

    pub(super) fn on_launch_failed(&mut self, err: LaunchError) {
        let cancelled = matches!(&self.vm, Now::Launching(cancel) if cancel.is_cancelled());
        match err {
            // Whatever went wrong, nobody wants this launch any more.
            _ if cancelled => {}
            LaunchError::Cancelled => {}
            // It was not booted but taken over, or let go on: it counts as lost.
            LaunchError::Transient(why) | LaunchError::Final(why) if self.tries == 0 => {
                tracing::warn!(machine = %self.record.id, error = why, "cannot go on with a VM");
                self.host.say(&self.record, &format!("The VM cannot be gone on with: {why}"));
            }
            LaunchError::Transient(why) if !self.is_last_try() => {
                self.host.metrics.boot_retries.inc();
                tracing::warn!(machine = %self.record.id, error = why, "boot failed, trying again");
                self.host.say(&self.record, &format!("Boot failed, trying again: {why}"));
            }
            LaunchError::Transient(why) | LaunchError::Final(why) => self.failure = Some(why),
        }
        self.vm = Now::Remains(Ending::unknown());
    }
}
