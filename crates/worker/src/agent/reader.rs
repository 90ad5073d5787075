//! Reads what a guest sends, and passes each message to where it belongs.

use super::greet::Reader;
use super::intake::Intake;
use super::{Agent, Listen, Report, claims, lock};
use crate::logs::{GuestLog, Voice};
use guest_protocol::codec::Decoder;
use guest_protocol::{LogSource, ToGuest, ToHost};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// Reads until the port is closed. While the guest's budget is used up it is not
/// read.
pub(super) async fn run(
    agent: Arc<Agent>,
    mut reader: Reader,
    mut decoder: Decoder,
    early: Vec<ToHost>,
    listen: Listen,
) {
    for message in early {
        agent.handle(message, &listen).await;
    }
    let mut intake = Intake::new(Instant::now());
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToHost| messages.push(message));
        let (count, mut credited) = (messages.len(), 0);
        for message in messages {
            credited += agent.handle(message, &listen).await;
        }
        let pause = intake.charge(read.saturating_sub(credited), count, Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    agent.end("the machine has stopped");
    // The machine's task ends only when the host stops.
    let _ = listen.reports.send(Report::Lost).await;
}

/// Log data that arrives before the welcome belongs to no session, but says what
/// happened while no daemon ran.
pub(super) fn keep_log(message: ToHost, listen: &Listen) {
    match message {
        ToHost::Log { source, offset, data } => drop(listen.store(source, offset, &data)),
        ToHost::LogDropped(bytes) => {
            listen.logs.guest_dropped(&listen.app, &listen.machine, bytes);
        }
        _ => {}
    }
}

impl Listen {
    /// Stores log data. Returns the offset up to which init may forget it, from a
    /// guest that numbers its log.
    fn store(&self, source: LogSource, offset: Option<u64>, data: &[u8]) -> Option<u64> {
        let voice = voice(source);
        let Some(offset) = offset else {
            self.logs.bytes(&self.app, &self.machine, voice, data);
            return None;
        };
        let (app, machine, boot) = (&self.app, &self.machine, self.boot);
        Some(self.logs.append_guest(&GuestLog { app, machine, boot, voice, offset, data }))
    }
}

impl Agent {
    /// Acts on one message. Returns how many of its bytes were under credit.
    async fn handle(&self, message: ToHost, listen: &Listen) -> usize {
        match message {
            ToHost::Running { stages_ms, .. } => {
                let report = Report::Running { stages_ms: claims::stages(stages_ms) };
                self.report(report, listen).await;
            }
            ToHost::Exited(exit) => self.report(Report::Exited(exit), listen).await,
            ToHost::ConfigFailed(why) => {
                self.report(Report::ConfigFailed(claims::text(why)), listen).await;
            }
            ToHost::Listening(listener, began) => {
                claims::record_port(&listen.ports, listener, began);
            }
            ToHost::Log { source, offset, data } => {
                if let Some(stored) = listen.store(source, offset, &data) {
                    // A guest that does not read sends it again in the next session.
                    self.outgoing.try_send(&ToGuest::LogReceived(source, stored));
                }
            }
            ToHost::LogDropped(bytes) => {
                listen.logs.guest_dropped(&listen.app, &listen.machine, bytes);
            }
            ToHost::Processes(number, list) => {
                let waiting = lock(&self.lists).remove(&number);
                if let Some(answer) = waiting {
                    // The caller may have left.
                    let _ = answer.send(claims::processes(list));
                }
            }
            ToHost::ExecOutput(id, stream, data) => {
                let bytes = data.len();
                return if self.execs.output(id, stream, data) { bytes } else { 0 };
            }
            ToHost::ExecCredit(id, bytes) => self.execs.credit(id, bytes),
            ToHost::ExecExited(id, exit) => self.execs.exited(id, exit),
            ToHost::ExecFailed(id, why, _) => self.execs.failed(id, claims::text(why)),
            // An answer to a repeated hello.
            ToHost::Welcome { .. } | ToHost::Quiesced => {}
            ToHost::ApiOpen(id) => self.api.open(id),
            ToHost::ApiData(id, data) => self.api.data(id, data),
            ToHost::ApiEnd(id) => self.api.end(id),
        }
        0
    }

    async fn report(&self, report: Report, listen: &Listen) {
        let reported = match report {
            Report::Running { .. } => &self.reported_running,
            _ => &self.reported_end,
        };
        if !reported.swap(true, Ordering::Relaxed) {
            // The machine's task ends only when the host stops.
            let _ = listen.reports.send(report).await;
        }
    }
}

fn voice(source: LogSource) -> Voice {
    match source {
        LogSource::Stdout => Voice::Stdout,
        LogSource::Stderr => Voice::Stderr,
        LogSource::Init => Voice::Init,
    }
}
