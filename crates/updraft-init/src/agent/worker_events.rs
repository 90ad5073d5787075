//! Handles the events of worker threads.

use super::notifier::WorkerEvent;
use super::oidc_token::OidcToken;
use super::state::{Quiescing, State};
use crate::boot::prepare::{Job, PrepareEvent, Prepared};
use crate::system::listen_events::ListenEvents;
use guest_protocol::{OIDC_TOKEN_FILE, Phase, ToHost};
use std::time::Duration;

/// Interval of scans for listeners where the kernel does not announce them.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

impl State {
    /// Starts the thread that waits for changes of listeners.
    pub(crate) fn watch_listeners(&mut self) {
        let _ = self.notifier.spawn_worker("listen", |notifier| {
            let watched = ListenEvents::enable().and_then(|events| {
                notifier.notify(WorkerEvent::ListenersWatched);
                events.watch(|| {
                    notifier.notify(WorkerEvent::ListenersChanged);
                    true
                })
            });
            if let Err(err) = watched {
                notifier.notify(WorkerEvent::ListenersUnannounced(err));
            }
        });
    }

    /// Handles all events that worker threads have sent.
    pub(crate) fn on_worker_events(&mut self) {
        self.notifier.clear_wakeup();
        while let Ok(event) = self.events.try_recv() {
            match event {
                WorkerEvent::Prepare(PrepareEvent::Log(line)) => self.log(&line),
                WorkerEvent::Prepare(PrepareEvent::Quiesced) => self.quiescing.prepared = true,
                WorkerEvent::Prepare(PrepareEvent::Prepared(Ok(prepared))) => {
                    self.run_main_with_token(prepared);
                }
                WorkerEvent::Prepare(PrepareEvent::Prepared(Err(error))) => self.fail(error),
                WorkerEvent::Processes(number, list) => {
                    self.listing = false;
                    self.outbox.control(ToHost::Processes(number, list));
                }
                WorkerEvent::Stats(number, stats) => {
                    self.reading_stats = false;
                    self.outbox.control(ToHost::Stats(number, stats));
                }
                WorkerEvent::OidcToken(result) => self.on_oidc_token(result),
                WorkerEvent::Probed(probed) => self.units.probed(probed),
                WorkerEvent::ListenersWatched => {
                    self.quiescing.watching = true;
                    self.listeners.on_change();
                }
                WorkerEvent::ListenersChanged => self.listeners.on_change(),
                WorkerEvent::ListenersUnannounced(err) => {
                    self.quiescing.watching = true;
                    self.log(&format!("listeners are polled, not announced: {err}"));
                    self.listeners.scan_every(SCAN_INTERVAL);
                }
            }
        }
        self.report_quiesced();
    }

    fn report_quiesced(&mut self) {
        let Quiescing { requested, prepared, watching } = self.quiescing;
        if requested && prepared && watching {
            self.quiescing.requested = false;
            self.outbox.control(ToHost::Quiesced);
        }
    }

    /// Runs the main process, if it is to have a token after the first attempt to get one.
    fn run_main_with_token(&mut self, prepared: Prepared) {
        let Some(audience) = self.oidc_audience.take() else { return self.run_main(prepared) };
        match OidcToken::keep(&self.notifier, audience) {
            Ok(token) => {
                self.oidc_token = Some(token);
                self.waits_for_token = Some(prepared);
            }
            Err(err) => {
                self.log(&format!("there is no thread to keep {OIDC_TOKEN_FILE}: {err}"));
                self.run_main(prepared);
            }
        }
    }

    /// Without a token the app may still do its other work; the token is asked for again.
    fn on_oidc_token(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) if self.waits_for_token.is_none() => {
                self.log(&format!("{OIDC_TOKEN_FILE} is renewed again"));
            }
            Ok(()) => {}
            Err(err) => self.log(&err),
        }
        if let Some(prepared) = self.waits_for_token.take() {
            self.run_main(prepared);
        }
    }

    fn run_main(&mut self, prepared: Prepared) {
        let Prepared { scratch, mut stages, virtio } = prepared;
        self.scratch = Some(scratch);
        match self.units.begin(self.oom_kills, &mut self.outbox.logs) {
            Ok(pid) => {
                stages.mark("exec");
                self.phase = Phase::Running(pid);
                self.outbox.control(ToHost::Running { pid, stages_ms: stages.stamps() });
                if let Some((signal, timeout)) = self.early_stop.take() {
                    self.units.stop(signal, timeout);
                }
            }
            Err(error) => self.fail(error),
        }
        let _ = self.jobs.send(Job::BindRest(virtio));
    }
}
